//! From settings to a token that is logged in: read the PIN, keep the record of attempts, call
//! C_Login at most once.

use std::path::PathBuf;
use std::sync::Arc;

use countersign_base::messages::confinement::Limits;
use countersign_base::messages::settings::{PinSource, TokenSettings};
use countersign_base::messages::token_host::HostError;
use countersign_base::system::confine::{self, Calls};
use countersign_base::system::sys;
use countersign_base::system::terminal::Terminal;
use pkcs11_profiles::Profile;

use crate::token::attempt::{Login, attempt, blocked, check};
use crate::token::pin::{OpenSource, Pin, PinError};
use crate::token::pin_attempts::{PinFlags, SourceIdentity, TryRecord};
use crate::token::pkcs11::Token;
use crate::token::{kept_pin, untouched as code};
use crate::vault::unseal;

/// Who has the PIN where it is kept from an earlier touch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Keeper {
    None,
    OnStandardOutput,
}

/// Reads the PIN, loads the module, logs in, and gives up what it took to get there: what follows
/// is confined.
///
/// The environment is replaced and the module loaded only after the PIN was read: asking for it may
/// start pinentry, and after C_Initialize nothing may fork. The record is locked from before the
/// search until after C_Login, so that two of our processes do not log in to one token at the same
/// moment.
pub fn log_in(
    settings: &TokenSettings,
    front_writes: &[PathBuf],
    operator: Option<&Terminal<'_>>,
    keeper: Keeper,
) -> Result<Login, HostError> {
    let profile = settings.checked_profile()?;
    code::check_untouched(settings, &profile, front_writes)?;
    let source = Source::open(settings)?;
    let record = || TryRecord::open(&settings.state_dir, &settings.name).map_err(blocked);
    // Not held while a person is asked: the others do not wait for one.
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
    let token = Token::find(settings, profile)?;
    let keeper = token.open_session().map_err(HostError::from)?;
    attempt(&token, &keeper, settings, &mut record, (&pin.source, &pin.bytes), true)?;
    let limits = confined(settings, token.profile())?;
    Ok(Login { token: Arc::new(token), keeper, limits })
}

fn confined(settings: &TokenSettings, profile: &Profile) -> Result<Limits, HostError> {
    let files = confine::token_files(profile, settings);
    confine::enter(settings.confinement, Some(&files), Calls::Host(profile.reach)).map_err(
        |error| {
            let cause = std::error::Error::source(&error)
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            HostError::Refused(format!("{error}{cause}"))
        },
    )
}

/// Where the PIN comes from.
enum Source {
    Plain(OpenSource),
    /// A touch opens it.
    Sealed(SourceIdentity),
}

impl Source {
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
        keeper: Keeper,
    ) -> Result<Pin, HostError> {
        match (self, keeper) {
            (source, Keeper::OnStandardOutput) => {
                let source = source.identity();
                Ok(Pin { bytes: kept_pin::fetch(settings, &source)?, source })
            }
            (Self::Sealed(source), Keeper::None) => {
                Ok(Pin { bytes: unseal::unsealed_pin(settings, operator)?, source })
            }
            (Self::Plain(source), Keeper::None) => {
                source.read(&settings.name, operator).map_err(unavailable)
            }
        }
    }
}

fn unavailable(error: PinError) -> HostError {
    HostError::PinUnavailable(error.to_string())
}
