//! The operations on the keys of a token that is logged in. A key counts only once its record is
//! written, and a key that fails its proof is destroyed again.

use countersign_base::messages::enrol_child::{EnrolError, EnrolReply, KeyFacts};
use countersign_base::messages::token_host::HostError;
use countersign_core::algorithm::Algorithm;
use countersign_core::key::Tier;
use countersign_core::vault::EnrolledFor;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use data_encoding::{BASE64, HEXLOWER};
use pkcs11_profiles::ModuleTier;
use zeroize::Zeroizing;

use super::import::{self, ED25519_PARAMETERS, MadeKey, P256_PARAMETERS};
use super::material::KeyMaterial;
use crate::token::attempt::TokenLogin;
use crate::token::fault::Fault;
use crate::token::mechanism::{LONGEST_SIGNATURE, SigningMechanism};
use crate::token::objects::{self, ID_LENGTH, KeyRecord, Protection, StoredRecord};
use crate::token::public_key::PublicKey;

/// Message that every new key signs once. The signature is compared with the result of software.
const KNOWN_MESSAGE: &[u8] = b"countersign known answer";
const RSA_EXPONENT: [u8; 3] = [1, 0, 1];
const RSA_MODULUS_BITS: [u32; 3] = [2048, 3072, 4096];

/// The values that an operator entered, decoded.
#[derive(Debug)]
pub(crate) struct EnteredKey {
    pub(crate) material: KeyMaterial,
    pub(crate) api_key: Zeroizing<String>,
    pub(crate) passphrase: Option<Zeroizing<String>>,
}

/// One operation on the key of one name.
pub(crate) struct Enrolment<'name> {
    login: TokenLogin,
    session: Session,
    name: &'name str,
}

impl From<Fault> for EnrolError {
    fn from(fault: Fault) -> Self {
        Self::Host(fault.error)
    }
}

impl<'name> Enrolment<'name> {
    pub(crate) fn open(login: TokenLogin, name: &'name str) -> Result<Self, EnrolError> {
        let session = login.token.open_writing_session()?;
        Ok(Self { login, session, name })
    }

    pub(crate) fn add(
        &self,
        new: EnteredKey,
        enrolled_for: Option<EnrolledFor>,
    ) -> Result<EnrolReply, EnrolError> {
        let algorithm = new.material.algorithm();
        let mechanism = self.mechanism(algorithm)?;
        self.check_name_is_free()?;
        let id = new_id()?;
        let profile = self.login.token.profile();
        let made = import::import(
            &self.session,
            profile,
            &new.material,
            self.name,
            &id,
            mechanism.kind(),
        )?;
        let record = KeyRecord {
            v: 1,
            revision: 1,
            id: HEXLOWER.encode(&id),
            algorithm,
            api_key: Some(new.api_key),
            passphrase: new.passphrase,
            public_key: new
                .material
                .public_key()
                .and_then(|key| key.to_der())
                .map(|der| BASE64.encode(&der)),
            enrolled_for,
        };
        let material = new.material;
        self.finish(&[made.handle], made, mechanism, record, |signature| {
            material.agrees(KNOWN_MESSAGE, signature)
        })
    }

    pub(crate) fn generate(
        &self,
        algorithm: Algorithm,
        modulus_bits: Option<u32>,
    ) -> Result<EnrolReply, EnrolError> {
        let mechanism = self.mechanism(algorithm)?;
        self.check_name_is_free()?;
        let id = new_id()?;
        let (made, public) = self.generate_pair(algorithm, modulus_bits, &id, mechanism)?;
        let created = [made.handle, public];
        let public_key =
            self.read_public_key(algorithm, public).inspect_err(|_| self.destroy(&created))?;
        let record = KeyRecord {
            v: 1,
            revision: 1,
            id: HEXLOWER.encode(&id),
            algorithm,
            api_key: None,
            passphrase: None,
            public_key: public_key.to_der().map(|der| BASE64.encode(&der)),
            enrolled_for: None,
        };
        self.finish(&created, made, mechanism, record, |signature| {
            public_key.verifies(KNOWN_MESSAGE, signature)
        })
    }

