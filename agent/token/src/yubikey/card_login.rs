//! Finds a YubiKey by its settings, and checks its PIN.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use countersign_base::messages::confinement::ConfinementReport;
use countersign_base::messages::settings::TokenSettings;
use countersign_base::messages::token_host::HostError;
use countersign_base::system::confine::{self, Calls};
use countersign_base::system::sys;
use countersign_base::system::terminal::Terminal;
use pkcs11_profiles::Profile;

use super::card_pin::{self, CardPin};
use super::records::YubiKeyRecords;
use super::{YubiKey, YubiKeyFacts, records};
use crate::token::pin::{OpenSource, PinError};
use crate::token::pin_attempts;

/// A YubiKey whose PIN is known to be right.
pub(crate) struct CardLogin {
    pub(crate) yubikey: YubiKey,
    pub(crate) facts: YubiKeyFacts,
    pub(crate) pin: Arc<CardPin>,
    pub(crate) records: YubiKeyRecords,
    pub(crate) limits: ConfinementReport,
}

/// Finds the YubiKey, reads its PIN and verifies it at most once. After that the process is
/// confined.
///
/// The record of attempts is checked first. Then the YubiKey is looked for, and only then is a
/// person asked for the PIN.
pub(crate) fn log_in(
    settings: &TokenSettings,
    operator: Option<&Terminal<'_>>,
) -> Result<CardLogin, HostError> {
    let profile = settings.checked_profile()?;
    let unavailable = |error: PinError| HostError::PinUnavailable(error.to_string());
    let serial = settings.yubikey_serial()?;
    let source = OpenSource::open(settings).map_err(unavailable)?;
    card_pin::may_be_tried(&settings.state_dir, &settings.name, &source.identity())?;
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

/// Waits until the threads of finished operations are gone, because a thread that still runs would
/// keep the rights that this process is about to give up. A thread that waits for another program
/// may stay; the code that sets the limits reports it.
pub(crate) fn alone() {
    const LONGEST_WAIT_FOR_THREADS: Duration = Duration::from_secs(1);
    const THREAD_CHECK_INTERVAL: Duration = Duration::from_millis(1);
    let begun = Instant::now();
    let threads = || std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    while threads() > 1 && begun.elapsed() < LONGEST_WAIT_FOR_THREADS {
        thread::sleep(THREAD_CHECK_INTERVAL);
    }
}

fn confined(settings: &TokenSettings, profile: &Profile) -> Result<ConfinementReport, HostError> {
    let mut files = confine::token_files(profile, settings);
    files.write.push(pin_attempts::directory(&settings.state_dir));
    files.write.push(records::directory(settings));
    confine::enter(settings.confinement, Some(&files), Calls::Host(profile.reach))
        .map_err(|error| HostError::with_cause(&error))
}
