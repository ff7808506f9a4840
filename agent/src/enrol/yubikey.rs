//! The operations on a YubiKey: a key is made in a slot and counts once its attestation was verified. Nothing is imported.

use std::io::Read as _;
use std::sync::Arc;

use countersign_core::algorithm::Algorithm;
use countersign_core::attestation::{self, Attestation, Chain, PinPolicy as Attested, Roots, TouchPolicy as Touch};
use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use sha2::{Digest, Sha256};
use yubikey::piv::{self, AlgorithmId, SlotId};
use yubikey::{MgmAlgorithmId, MgmKey, PinPolicy, TouchPolicy};
use zeroize::Zeroizing;

use super::protocol::{CustodyTier, EnrolError, EnrolReply, KeyFacts, SlotChoice};
use crate::host::objects::ID_LENGTH;
use crate::host::protocol::HostError;
use crate::host::settings::TokenSettings;
use crate::host::yubikey::{CardPin, ManagementKey, Slot, YubiKey};
use crate::host::yubikey_host::CardLogin;
use crate::host::yubikey_keys::YubiKeyRecord;
use crate::sys::LockedMemory;
use crate::terminal::{Echo, Terminal};
use crate::trusted_path::{self, Exposure};

/// RSA of more than 2048 bits and Ed25519 came with this firmware.
const NEWER_ALGORITHMS: [u8; 3] = [5, 7, 0];
const LONGEST_ROOTS: u64 = 64 * 1024;
/// Of an AES-256 management key in hex.
const LONGEST_MANAGEMENT_KEY: usize = 64;

/// One operation on one name.
pub(super) struct CardEnrolment<'a> {
    pub(super) login: CardLogin,
    pub(super) name: &'a str,
    /// Roots beside Yubico's, as the configuration names them.
    pub(super) roots: Roots,
}

