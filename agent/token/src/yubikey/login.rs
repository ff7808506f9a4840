//! From settings to a YubiKey whose PIN is right.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use countersign_base::messages::confinement::Limits;
use countersign_base::messages::settings::TokenSettings;
use countersign_base::messages::token_host::HostError;
use countersign_base::system::confine::{self, Calls};
use countersign_base::system::sys;
use countersign_base::system::terminal::Terminal;
use pkcs11_profiles::Profile;

use super::pin::{self, CardPin};
use super::records::YubiKeyRecords;
use super::{Facts, YubiKey, records as yubikey_keys};
use crate::token::pin::{OpenSource, PinError};
use crate::token::pin_attempts as pin_try;

/// A YubiKey whose PIN is known to be right.
pub(crate) struct CardLogin {
    pub(crate) yubikey: YubiKey,
    pub(crate) facts: Facts,
    pub(crate) pin: Arc<CardPin>,
    pub(crate) records: YubiKeyRecords,
    pub(crate) limits: Limits,
}

/// Finds the YubiKey, reads its PIN, verifies it at most once, and gives up what it took to get
/// there.
///
/// The YubiKey is looked for before anybody is asked for a PIN, and the record of attempts is
/// looked at before that.
pub(crate) fn log_in(
    settings: &TokenSettings,
    operator: Option<&Terminal<'_>>,
) -> Result<CardLogin, HostError> {
    let profile = settings.checked_profile()?;
    let unavailable = |error: PinError| HostError::PinUnavailable(error.to_string());
    let serial = settings.yubikey_serial()?;
    let source = OpenSource::open(settings).map_err(unavailable)?;
    pin::may_be_tried(&settings.state_dir, &settings.name, &source.identity())?;
    let yubikey = YubiKey::new(serial);
    let facts = yubikey.facts()?;
    let pin = source.read(&settings.name, operator).map_err(unavailable)?;
    if !(profile.pin.min_length..=profile.pin.max_length).contains(&pin.bytes.as_bytes().len()) {
        return Err(HostError::PinUnavailable(format!(
            "{} takes {}",
            profile.title, profile.pin.form
        )));
    }
    alone();
    sys::replace_environment(&settings.environment)
        .map_err(|error| HostError::Module(error.to_string()))?;
    let pin = Arc::new(CardPin::new(pin, &settings.state_dir, &settings.name));
    yubikey.check_pin(&pin)?;
    let records = YubiKeyRecords::open(settings, serial)?;
    alone();
    let limits = confined(settings, &profile)?;
    Ok(CardLogin { yubikey, facts, pin, records, limits })
}

/// Waits until the threads of finished operations are gone: one that runs keeps what this process
/// is about to give up. One that waits for another program may stay, and is then found where it
/// matters.
pub(crate) fn alone() {
    const LONGEST: Duration = Duration::from_secs(1);
    const LOOK_AGAIN: Duration = Duration::from_millis(1);
    let begun = Instant::now();
    let threads = || std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    while threads() > 1 && begun.elapsed() < LONGEST {
        thread::sleep(LOOK_AGAIN);
    }
}

fn confined(settings: &TokenSettings, profile: &Profile) -> Result<Limits, HostError> {
    let mut files = confine::token_files(profile, settings);
    files.write.push(pin_try::directory(&settings.state_dir));
    files.write.push(yubikey_keys::directory(settings));
    confine::enter(settings.confinement, Some(&files), Calls::Host(profile.reach)).map_err(
        |error| {
            let cause = std::error::Error::source(&error)
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            HostError::Refused(format!("{error}{cause}"))
        },
    )
}
