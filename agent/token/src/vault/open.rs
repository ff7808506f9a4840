//! From a sealed vault to a token that is logged in, and back to one that nobody can open without
//! another touch.
//!
//! [`Prepared`] → touch → [`Unsealed`] → C_Login → work → [`Closing::finish`]. Each step can be the last one: what lies on the
//! disk then opens with a touch (`docs/vault.md` has the list).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use countersign_base::messages::confinement::Limits;
use countersign_base::messages::settings::TokenSettings;
use countersign_base::messages::token_host::HostError;
use countersign_base::messages::yubikey::Slot;
use countersign_base::system::confine::{self, Calls};
use countersign_base::system::sys::{self, LockedMemory};
use countersign_base::system::terminal::Terminal;
use pkcs11_profiles::{PinRotation, Profile};

use super::place::{Found, Place};
use super::sealed::{Contents, Mark, Terms, random_pin};
use super::token_copy::TokenCopy;
use super::unseal::{Card, choose_card, unread, yubikey_gone};
use crate::token::attempt::{Login, attempt, blocked};
use crate::token::pin_attempts::TryRecord;
use crate::token::pkcs11::Token;
use crate::token::untouched as code;
use crate::yubikey::OnBlink;

/// A vault whose YubiKey and token were found; nothing was touched yet.
#[derive(Debug)]
pub struct Prepared {
    settings: TokenSettings,
    place: Place,
    found: Found,
    copy: TokenCopy,
    /// Held until the end: one process at a time opens a vault.
    record: TryRecord,
    token: Token,
    card: Card,
}

/// A vault that was touched for.
#[derive(Debug)]
pub struct Unsealed {
    prepared: Prepared,
    pub contents: Contents,
}

/// What is left to do once the token was logged out.
#[derive(Debug)]
pub struct Closing {
    place: Place,
    copy: TokenCopy,
    token: Arc<Token>,
    pin: LockedMemory,
    terms: Terms,
    /// Dropped last.
    _record: TryRecord,
}

impl Prepared {
    /// Finds everything that a touch would be wasted without. `settings.pin` has to be a sealed
    /// one.
    ///
    /// Replaces the environment and loads the module: this process must not fork any more.
    /// `in_force` is the hash of the configuration that all this was read from, where the vault has
    /// to be sealed for it: nothing is loaded before that is known.
    pub fn new(
        settings: &TokenSettings,
        front_writes: &[PathBuf],
        operator: Option<&Terminal<'_>>,
        in_force: Option<&str>,
    ) -> Result<Self, HostError> {
        let profile = settings.checked_profile()?;
        code::check_untouched(settings, &profile, front_writes)?;
        let place = Place::of(&settings.state_dir, &settings.name);
        let record = TryRecord::open(&settings.state_dir, &settings.name).map_err(blocked)?;
        let found = place.read().map_err(unread)?;
        if in_force.is_some_and(|sha256| sha256 != found.sealed.terms.policy_sha256) {
            let name = &settings.name;
            let reason = format!(
                "agent.toml is another one than the vault was sealed for: countersign vault reseal \
                 {name} takes it on, with \
                 an approval and a touch"
            );
            return Err(HostError::Refused(reason));
        }
        let serial = &found.sealed.terms.token_serial;
        let copy = TokenCopy::restore(&place, settings, &profile, serial);
        let copy = copy.map_err(|error| {
            HostError::refused("the token's copy could not be put back", &error)
        })?;
        let card = choose_card(settings, &found.sealed.terms.recipients, operator)?;
        yubikey_gone(); // what was asked of it so far
        sys::replace_environment(&settings.environment)
            .map_err(|error| HostError::Module(error.to_string()))?;
        let settings = TokenSettings { serial: Some(serial.clone()), ..settings.clone() };
        let token = Token::find(&settings, profile)?;
        Ok(Self { settings, place, found, copy, record, token, card })
    }

