//! Finds the YubiKey that opens a vault, and unseals the PIN of a token that stays open after one
//! touch.

use std::sync::Arc;

use countersign_base::messages::settings::{PinSource, TokenSettings};
use countersign_base::messages::token_host::HostError;
use countersign_base::messages::yubikey::Slot;
use countersign_base::system::sys::LockedMemory;
use countersign_base::system::terminal::Terminal;

use super::directory::{Unread, VaultDirectory};
use super::sealed::Recipient;
use crate::token::pin::{OpenSource, PinError};
use crate::token::pin_attempts::SourceIdentity;
use crate::yubikey::{self, CardPin, OnBlink, YubiKey};

/// The YubiKey that a person must touch.
#[derive(Debug)]
pub(super) struct Card {
    pub(super) yubikey: YubiKey,
    pub(super) name: String,
    pub(super) pin: Arc<CardPin>,
}

/// The first recipient whose YubiKey is plugged in and named in `agent.toml`, with its PIN.
pub(super) fn choose_card(
    settings: &TokenSettings,
    recipients: &[Recipient],
    operator: Option<&Terminal<'_>>,
) -> Result<Card, HostError> {
    let PinSource::Sealed(sealed) = &settings.pin else {
        return Err(HostError::Refused("its PIN is not sealed".to_owned()));
    };
    let mut missing = Vec::new();
    for unsealer in &sealed.by {
        let serial = unsealer.yubikey_serial()?;
        if !recipients.iter().any(|recipient| recipient.serial == serial) {
            missing.push(format!(
                "{} is not one of its recipients: countersign vault add",
                unsealer.name
            ));
            continue;
        }
        let yubikey = YubiKey::new(serial);
        if let Err(error) = yubikey.facts() {
            missing.push(format!("{}: {error}", unsealer.name));
            continue;
        }
        let pin = card_pin(unsealer, operator)?;
        return Ok(Card { yubikey, name: unsealer.name.clone(), pin });
    }
    Err(HostError::TokenAbsent(format!("no YubiKey that opens the vault ({})", missing.join("; "))))
}

/// The name, in the record of attempts, of the sealed PIN of a token that stays open.
pub fn identity(settings: &TokenSettings) -> Result<SourceIdentity, HostError> {
    let directory = VaultDirectory::of(&settings.state_dir, &settings.name);
    let found = directory.read().map_err(unread)?;
    directory
        .identity(found.is_next, false)
        .map_err(|error| HostError::refused("the sealed file", &error))
}

/// Unseals the PIN of a token that stays open, with a touch. The PIN is not changed.
pub fn unsealed_pin(
    settings: &TokenSettings,
    operator: Option<&Terminal<'_>>,
) -> Result<LockedMemory, HostError> {
    let found = VaultDirectory::of(&settings.state_dir, &settings.name).read().map_err(unread)?;
    if found.is_next {
        let name = &settings.name;
        let reason = format!(
            "the PIN of {name} was being changed: countersign vault rotate {name} brings that to \
             its end"
        );
        return Err(HostError::Refused(reason));
    }
    let card = choose_card(settings, &found.sealed.terms.recipients, operator)?;
    let serial = card.yubikey.serial();
    let opened = |error| HostError::Refused(format!("it did not open: {error}"));
    let point = found.sealed.point_for(serial).map_err(opened)?;
    let text = format!("touch {}: it blinks, and opens the token {}", card.name, settings.name);
    let on_blink: OnBlink = Box::new(move || tracing::warn!("{text}"));
    let agreed = card.yubikey.agree(Slot::KEY_MANAGEMENT, point, &card.pin, on_blink)?;
    let contents = found.sealed.open(serial, &agreed).map_err(opened)?;
    yubikey_gone();
    Ok(contents.pin)
}

/// The PIN of a YubiKey, if an attempt is left for it.
pub fn card_pin(
    settings: &TokenSettings,
    operator: Option<&Terminal<'_>>,
) -> Result<Arc<CardPin>, HostError> {
    let unavailable = |error: PinError| HostError::PinUnavailable(error.to_string());
    let source = OpenSource::open(settings).map_err(unavailable)?;
    yubikey::card_pin::may_be_tried(&settings.state_dir, &settings.name, &source.identity())?;
    let pin = source.read(&settings.name, operator).map_err(unavailable)?;
    Ok(Arc::new(CardPin::new(pin, &settings.state_dir, &settings.name)))
}

/// Waits until the YubiKey's threads have ended. Limits apply only to threads that start later.
pub fn yubikey_gone() {
    yubikey::card_login::alone();
}

pub(super) fn unread(error: Unread) -> HostError {
    HostError::Refused(format!("the vault: {error}"))
}
