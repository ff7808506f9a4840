//! The operations on the keys of a YubiKey. A key is made in a slot, and counts once its
//! attestation was verified. No key is imported.

use countersign_base::messages::enrol_child::{EnrolError, EnrolReply, KeyFacts, SlotChoice};
use countersign_base::messages::token_host::HostError;
use countersign_base::messages::yubikey::Slot;
use countersign_base::system::terminal::Terminal;
use countersign_core::algorithm::Algorithm;
use countersign_core::attestation::{Attestation, Roots};
use countersign_core::key::Tier;
use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest, Sha256};
use yubikey::piv::AlgorithmId;

use crate::token::objects::ID_LENGTH;
use crate::yubikey::card_login::CardLogin;
use crate::yubikey::new_key::{attest, make, management_key};
use crate::yubikey::records::YubiKeyRecord;

/// RSA of more than 2048 bits and Ed25519 came with this firmware.
const NEWER_ALGORITHMS: [u8; 3] = [5, 7, 0];

/// One operation on the key of one name.
pub(crate) struct CardEnrolment<'a> {
    pub(crate) login: CardLogin,
    pub(crate) name: &'a str,
    /// Yubico's roots, and those that the configuration names.
    pub(crate) roots: Roots,
}

impl CardEnrolment<'_> {
    /// Makes a key that needs the PIN and a touch for each signature.
    pub(crate) fn generate(
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
        let management =
            self.login.yubikey.management_key(&self.login.pin).map_err(HostError::from)?;
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
            return Err(HostError::Card(format!(
                "slot {slot} holds another kind of key than was made"
            ))
            .into());
        }
        self.login.records.put(&record)?;
        Ok(EnrolReply::Done { facts: facts(&record) })
    }

    pub(crate) fn activate(&self, api_key: &str) -> Result<EnrolReply, EnrolError> {
        let mut record = self.record()?;
        if record.api_key.is_some() {
            return Err(EnrolError::AlreadyActive(self.name.to_owned()));
        }
        super::operator::check_text("the API key", api_key)?;
        record.api_key = Some(api_key.to_owned());
        self.login.records.put(&record)?;
        Ok(EnrolReply::Done { facts: facts(&record) })
    }

    /// Removes the record of the key. The key stays in its slot: a YubiKey before 5.7 cannot be
    /// told to delete it.
    pub(crate) fn remove(&self) -> Result<EnrolReply, EnrolError> {
        self.record()?;
        self.login.records.remove(self.name)?;
        Ok(EnrolReply::Removed { objects: 1 })
    }

    fn record(&self) -> Result<YubiKeyRecord, EnrolError> {
        self.login
            .records
            .get(self.name)?
            .ok_or_else(|| EnrolError::NameUnknown(self.name.to_owned()))
    }

    fn kind(
        &self,
        algorithm: Algorithm,
        modulus_bits: Option<u32>,
    ) -> Result<AlgorithmId, EnrolError> {
        let (kind, newer) = match (algorithm, modulus_bits) {
            (Algorithm::EcdsaP256Sha256, None) => (AlgorithmId::EccP256, false),
            (Algorithm::Ed25519, None) => (AlgorithmId::Ed25519, true),
            (Algorithm::RsaPkcs1v15Sha256, None | Some(2048)) => (AlgorithmId::Rsa2048, false),
            (Algorithm::RsaPkcs1v15Sha256, Some(3072)) => (AlgorithmId::Rsa3072, true),
            (Algorithm::RsaPkcs1v15Sha256, Some(4096)) => (AlgorithmId::Rsa4096, true),
            (Algorithm::RsaPkcs1v15Sha256, _) => {
                return Err(EnrolError::Input("an RSA key has 2048, 3072 or 4096 bits".to_owned()));
            }
            (_, Some(_)) => {
                return Err(EnrolError::Input("only an RSA key has a number of bits".to_owned()));
            }
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

    /// The slot that the operator named, or the first free one. A key in it is overwritten only if
    /// the operator asked for that, and never if it is enrolled here.
    fn slot(&self, choice: SlotChoice) -> Result<Slot, EnrolError> {
        let enrolled = self.login.records.all()?;
        let is_free = |slot: Slot| match self.login.yubikey.is_empty(slot) {
            Ok(empty) => Ok(empty),
            Err(error) => Err(EnrolError::Host(error.into())),
        };
        let Some(slot) = choice.slot else {
            for slot in
                Slot::all().filter(|slot| ![Slot::SIGNATURE, Slot::KEY_MANAGEMENT].contains(slot))
            {
                if is_free(slot)? {
                    return Ok(slot);
                }
            }
            return Err(EnrolError::Input(
                "no slot of the YubiKey is free: name one with --slot".to_owned(),
            ));
        };
        if let Some(record) = enrolled.iter().find(|record| record.slot == slot) {
            let name = &record.name;
            return Err(EnrolError::Input(format!(
                "slot {slot} holds the key {name}: remove it first"
            )));
        }
        if choice.overwrite || is_free(slot)? {
            return Ok(slot);
        }
        let message = format!(
            "slot {slot} holds a key already: take another slot, or destroy that key with \
             --overwrite"
        );
        Err(EnrolError::Input(message))
    }

    fn attested(&self, slot: Slot) -> Result<(Attestation, String), EnrolError> {
        attest(&self.login.yubikey, self.login.facts.serial, slot, &self.roots)
    }
}

fn facts(record: &YubiKeyRecord) -> KeyFacts {
    let public_key = record.public_key_der().unwrap_or_default();
    KeyFacts {
        name: record.name.clone(),
        algorithm: record.algorithm,
        cka_id: HEXLOWER.encode(&Sha256::digest(&public_key)[..ID_LENGTH]),
        tier: Tier::Device,
        public_key_der: Some(public_key),
        allowed_mechanism_bound: true, // a PIV key has only one use
        has_passphrase: false,
        active: record.api_key.is_some(),
        touch_attested_by: Some(record.attested_by),
        slot: Some(record.slot.to_string()),
    }
}