    pub fn terms(&self) -> &Terms {
        &self.found.sealed.terms
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The YubiKey's name.
    pub fn card(&self) -> &str {
        &self.card.name
    }

    /// Waits for the finger, in the one agreement that opens the vault.
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
    /// One C_Login; a second one only where the PIN was being changed when the last process ended:
    /// the new PIN, then the old one, and no more.
    ///
    /// Confines the process: from here on it has the token's files and the vault's.
    pub fn log_in(self) -> Result<(Login, Closing), HostError> {
        let Self {
            prepared: Prepared { settings, place, found, copy, mut record, token, card },
            contents,
        } = self;
        drop(card);
        yubikey_gone();
        copy.make()
            .map_err(|error| HostError::refused("the token's files could not be copied", &error))?;
        let Contents { terms, pin, previous, .. } = contents;
        let keeper = token.open_session().map_err(HostError::from)?;
        let candidates =
            [Some((pin, false)), previous.filter(|_| found.is_next).map(|pin| (pin, true))];
        let mut candidates: Vec<_> = candidates.into_iter().flatten().collect();
        candidates.reverse();
        let mut right = None;
        while let Some((pin, is_previous)) = candidates.pop() {
            let source = place.identity(found.is_next, is_previous);
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
            place.promote().map_err(|error| HostError::refused("the sealed file", &error))?;
        }
        let limits = confined(&settings, token.profile(), &place)?;
        let token = Arc::new(token);
        let closing =
            Closing { place, copy, token: Arc::clone(&token), pin, terms, _record: record };
        Ok((Login { token, keeper, limits }, closing))
    }
}

impl Closing {
    /// Whether the PIN is another one after [`Self::finish`].
    pub fn rotates(profile: &Profile) -> bool {
        profile.pin_rotation == PinRotation::Setpin
    }

    /// Seals anew: with another PIN where the token can have one set, and for `other` terms where
    /// there are such. To be called when the token is logged out.
    pub fn finish(self, other: Option<Terms>, spent: Mark) -> Result<(), HostError> {
        let Self { place, copy, token, pin, terms, .. } = self;
        let terms = other.unwrap_or(terms);
        let contents = Contents { terms, pin, previous: None, spent };
        seal(&place, &token, contents, || copy.discard(), "the vault could not be sealed anew")
    }
}

/// Seals contents whose PIN the token has, with another one where it can have one set. `once_set`
/// runs before the new file becomes the only one. An error of sealing begins with `failed`.
pub fn seal(
    place: &Place,
    token: &Token,
    mut contents: Contents,
    once_set: impl FnOnce() -> io::Result<()>,
    failed: &str,
) -> Result<(), HostError> {
    let failed = |error: &dyn std::fmt::Display| HostError::refused(failed, error);
    if Closing::rotates(token.profile()) {
        let next = random_pin(token.profile().pin.max_length).map_err(|error| failed(&error))?;
        contents.previous = Some(std::mem::replace(&mut contents.pin, next));
    }
    place
        .write_next(&contents.seal().map_err(|error| failed(&error))?)
        .map_err(|error| failed(&error))?;
    if let Some(previous) = &contents.previous {
        let session = token.open_writing_session().map_err(HostError::from)?;
        let set = token.calls().set_pin(&session, previous, &contents.pin);
        set.map_err(|code| crate::token::fault::Fault::of_code(code, "C_SetPIN").error)?;
    }
    once_set().and_then(|()| place.promote()).map_err(|error| failed(&error))
}

fn confined(
    settings: &TokenSettings,
    profile: &Profile,
    place: &Place,
) -> Result<Limits, HostError> {
    let mut files = confine::token_files(profile, settings);
    files.write.push(place.directory().to_owned());
    files.write.push(crate::token::pin_attempts::directory(&settings.state_dir));
    confine::enter(settings.confinement, Some(&files), Calls::Host(profile.reach))
        .map_err(|error| HostError::refused("it could not be confined", &error))
}