    pub(crate) fn activate(&self, api_key: &str) -> Result<EnrolReply, EnrolError> {
        let StoredRecord { mut record, object, .. } = self.stored()?;
        if record.api_key.is_some() {
            return Err(EnrolError::AlreadyActive(self.name.to_owned()));
        }
        super::operator::check_text("the API key", api_key)?;
        record.api_key = Some(Zeroizing::new(api_key.to_owned()));
        record.revision += 1;
        // The new record is written first: a failure in between leaves two records, and the one
        // with the higher revision counts.
        objects::store_record(&self.session, self.name, &record)?;
        self.session.destroy_object(object).map_err(Fault::from)?;
        let missing = || EnrolError::NameUnknown(self.name.to_owned());
        let key = objects::find_key(&self.session, &record)?.ok_or_else(missing)?;
        Ok(EnrolReply::Done { facts: self.facts(&record, key, self.mechanism(record.algorithm)?)? })
    }

    pub(crate) fn remove(&self) -> Result<EnrolReply, EnrolError> {
        let found = objects::objects_of(&self.session, self.name)?;
        if found.is_empty() {
            return Err(EnrolError::NameUnknown(self.name.to_owned()));
        }
        for object in &found {
            self.session.destroy_object(*object).map_err(Fault::from)?;
        }
        // A key has at most a handful of objects.
        Ok(EnrolReply::Removed { objects: u32::try_from(found.len()).unwrap_or(u32::MAX) })
    }

    /// Proves a new key and writes its record. If either fails, the key is destroyed again.
    fn finish(
        &self,
        created: &[ObjectHandle],
        made: MadeKey,
        mechanism: SigningMechanism,
        record: KeyRecord,
        agrees: impl Fn(&[u8]) -> bool,
    ) -> Result<EnrolReply, EnrolError> {
        let finish = || {
            if !Protection::of(&self.session, made.handle)?.keeps_the_key() {
                return Err(EnrolError::Unprotected);
            }
            if !agrees(&self.sign_known_message(mechanism, made.handle)?) {
                return Err(EnrolError::ProofFailed(record.algorithm));
            }
            let facts = self.facts(&record, made.handle, mechanism)?;
            objects::store_record(&self.session, self.name, &record)?;
            Ok(EnrolReply::Done { facts })
        };
        finish().inspect_err(|_| self.destroy(created))
    }

    fn sign_known_message(
        &self,
        mechanism: SigningMechanism,
        key: ObjectHandle,
    ) -> Result<Vec<u8>, EnrolError> {
        let mut signature = [0; LONGEST_SIGNATURE];
        let input = mechanism.input(KNOWN_MESSAGE);
        let signed = self.login.token.calls().sign(
            &self.session,
            mechanism.kind(),
            key,
            &input,
            &mut signature,
        );
        let length = signed.map_err(|code| Fault::of_code(code, "C_Sign"))?;
        Ok(signature[..length].to_vec())
    }

    fn destroy(&self, objects: &[ObjectHandle]) {
        for object in objects {
            if let Err(error) = self.session.destroy_object(*object) {
                tracing::error!(%error, key = self.name, "a key that failed to enrol could not be \
                                                          destroyed");
            }
        }
    }

