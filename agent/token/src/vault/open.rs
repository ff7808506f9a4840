//! Opens a sealed vault with a touch, and closes it again so that nobody can open it without
//! another touch.
//!
//! [`PreparedVault`] → touch → [`Unsealed`] → C_Login → work → [`VaultClosing::finish`]. The
//! process may die after any step: the files on the disk can still be opened with a touch
//! (`docs/vault.md` has the list).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use countersign_base::messages::confinement::ConfinementReport;
use countersign_base::messages::settings::TokenSettings;
use countersign_base::messages::token_host::HostError;
use countersign_base::messages::yubikey::Slot;
use countersign_base::system::confine::{self, Calls};
use countersign_base::system::sys::{self, LockedMemory};
use countersign_base::system::terminal::Terminal;
use pkcs11_profiles::{PinRotation, Profile};

use super::directory::{SealedFile, VaultDirectory};
use super::sealed::{SealedContents, SpentMark, Terms, random_pin};
use super::token_copy::TokenCopy;
use super::unseal::{Card, choose_card, unread, yubikey_gone};
use crate::token::attempt::{TokenLogin, attempt, blocked};
use crate::token::pin_attempts::PinAttempts;
use crate::token::pkcs11::Pkcs11Token;
use crate::token::untouched;
use crate::yubikey::OnBlink;

/// A vault whose YubiKey and token were found. Nobody was asked for a touch yet.
#[derive(Debug)]
pub struct PreparedVault {
    settings: TokenSettings,
    directory: VaultDirectory,
    found: SealedFile,
    copy: TokenCopy,
    /// Held until the end, so that only one process at a time opens a vault.
    record: PinAttempts,
    token: Pkcs11Token,
    card: Card,
}

/// A vault that a touch has opened.
#[derive(Debug)]
pub struct Unsealed {
    prepared: PreparedVault,
    pub contents: SealedContents,
}

/// A vault that must be closed once the token was logged out.
#[derive(Debug)]
pub struct VaultClosing {
    directory: VaultDirectory,
    copy: TokenCopy,
    token: Arc<Pkcs11Token>,
    pin: LockedMemory,
    terms: Terms,
    /// Dropped last.
    _record: PinAttempts,
}

impl PreparedVault {
    /// Checks everything first, so that nobody touches the YubiKey in vain. `settings.pin` must be
    /// sealed.
    ///
    /// Replaces the environment and loads the module, so this process must not fork any more.
    /// `in_force` is the hash of the configuration that was read. If it is given, the vault must be
    /// sealed for it, and that is checked before anything is loaded.
    pub fn new(
        settings: &TokenSettings,
        front_writes: &[PathBuf],
        operator: Option<&Terminal<'_>>,
        in_force: Option<&str>,
    ) -> Result<Self, HostError> {
        let profile = settings.checked_profile()?;
        untouched::check_untouched(settings, &profile, front_writes)?;
        let directory = VaultDirectory::of(&settings.state_dir, &settings.name);
        let record = PinAttempts::open(&settings.state_dir, &settings.name).map_err(blocked)?;
        let found = directory.read().map_err(unread)?;
        if in_force.is_some_and(|sha256| sha256 != found.sealed.terms.policy_sha256) {
            let name = &settings.name;
            let reason = format!(
                "agent.toml is not the one for which the vault was sealed: countersign vault \
                 reseal {name} takes it on, with an approval and a touch"
            );
            return Err(HostError::Refused(reason));
        }
        let serial = &found.sealed.terms.token_serial;
        let copy = TokenCopy::restore(&directory, settings, &profile, serial);
        let copy = copy.map_err(|error| {
            HostError::refused("the token's copy could not be put back", &error)
        })?;
        let card = choose_card(settings, &found.sealed.terms.recipients, operator)?;
        yubikey_gone(); // the threads of the calls so far
        sys::replace_environment(&settings.environment)
            .map_err(|error| HostError::Module(error.to_string()))?;
        let settings = TokenSettings { serial: Some(serial.clone()), ..settings.clone() };
        let token = Pkcs11Token::find(&settings, profile)?;
        Ok(Self { settings, directory, found, copy, record, token, card })
    }

    pub fn terms(&self) -> &Terms {
        &self.found.sealed.terms
    }

    pub fn directory(&self) -> &VaultDirectory {
        &self.directory
    }

    /// The YubiKey's name.
    pub fn card(&self) -> &str {
        &self.card.name
    }