impl CardEnrolment<'_> {
    /// Makes a key that signs only after PIN and touch, each time.
    pub(super) fn generate(
        &self,
        algorithm: Algorithm,
        modulus_bits: Option<u32>,
        choice: SlotChoice,
        terminal: Option<&Terminal<'_>>,
    ) -> Result<EnrolReply, EnrolError> {
        let kind = self.kind(algorithm, modulus_bits)?;
        if self.login.records.get(self.name)?.is_some() {
            return Err(EnrolError::NameTaken(self.name.to_owned()));
        }
        let slot = self.slot(choice)?;
        let management = self.login.yubikey.management_key(&self.login.pin).map_err(HostError::from)?;
        let management = management_key(management, terminal)?;
        make(self.login.facts.serial, slot, kind, &management)?;
        let (attested, attestation) = self.attested(slot)?;
        let record = YubiKeyRecord {
            v: 1,
            name: self.name.to_owned(),
            serial: self.login.facts.serial,
            slot,
            algorithm,
            public_key: BASE64.encode(&attested.public_key),
            api_key: None,
            attestation,
            attested_by: attested.root,
        };
        if record.public_key().is_none() {
            return Err(HostError::Card(format!("slot {slot} holds another kind of key than was made")).into());
        }
        self.login.records.put(&record)?;
        Ok(EnrolReply::Done { facts: facts(&record) })
    }

    pub(super) fn activate(&self, api_key: &str) -> Result<EnrolReply, EnrolError> {
        let mut record = self.record()?;
        if record.api_key.is_some() {
            return Err(EnrolError::AlreadyActive(self.name.to_owned()));
        }
        super::operator::check_text("the API key", api_key)?;
        record.api_key = Some(api_key.to_owned());
        self.login.records.put(&record)?;
        Ok(EnrolReply::Done { facts: facts(&record) })
    }

    /// Forgets the key. What is in the slot stays there: a YubiKey before 5.7 cannot be told to delete it.
    pub(super) fn remove(&self) -> Result<EnrolReply, EnrolError> {
        self.record()?;
        self.login.records.remove(self.name)?;
        Ok(EnrolReply::Removed { objects: 1 })
    }

    fn record(&self) -> Result<YubiKeyRecord, EnrolError> {
        self.login.records.get(self.name)?.ok_or_else(|| EnrolError::NameUnknown(self.name.to_owned()))
    }

    fn kind(&self, algorithm: Algorithm, modulus_bits: Option<u32>) -> Result<AlgorithmId, EnrolError> {
        let (kind, newer) = match (algorithm, modulus_bits) {
            (Algorithm::EcdsaP256Sha256, None) => (AlgorithmId::EccP256, false),
            (Algorithm::Ed25519, None) => (AlgorithmId::Ed25519, true),
            (Algorithm::RsaPkcs1v15Sha256, None | Some(2048)) => (AlgorithmId::Rsa2048, false),
            (Algorithm::RsaPkcs1v15Sha256, Some(3072)) => (AlgorithmId::Rsa3072, true),
            (Algorithm::RsaPkcs1v15Sha256, Some(4096)) => (AlgorithmId::Rsa4096, true),
            (Algorithm::RsaPkcs1v15Sha256, _) => {
                return Err(EnrolError::Input("an RSA key has 2048, 3072 or 4096 bits".to_owned()));
            }
            (_, Some(_)) => return Err(EnrolError::Input("only an RSA key has a number of bits".to_owned())),
            (algorithm, None) => {
                let reason = "a YubiKey makes P-256, RSA and Ed25519 keys".to_owned();
                return Err(HostError::Unsupported { algorithm, reason }.into());
            }
        };
        let firmware @ [major, minor, patch] = self.login.facts.firmware;
        if newer && firmware < NEWER_ALGORITHMS {
            let reason = format!("that takes firmware 5.7, and this is {major}.{minor}.{patch}");
            return Err(HostError::Unsupported { algorithm, reason }.into());
        }
        Ok(kind)
    }

    /// The slot that was asked for, or the first one that is free. A key in it is overwritten only where that was asked for
    /// too, and never one that is enrolled here.
    fn slot(&self, choice: SlotChoice) -> Result<Slot, EnrolError> {
        let enrolled = self.login.records.all()?;
        let is_free = |slot: Slot| match self.login.yubikey.is_empty(slot) {
            Ok(empty) => Ok(empty),
            Err(error) => Err(EnrolError::Host(error.into())),
        };
        let Some(slot) = choice.slot else {
            for slot in Slot::all().filter(|slot| ![Slot::SIGNATURE, Slot::KEY_MANAGEMENT].contains(slot)) {
                if is_free(slot)? {
                    return Ok(slot);
                }
            }
            return Err(EnrolError::Input("no slot of the YubiKey is free: name one with --slot".to_owned()));
        };
        if let Some(record) = enrolled.iter().find(|record| record.slot == slot) {
            let name = &record.name;
            return Err(EnrolError::Input(format!("slot {slot} holds the key {name}: remove it first")));
        }
        if choice.overwrite || is_free(slot)? {
            return Ok(slot);
        }
        let message =
            format!("slot {slot} holds a key already: take another slot, or destroy that key with --overwrite");
        Err(EnrolError::Input(message))
    }

    fn attested(&self, slot: Slot) -> Result<(Attestation, String), EnrolError> {
        attest(&self.login.yubikey, self.login.facts.serial, slot, &self.roots)
    }
}