    fn generate_pair(
        &self,
        algorithm: Algorithm,
        modulus_bits: Option<u32>,
        id: &[u8],
        mechanism: SigningMechanism,
    ) -> Result<(MadeKey, ObjectHandle), EnrolError> {
        let mut public = vec![
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::Token(true),
            Attribute::Verify(true),
            Attribute::Label(objects::label(self.name)),
            Attribute::Id(id.to_vec()),
        ];
        let generator = match (algorithm, modulus_bits) {
            (Algorithm::EcdsaP256Sha256, None) => {
                public.push(Attribute::EcParams(P256_PARAMETERS.to_vec()));
                Mechanism::EccKeyPairGen
            }
            (Algorithm::Ed25519, None) => {
                public.push(Attribute::EcParams(ED25519_PARAMETERS.to_vec()));
                Mechanism::EccEdwardsKeyPairGen
            }
            (Algorithm::RsaPkcs1v15Sha256, bits) => {
                let bits = bits.unwrap_or(RSA_MODULUS_BITS[0]);
                if !RSA_MODULUS_BITS.contains(&bits) {
                    return Err(EnrolError::Input(
                        "an RSA key has 2048, 3072 or 4096 bits".to_owned(),
                    ));
                }
                public.push(Attribute::ModulusBits(u64::from(bits).into()));
                public.push(Attribute::PublicExponent(RSA_EXPONENT.to_vec()));
                Mechanism::RsaPkcsKeyPairGen
            }
            (algorithm, _) => {
                return Err(EnrolError::Input(format!(
                    "{algorithm} keys are not generated like that"
                )));
            }
        };
        let mut private = import::protected(ObjectClass::PRIVATE_KEY, self.name, id);
        let made = import::bind_and_make(&mut private, mechanism.kind(), |private| {
            let (public, private) = self.session.generate_key_pair(&generator, &public, private)?;
            Ok((private, public))
        });
        Ok(made?)
    }

    fn read_public_key(
        &self,
        algorithm: Algorithm,
        object: ObjectHandle,
    ) -> Result<PublicKey, EnrolError> {
        let key = match algorithm {
            Algorithm::EcdsaP256Sha256 => PublicKey::p256_on_token(&self.session, object),
            Algorithm::Ed25519 => PublicKey::ed25519_on_token(&self.session, object),
            _ => PublicKey::rsa_on_token(&self.session, object),
        };
        Ok(key?)
    }

    fn facts(
        &self,
        record: &KeyRecord,
        key: ObjectHandle,
        mechanism: SigningMechanism,
    ) -> Result<KeyFacts, EnrolError> {
        let protection = Protection::of(&self.session, key)?;
        let tier = match self.login.token.profile().tier {
            ModuleTier::Software => Tier::Software,
            ModuleTier::Hardware if protection.was_born_inside() => Tier::Device,
            ModuleTier::Hardware => Tier::Imported,
        };
        Ok(KeyFacts {
            name: self.name.to_owned(),
            algorithm: record.algorithm,
            cka_id: record.id.clone(),
            tier,
            public_key_der: record.public_key_der(),
            allowed_mechanism_bound: import::is_bound(&self.session, key, mechanism.kind()),
            has_passphrase: record.passphrase.is_some(),
            active: record.api_key.is_some(),
            touch_attested_by: None,
            slot: None,
        })
    }

    fn mechanism(&self, algorithm: Algorithm) -> Result<SigningMechanism, EnrolError> {
        let token = &self.login.token;
        SigningMechanism::choose(algorithm, token.profile(), token.mechanisms()).ok_or_else(|| {
            let reason = format!("{} does not offer it", token.profile().title);
            HostError::Unsupported { algorithm, reason }.into()
        })
    }

    fn check_name_is_free(&self) -> Result<(), EnrolError> {
        if objects::stored_record(&self.session, self.name)?.is_some() {
            return Err(EnrolError::NameTaken(self.name.to_owned()));
        }
        // Objects without a record are never cleared unasked: they may be the only copy of a key.
        if !objects::objects_of(&self.session, self.name)?.is_empty() {
            return Err(EnrolError::Unfinished(self.name.to_owned()));
        }
        Ok(())
    }

    fn stored(&self) -> Result<StoredRecord, EnrolError> {
        objects::stored_record(&self.session, self.name)?
            .ok_or_else(|| EnrolError::NameUnknown(self.name.to_owned()))
    }
}

fn new_id() -> Result<[u8; ID_LENGTH], EnrolError> {
    let mut id = [0; ID_LENGTH];
    countersign_base::system::random::fill(&mut id)
        .map_err(|error| HostError::Token(format!("no randomness: {error}")))?;
    Ok(id)
}