    /// Waits for the touch, in the one key agreement that opens the vault.
    pub fn touch(self, on_blink: OnBlink) -> Result<Unsealed, HostError> {
        let (sealed, serial) = (&self.found.sealed, self.card.yubikey.serial());
        let opened = |error| HostError::Refused(format!("the vault did not open: {error}"));
        let point = sealed.point_for(serial).map_err(opened)?;
        let agreed =
            self.card.yubikey.agree(Slot::KEY_MANAGEMENT, point, &self.card.pin, on_blink)?;
        let contents = sealed.open(serial, &agreed).map_err(opened)?;
        Ok(Unsealed { prepared: self, contents })
    }
}

impl Unsealed {
    /// Makes one C_Login. Only if the last process ended while it changed the PIN, there may be
    /// two: with the new PIN, then with the old one.
    ///
    /// Confines the process: from here on it can reach only the files of the token and of the
    /// vault.
    pub fn log_in(self) -> Result<(TokenLogin, VaultClosing), HostError> {
        let Self {
            prepared: PreparedVault { settings, directory, found, copy, mut record, token, card },
            contents,
        } = self;
        drop(card);
        yubikey_gone();
        copy.make()
            .map_err(|error| HostError::refused("the token's files could not be copied", &error))?;
        let SealedContents { terms, pin, previous, .. } = contents;
        let keeper = token.open_session().map_err(HostError::from)?;
        let candidates =
            [Some((pin, false)), previous.filter(|_| found.is_next).map(|pin| (pin, true))];
        let mut candidates: Vec<_> = candidates.into_iter().flatten().collect();
        candidates.reverse();
        let mut right = None;
        while let Some((pin, is_previous)) = candidates.pop() {
            let source = directory.identity(found.is_next, is_previous);
            let source = source.map_err(|error| HostError::refused("the sealed file", &error))?;
            let last = candidates.is_empty();
            if attempt(&token, &keeper, &settings, &mut record, (&source, &pin), last)? {
                right = Some((pin, is_previous));
                break;
            }
        }
        let (pin, was_previous) = right.ok_or_else(|| {
            HostError::PinRefused("neither of the vault's PINs is the token's".to_owned())
        })?;
        if found.is_next && !was_previous {
            directory.promote().map_err(|error| HostError::refused("the sealed file", &error))?;
        }
        let limits = confined(&settings, token.profile(), &directory)?;
        let token = Arc::new(token);
        let closing = VaultClosing {
            directory,
            copy,
            token: Arc::clone(&token),
            pin,
            terms,
            _record: record,
        };
        Ok((TokenLogin { token, keeper, limits }, closing))
    }
}

impl VaultClosing {
    /// True if [`Self::finish`] changes the PIN.
    pub fn rotates(profile: &Profile) -> bool {
        profile.pin_rotation == PinRotation::Setpin
    }

    /// Seals the vault anew: with another PIN if the token allows that, and for the `other` terms
    /// if there are any. Call this when the token is logged out.
    pub fn finish(self, other: Option<Terms>, spent: SpentMark) -> Result<(), HostError> {
        let Self { directory, copy, token, pin, terms, .. } = self;
        let terms = other.unwrap_or(terms);
        let contents = SealedContents { terms, pin, previous: None, spent };
        seal(&directory, &token, contents, || copy.discard(), "the vault could not be sealed anew")
    }
}

/// Seals contents whose PIN is the token's, and changes the PIN if the token allows that.
/// `once_set` runs before the new file becomes the only one. The text of a sealing error begins
/// with `failed`.
pub fn seal(
    directory: &VaultDirectory,
    token: &Pkcs11Token,
    mut contents: SealedContents,
    once_set: impl FnOnce() -> io::Result<()>,
    failed: &str,
) -> Result<(), HostError> {
    let failed = |error: &dyn std::fmt::Display| HostError::refused(failed, error);
    if VaultClosing::rotates(token.profile()) {
        let next = random_pin(token.profile().pin.max_length).map_err(|error| failed(&error))?;
        contents.previous = Some(std::mem::replace(&mut contents.pin, next));
    }
    directory
        .write_next(&contents.seal().map_err(|error| failed(&error))?)
        .map_err(|error| failed(&error))?;
    if let Some(previous) = &contents.previous {
        let session = token.open_writing_session().map_err(HostError::from)?;
        let set = token.calls().set_pin(&session, previous, &contents.pin);
        set.map_err(|code| crate::token::fault::Fault::of_code(code, "C_SetPIN").error)?;
    }
    once_set().and_then(|()| directory.promote()).map_err(|error| failed(&error))
}

fn confined(
    settings: &TokenSettings,
    profile: &Profile,
    directory: &VaultDirectory,
) -> Result<ConfinementReport, HostError> {
    let mut files = confine::token_files(profile, settings);
    files.write.push(directory.path().to_owned());
    files.write.push(crate::token::pin_attempts::directory(&settings.state_dir));
    confine::enter(settings.confinement, Some(&files), Calls::Host(profile.reach))
        .map_err(|error| HostError::refused("it could not be confined", &error))
}
