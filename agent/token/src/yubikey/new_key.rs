//! Makes new keys in slots, which takes the management key, and verifies their attestations.

use std::io::Read as _;
use std::sync::Arc;

use countersign_base::messages::enrol_child::EnrolError;
use countersign_base::messages::settings::TokenSettings;
use countersign_base::messages::token_host::HostError;
use countersign_base::messages::yubikey::Slot;
use countersign_base::system::sys::LockedMemory;
use countersign_base::system::terminal::{Echo, Terminal};
use countersign_base::trusted_path::{self, Exposure};
use countersign_core::attestation::{
    self, Attestation, CertificateChain, PinPolicy as Attested, Roots, TouchPolicy as Touch,
};
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use yubikey::piv::{self, AlgorithmId, SlotId};
use yubikey::{MgmAlgorithmId, MgmKey, PinPolicy, TouchPolicy};
use zeroize::Zeroizing;

use super::{CardPin, ManagementKey, YubiKey};

const LONGEST_ROOTS: u64 = 64 * 1024;
/// Length of an AES-256 management key in hex.
const LONGEST_MANAGEMENT_KEY: usize = 64;

/// The YubiKey's statement about the key in a slot, verified, and the certificates as PEM.
pub fn attest(
    yubikey: &YubiKey,
    serial: u32,
    slot: Slot,
    roots: &Roots,
) -> Result<(Attestation, String), EnrolError> {
    let unproven = |reason: String| EnrolError::TouchUnproven { slot: slot.to_string(), reason };
    let shown = yubikey.attest(slot).map_err(|error| unproven(error.to_string()))?;
    let certificates = [&shown.certificate[..], &shown.intermediate[..]];
    let chain =
        CertificateChain::from_der(certificates).map_err(|error| unproven(error.to_string()))?;
    let attested =
        attestation::verify(&chain, roots).map_err(|error| unproven(error.to_string()))?;
    let held = yubikey.keys(vec![slot]).map_err(HostError::from)?.pop();
    let held = held.and_then(|key| key.public_key.to_der());
    let fault = if attested.serial != serial || attested.slot != slot.number() {
        Some("it is of another YubiKey or slot")
    } else if held.as_deref() != Some(&attested.public_key[..]) {
        Some("it is of another key")
    } else if attested.touch_policy != Touch::Always {
        Some("its touch policy is not ALWAYS")
    } else if attested.pin_policy == Attested::Never {
        Some("it signs without a PIN")
    } else {
        None
    };
    match fault {
        None => Ok((attested, certificates.iter().map(|der| pem(der)).collect())),
        Some(fault) => Err(unproven(fault.to_owned())),
    }
}

/// Makes the key that unseals a vault. It is a P-256 key in slot 9d, and each use takes PIN and
/// touch.
pub fn make_unsealing_key(yubikey: &YubiKey, pin: &Arc<CardPin>) -> Result<(), EnrolError> {
    let management = management_key(yubikey.management_key(pin).map_err(HostError::from)?, None)?;
    make(yubikey.serial(), Slot::KEY_MANAGEMENT, AlgorithmId::EccP256, &management)
}

/// Yubico's roots, and those of the file that the configuration names.
pub fn roots(settings: &TokenSettings) -> Result<Roots, EnrolError> {
    let Some(path) = &settings.attestation_root else { return Ok(Roots::yubico()) };
    let refused = |error: &dyn std::fmt::Display| {
        EnrolError::Host(HostError::Refused(format!(
            "attestation_root {}: {error}",
            path.display()
        )))
    };
    let file = trusted_path::open(path, Exposure::Public).map_err(|error| refused(&error))?;
    let mut text = String::new();
    file.take(LONGEST_ROOTS).read_to_string(&mut text).map_err(|error| refused(&error))?;
    Roots::yubico().and_others(&text).map_err(|error| refused(&error))
}

fn pem(der: &[u8]) -> String {
    let lines = BASE64.encode(der);
    let lines: Vec<_> = lines
        .as_bytes()
        .chunks(64)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// The management key: the factory's key, the key that the YubiKey keeps behind its PIN, or a key
/// that the operator enters.
pub(crate) fn management_key(
    found: ManagementKey,
    terminal: Option<&Terminal<'_>>,
) -> Result<MgmKey, EnrolError> {
    let wrong =
        || EnrolError::Input("the management key is not one of the YubiKey's kind".to_owned());
    let ManagementKey { algorithm, is_default, protected } = found;
    let kind = MgmAlgorithmId::try_from(algorithm).map_err(|_| wrong())?;
    let key = |bytes: &[u8]| MgmKey::from_bytes(bytes, Some(kind)).map_err(|_| wrong());
    if is_default {
        tracing::warn!(
            "the YubiKey has the factory's management key: ykman piv access change-management-key"
        );
        return key(&FACTORY_MANAGEMENT_KEY);
    }
    if let Some(bytes) = protected {
        return key(&bytes);
    }
    let Some(terminal) = terminal else {
        return Err(EnrolError::Input(
            "the YubiKey's management key is needed: run this at a terminal, or have the YubiKey \
             keep the key behind its \
             PIN (ykman piv access change-management-key --generate --protect)"
                .to_owned(),
        ));
    };
    let memory = |error| EnrolError::Input(format!("no memory could be locked: {error}"));
    let mut typed = LockedMemory::with_capacity(LONGEST_MANAGEMENT_KEY + 2).map_err(memory)?;
    let asked = terminal.ask("Management key of the YubiKey, in hex: ", Echo::Off, &mut typed);
    asked.map_err(|_| EnrolError::Cancelled)?;
    let text = typed.as_bytes().trim_ascii();
    let bytes = Zeroizing::new(HEXLOWER_PERMISSIVE.decode(text).map_err(|_| wrong())?);
    key(&bytes)
}

/// The factory's key as Yubico documents it, for both kinds of cipher.
const FACTORY_MANAGEMENT_KEY: [u8; 24] =
    [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8];

pub(crate) fn make(
    serial: u32,
    slot: Slot,
    kind: AlgorithmId,
    management: &MgmKey,
) -> Result<(), EnrolError> {
    let failed = |doing: &str| {
        let doing = doing.to_owned();
        move |error: yubikey::Error| {
            EnrolError::Host(HostError::Card(format!("the YubiKey did not {doing}: {error}")))
        }
    };
    let mut yubikey = yubikey::YubiKey::open_by_serial(serial.into()).map_err(failed("open"))?;
    let made = yubikey
        .authenticate(management)
        .map_err(failed("take the management key"))
        .and_then(|()| {
            let slot = SlotId::try_from(slot.number()).map_err(failed("know the slot"))?;
            let made =
                piv::generate(&mut yubikey, slot, kind, PinPolicy::Always, TouchPolicy::Always);
            made.map(drop).map_err(failed("make the key"))
        });
    // This ends the right to administer. A reset would do that too, but would take the YubiKey from
    // other programs.
    let _ = yubikey.deauthenticate();
    let _ = yubikey.disconnect(pcsc::Disposition::LeaveCard);
    made
}