/// What the YubiKey says of the key in a slot, verified, and the certificates as PEM.
pub(crate) fn attest(
    yubikey: &YubiKey,
    serial: u32,
    slot: Slot,
    roots: &Roots,
) -> Result<(Attestation, String), EnrolError> {
    let unproven = |reason: String| EnrolError::TouchUnproven { slot: slot.to_string(), reason };
    let shown = yubikey.attest(slot).map_err(|error| unproven(error.to_string()))?;
    let certificates = [&shown.certificate[..], &shown.intermediate[..]];
    let chain = Chain::from_der(certificates).map_err(|error| unproven(error.to_string()))?;
    let attested = attestation::verify(&chain, roots).map_err(|error| unproven(error.to_string()))?;
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

/// Makes the key that unseals a vault: P-256, in slot 9d, PIN and touch each time.
pub(crate) fn make_unsealing_key(yubikey: &YubiKey, pin: &Arc<CardPin>) -> Result<(), EnrolError> {
    let management = management_key(yubikey.management_key(pin).map_err(HostError::from)?, None)?;
    make(yubikey.serial(), Slot::KEY_MANAGEMENT, AlgorithmId::EccP256, &management)
}

/// Yubico's roots, and those of the file that the configuration names.
pub(crate) fn roots(settings: &TokenSettings) -> Result<Roots, EnrolError> {
    let Some(path) = &settings.attestation_root else { return Ok(Roots::yubico()) };
    let refused = |error: &dyn std::fmt::Display| {
        EnrolError::Host(HostError::Refused(format!("attestation_root {}: {error}", path.display())))
    };
    let file = trusted_path::open(path, Exposure::Public).map_err(|error| refused(&error))?;
    let mut text = String::new();
    file.take(LONGEST_ROOTS).read_to_string(&mut text).map_err(|error| refused(&error))?;
    Roots::yubico().and_others(&text).map_err(|error| refused(&error))
}

fn pem(der: &[u8]) -> String {
    let lines = BASE64.encode(der);
    let lines: Vec<_> = lines.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn facts(record: &YubiKeyRecord) -> KeyFacts {
    let public_key = record.public_key_der().unwrap_or_default();
    KeyFacts {
        name: record.name.clone(),
        algorithm: record.algorithm,
        cka_id: HEXLOWER.encode(&Sha256::digest(&public_key)[..ID_LENGTH]),
        tier: CustodyTier::Device,
        public_key_der: Some(public_key),
        allowed_mechanism_bound: true, // PIV keys know one use
        has_passphrase: false,
        active: record.api_key.is_some(),
        touch_attested_by: Some(record.attested_by),
        slot: Some(record.slot.to_string()),
    }
}

/// The management key: that of the factory, the one that the YubiKey keeps behind its PIN, or one that is asked for.
fn management_key(found: ManagementKey, terminal: Option<&Terminal<'_>>) -> Result<MgmKey, EnrolError> {
    let wrong = || EnrolError::Input("the management key is not one of the YubiKey's kind".to_owned());
    let ManagementKey { algorithm, is_default, protected } = found;
    let kind = MgmAlgorithmId::try_from(algorithm).map_err(|_| wrong())?;
    let key = |bytes: &[u8]| MgmKey::from_bytes(bytes, Some(kind)).map_err(|_| wrong());
    if is_default {
        tracing::warn!("the YubiKey has the factory's management key: ykman piv access change-management-key");
        return key(&FACTORY_MANAGEMENT_KEY);
    }
    if let Some(bytes) = protected {
        return key(&bytes);
    }
    let Some(terminal) = terminal else {
        return Err(EnrolError::Input(
            "the YubiKey's management key is needed: run this at a terminal, or have the YubiKey keep the key behind its \
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

/// As Yubico documents it, for both kinds of cipher.
const FACTORY_MANAGEMENT_KEY: [u8; 24] = [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8];

fn make(serial: u32, slot: Slot, kind: AlgorithmId, management: &MgmKey) -> Result<(), EnrolError> {
    let failed = |doing: &str| {
        let doing = doing.to_owned();
        move |error: yubikey::Error| EnrolError::Host(HostError::Card(format!("the YubiKey did not {doing}: {error}")))
    };
    let mut yubikey = yubikey::YubiKey::open_by_serial(serial.into()).map_err(failed("open"))?;
    let made = yubikey.authenticate(management).map_err(failed("take the management key")).and_then(|()| {
        let slot = SlotId::try_from(slot.number()).map_err(failed("know the slot"))?;
        let made = piv::generate(&mut yubikey, slot, kind, PinPolicy::Always, TouchPolicy::Always);
        made.map(drop).map_err(failed("make the key"))
    });
    // Ends the right to administer; a reset would take the card from other programs.
    let _ = yubikey.deauthenticate();
    let _ = yubikey.disconnect(pcsc::Disposition::LeaveCard);
    made
}
