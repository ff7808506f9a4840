//! Logs in to a token: reads the PIN, keeps the record of attempts, and calls C_Login at most once.

use std::path::PathBuf;
use std::sync::Arc;

use countersign_base::messages::confinement::ConfinementReport;
use countersign_base::messages::settings::{PinSource, TokenSettings};
use countersign_base::messages::token_host::HostError;
use countersign_base::system::confine::{self, Calls};
use countersign_base::system::sys;
use countersign_base::system::terminal::Terminal;
use pkcs11_profiles::Profile;

use crate::token::attempt::{TokenLogin, attempt, blocked, check};
use crate::token::pin::{OpenSource, Pin, PinError};
use crate::token::pin_attempts::{PinAttempts, PinFlags, SourceIdentity};
use crate::token::pkcs11::Pkcs11Token;
use crate::token::{kept_pin, untouched};
use crate::vault::unseal;

/// Says if a keeper has the PIN from an earlier touch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PinKeeper {
    None,
    OnStandardOutput,
}

/// Reads the PIN, loads the module and logs in. After that the process is confined.
///
/// The environment is replaced and the module is loaded only after the PIN was read: asking for the
/// PIN may start pinentry, and after C_Initialize the process must not fork. The record of PIN
/// attempts is locked before the search for the token and until after C_Login, so that two of our
/// processes do not log in to one token at the same moment.
pub fn log_in(
    settings: &TokenSettings,
    front_writes: &[PathBuf],
    operator: Option<&Terminal<'_>>,
    keeper: PinKeeper,
) -> Result<TokenLogin, HostError> {
    let profile = settings.checked_profile()?;
    untouched::check_untouched(settings, &profile, front_writes)?;
    let source = LoginPin::open(settings)?;
    let record = || PinAttempts::open(&settings.state_dir, &settings.name).map_err(blocked);
    // The record is not held while a person is asked, so that other processes do not wait for the
    // person.
    check(&record()?, settings, &source.identity(), PinFlags::default())?;
    let pin = source.read(settings, operator, keeper)?;
    if !(profile.pin.min_length..=profile.pin.max_length).contains(&pin.bytes.as_bytes().len()) {
        return Err(HostError::PinUnavailable(format!(
            "{} takes {}",
            profile.title, profile.pin.form
        )));
    }
    let mut record = record()?;
    sys::replace_environment(&settings.environment)
        .map_err(|error| HostError::Module(error.to_string()))?;
    let token = Pkcs11Token::find(settings, profile)?;
    let keeper = token.open_session().map_err(HostError::from)?;
    attempt(&token, &keeper, settings, &mut record, (&pin.source, &pin.bytes), true)?;
    let limits = confined(settings, token.profile())?;
    Ok(TokenLogin { token: Arc::new(token), keeper, limits })
}

fn confined(settings: &TokenSettings, profile: &Profile) -> Result<ConfinementReport, HostError> {
    let files = confine::token_files(profile, settings);
    confine::enter(settings.confinement, Some(&files), Calls::Host(profile.reach))
        .map_err(|error| HostError::with_cause(&error))
}

/// The source of the PIN.
enum LoginPin {
    Plain(OpenSource),
    /// A touch opens it.
    Sealed(SourceIdentity),
}

impl LoginPin {
    fn open(settings: &TokenSettings) -> Result<Self, HostError> {
        match &settings.pin {
            PinSource::Sealed(sealed) if sealed.reopen.is_some() => {
                unseal::identity(settings).map(Self::Sealed)
            }
            _ => OpenSource::open(settings).map(Self::Plain).map_err(unavailable),
        }
    }

    fn identity(&self) -> SourceIdentity {
        match self {
            Self::Plain(source) => source.identity(),
            Self::Sealed(source) => source.clone(),
        }
    }

    fn read(
        self,
        settings: &TokenSettings,
        operator: Option<&Terminal<'_>>,
        keeper: PinKeeper,
    ) -> Result<Pin, HostError> {
        match (self, keeper) {
            (source, PinKeeper::OnStandardOutput) => {
                let source = source.identity();
                Ok(Pin { bytes: kept_pin::fetch(settings, &source)?, source })
            }
            (Self::Sealed(source), PinKeeper::None) => {
                Ok(Pin { bytes: unseal::unsealed_pin(settings, operator)?, source })
            }
            (Self::Plain(source), PinKeeper::None) => {
                source.read(&settings.name, operator).map_err(unavailable)
            }
        }
    }
}

fn unavailable(error: PinError) -> HostError {
    HostError::PinUnavailable(error.to_string())
}
