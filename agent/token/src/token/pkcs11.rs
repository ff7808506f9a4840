//! Opens a PKCS#11 module, and finds the one token in it that the configuration names.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use countersign_base::messages::settings::TokenSettings;
use countersign_base::messages::token_host::{HostError, TokenFacts};
use countersign_base::trusted_path::{self, Exposure};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::MechanismType;
use cryptoki::session::Session;
use cryptoki::slot::{Slot, TokenInfo};
use pkcs11_profiles::{Profile, Sessions};

use super::fault::Fault;
use super::pin_attempts::PinFlags;
use super::pkcs11_calls::Pkcs11Calls;

/// Most searches for the token. SoftHSM rewrites a token's file at C_Login, and a process that
/// starts at that moment does not see the token.
const SEARCHES: u32 = 20;
const BETWEEN_SEARCHES: Duration = Duration::from_millis(50);

/// A token that was found. Each thread opens a session of its own on it.
#[derive(Debug)]
pub struct Pkcs11Token {
    context: Pkcs11,
    calls: Pkcs11Calls,
    slot: Slot,
    mechanisms: Vec<MechanismType>,
    profile: Profile,
    facts: TokenFacts,
}

impl Pkcs11Token {
    /// Loads the module and finds the token. After this the process must not fork any more.
    pub fn find(settings: &TokenSettings, profile: Profile) -> Result<Self, HostError> {
        let path = module_path(settings, &profile)?;
        let context = load(&path)?;
        let calls =
            Pkcs11Calls::of_module(&path).map_err(|error| HostError::Module(error.to_string()))?;
        let (slot, info) = search(&context, settings)?;
        let facts = TokenFacts {
            label: info.label().to_owned(),
            manufacturer: info.manufacturer_id().to_owned(),
            model: info.model().to_owned(),
            serial: info.serial_number().to_owned(),
        };
        let mechanisms = context.get_mechanism_list(slot).map_err(Fault::from)?;
        Ok(Self { context, calls, slot, mechanisms, profile, facts })
    }

    /// A session for one thread, of the kind that the module needs for signing.
    pub fn open_session(&self) -> Result<Session, Fault> {
        let session = match self.profile.sessions {
            Sessions::ReadOnly => self.context.open_ro_session(self.slot),
            Sessions::ReadWrite => self.context.open_rw_session(self.slot),
        };
        Ok(session?)
    }

    /// A session that can make and destroy objects on the token.
    pub fn open_writing_session(&self) -> Result<Session, Fault> {
        Ok(self.context.open_rw_session(self.slot)?)
    }

    /// The token's report about wrong PINs so far.
    pub fn pin_flags(&self) -> Result<PinFlags, Fault> {
        let info = self.info()?;
        Ok(PinFlags {
            count_low: info.user_pin_count_low(),
            final_try: info.user_pin_final_try(),
            locked: info.user_pin_locked(),
            exact: false,
        })
    }

    /// Asks the token for its description. Fails if the token is gone.
    pub fn info(&self) -> Result<TokenInfo, Fault> {
        Ok(self.context.get_token_info(self.slot)?)
    }

    pub fn calls(&self) -> &Pkcs11Calls {
        &self.calls
    }

    pub fn facts(&self) -> &TokenFacts {
        &self.facts
    }

    pub fn mechanisms(&self) -> &[MechanismType] {
        &self.mechanisms
    }

    pub fn profile(&self) -> &Profile {
        &self.profile
    }
}

/// The configured path, or the first of the profile's paths that exists.
fn module_path(settings: &TokenSettings, profile: &Profile) -> Result<PathBuf, HostError> {
    let candidates = match &settings.module {
        Some(path) => std::slice::from_ref(path),
        None => profile.library_paths(),
    };
    let Some(path) = candidates.iter().find(|path| path.exists()) else {
        let tried: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
        return Err(HostError::Module(format!(
            "none of these files is there: {}",
            tried.join(", ")
        )));
    };
    trusted_path::open(path, Exposure::Public)
        .map_err(|error| HostError::Module(error.to_string()))?;
    path.canonicalize().map_err(|error| HostError::Module(format!("{}: {error}", path.display())))
}

fn load(path: &Path) -> Result<Pkcs11, HostError> {
    let context = Pkcs11::new(path)
        .map_err(|error| HostError::Module(format!("{}: {error}", path.display())))?;
    // This is not an error of the module: SoftHSM fails here while its token directory is away.
    initialize(&context).map_err(Fault::from)?;
    Ok(context)
}

fn initialize(context: &Pkcs11) -> Result<(), Error> {
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        other => other,
    }
}

/// Looks for the token at most [`SEARCHES`] times. This is the only call that is repeated, and only
/// when the process starts.
fn search(context: &Pkcs11, settings: &TokenSettings) -> Result<(Slot, TokenInfo), HostError> {
    for _ in 1..SEARCHES {
        match search_once(context, settings) {
            Err(HostError::TokenAbsent(_) | HostError::Token(_)) => {}
            other => return other,
        }
        thread::sleep(BETWEEN_SEARCHES);
        // A module lists only the tokens that it saw when it was initialised.
        context.clone().finalize().map_err(Fault::from)?;
        initialize(context).map_err(Fault::from)?;
    }
    search_once(context, settings)
}

fn search_once(context: &Pkcs11, settings: &TokenSettings) -> Result<(Slot, TokenInfo), HostError> {
    let mut found = None;
    for slot in context.get_slots_with_token().map_err(Fault::from)? {
        // A slot that cannot describe its token is left out: it may hold another token. If it holds
        // ours, ours is reported as absent.
        let Ok(info) = context.get_token_info(slot) else { continue };
        if !info.token_initialized() || !matches(&info, settings) {
            continue;
        }
        if found.replace((slot, info)).is_some() {
            return Err(HostError::Refused(format!(
                "two tokens match {}: name one by its serial",
                wanted(settings)
            )));
        }
    }
    found.ok_or_else(|| HostError::TokenAbsent(wanted(settings)))
}

fn matches(info: &TokenInfo, settings: &TokenSettings) -> bool {
    settings.label.as_deref().is_none_or(|label| label == info.label())
        && settings.serial.as_deref().is_none_or(|serial| serial == info.serial_number())
}

fn wanted(settings: &TokenSettings) -> String {
    match (&settings.label, &settings.serial) {
        (None, None) => "any token".to_owned(),
        (Some(label), None) => format!("label {label}"),
        (None, Some(serial)) => format!("serial {serial}"),
        (Some(label), Some(serial)) => format!("label {label} and serial {serial}"),
    }
}
