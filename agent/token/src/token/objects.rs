//! Reads and writes the objects of countersign on a token: for each key the key object, and a
//! private data object with the record of the key.
//!
//! Both carry the label `countersign:<name>`. The data object holds the API key id and the
//! passphrase, so that neither is ever on a disk in the clear. It is written last, so the enrolment
//! of a key without it was never finished.

use countersign_base::messages::settings::is_plain_name;
use countersign_base::messages::token_host::HostError;
use countersign_core::algorithm::Algorithm;
use countersign_core::vault::EnrolledFor;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::fault::Fault;

const APPLICATION: &[u8] = b"countersign";
const LABEL_PREFIX: &str = "countersign:";

/// Length of CKA_ID of our keys, in bytes.
pub const ID_LENGTH: usize = 16;

/// The content of a key's data object.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    pub v: u8,
    /// Goes up at each change. The record with the highest revision counts.
    pub revision: u32,
    /// CKA_ID of the key object, in hex.
    pub id: String,
    pub algorithm: Algorithm,
    /// The id that the exchange gave for the key; absent until the key is activated.
    pub api_key: Option<Zeroizing<String>>,
    pub passphrase: Option<Zeroizing<String>>,
    /// SubjectPublicKeyInfo in DER as base64, for asymmetric keys.
    pub public_key: Option<String>,
    /// For a key in a vault: the exchange and scopes that it signs for. The front cannot change
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolled_for: Option<EnrolledFor>,
}

impl KeyRecord {
    pub fn id_bytes(&self) -> Option<Vec<u8>> {
        let id = data_encoding::HEXLOWER.decode(self.id.as_bytes()).ok()?;
        (id.len() == ID_LENGTH).then_some(id)
    }

    pub fn public_key_der(&self) -> Option<Vec<u8>> {
        data_encoding::BASE64.decode(self.public_key.as_ref()?.as_bytes()).ok()
    }
}

impl std::fmt::Debug for KeyRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyRecord({}, {}, [redacted])", self.id, self.algorithm)
    }
}

/// A data object that was found.
#[derive(Debug)]
pub struct StoredRecord {
    pub name: String,
    pub record: KeyRecord,
    pub object: ObjectHandle,
}

/// The label of every object that belongs to the key named `name`.
pub fn label(name: &str) -> Vec<u8> {
    format!("{LABEL_PREFIX}{name}").into_bytes()
}

/// The class of the object that signs with `algorithm`.
pub const fn key_class(algorithm: Algorithm) -> ObjectClass {
    if algorithm.is_hmac() { ObjectClass::SECRET_KEY } else { ObjectClass::PRIVATE_KEY }
}

/// Every key record on the token, with the highest revision of each name. A record that cannot be
/// read is left out with a warning.
pub fn stored_records(session: &Session) -> Result<Vec<StoredRecord>, Fault> {
    let template = [
        Attribute::Class(ObjectClass::DATA),
        Attribute::Token(true),
        Attribute::Application(APPLICATION.to_vec()),
    ];
    let mut found: Vec<StoredRecord> = Vec::new();
    for object in session.find_objects(&template)? {
        let Some(stored) = read_record(session, object)? else {
            tracing::warn!(
                "a data object of countersign on the token cannot be read and is ignored"
            );
            continue;
        };
        match found.iter_mut().find(|other| other.name == stored.name) {
            Some(other) if other.record.revision < stored.record.revision => *other = stored,
            Some(_) => {}
            None => found.push(stored),
        }
    }
    Ok(found)
}

/// The record of one name.
pub fn stored_record(session: &Session, name: &str) -> Result<Option<StoredRecord>, Fault> {
    Ok(stored_records(session)?.into_iter().find(|stored| stored.name == name))
}

fn read_record(session: &Session, object: ObjectHandle) -> Result<Option<StoredRecord>, Fault> {
    let mut name = None;
    let mut record = None;
    for attribute in
        session.get_attributes(object, &[AttributeType::Label, AttributeType::Value])?
    {
        match attribute {
            Attribute::Label(label) => {
                let text = String::from_utf8(label).ok();
                name = text.and_then(|text| Some(text.strip_prefix(LABEL_PREFIX)?.to_owned()));
            }
            Attribute::Value(value) => {
                record = serde_json::from_slice::<KeyRecord>(&Zeroizing::new(value)).ok()
            }
            _ => {}
        }
    }
    let ours = |(name, record): &(String, KeyRecord)| is_plain_name(name) && record.v == 1;
    Ok(name.zip(record).filter(ours).map(|(name, record)| StoredRecord { name, record, object }))
}

/// Writes a record; `session` must be one that can write.
pub fn store_record(
    session: &Session,
    name: &str,
    record: &KeyRecord,
) -> Result<ObjectHandle, Fault> {
    let value = Zeroizing::new(serde_json::to_vec(record).map_err(|_| unwritable())?);
    let template = SecretTemplate(vec![
        Attribute::Class(ObjectClass::DATA),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Application(APPLICATION.to_vec()),
        Attribute::Label(label(name)),
        Attribute::Value(value.to_vec()),
    ]);
    Ok(session.create_object(&template.0)?)
}

fn unwritable() -> Fault {
    Fault::passing(HostError::Token("a key record that cannot be written".to_owned()))
}

/// The one key object that `record` describes.
pub fn find_key(session: &Session, record: &KeyRecord) -> Result<Option<ObjectHandle>, Fault> {
    let Some(id) = record.id_bytes() else { return Ok(None) };
    let template =
        [Attribute::Class(key_class(record.algorithm)), Attribute::Token(true), Attribute::Id(id)];
    match session.find_objects(&template)?.as_slice() {
        [key] => Ok(Some(*key)),
        _ => Ok(None),
    }
}

/// Every object labelled with this name. Keys come before records, so that objects that are left
/// after a failure are still found.
pub fn objects_of(session: &Session, name: &str) -> Result<Vec<ObjectHandle>, Fault> {
    let mut objects = Vec::new();
    let classes = [
        ObjectClass::SECRET_KEY,
        ObjectClass::PRIVATE_KEY,
        ObjectClass::PUBLIC_KEY,
        ObjectClass::DATA,
    ];
    for class in classes {
        let template =
            [Attribute::Class(class), Attribute::Token(true), Attribute::Label(label(name))];
        objects.extend(session.find_objects(&template)?);
    }
    Ok(objects)
}

/// The attributes by which a token describes the protection of a key.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Protection {
    pub sensitive: Option<bool>,
    pub extractable: Option<bool>,
    pub never_extractable: Option<bool>,
    pub local: Option<bool>,
}

impl Protection {
    pub fn of(session: &Session, key: ObjectHandle) -> Result<Self, Fault> {
        let asked = [
            AttributeType::Sensitive,
            AttributeType::Extractable,
            AttributeType::NeverExtractable,
            AttributeType::Local,
        ];
        let mut protection = Self::default();
        for attribute in session.get_attributes(key, &asked)? {
            match attribute {
                Attribute::Sensitive(value) => protection.sensitive = Some(value),
                Attribute::Extractable(value) => protection.extractable = Some(value),
                Attribute::NeverExtractable(value) => protection.never_extractable = Some(value),
                Attribute::Local(value) => protection.local = Some(value),
                _ => {}
            }
        }
        Ok(protection)
    }

    /// True only if the token says that the key cannot leave it.
    pub fn keeps_the_key(self) -> bool {
        self.sensitive == Some(true) && self.extractable == Some(false)
    }

    /// True only if the token says that the key was made in it and could never leave it.
    pub fn was_born_inside(self) -> bool {
        self.keeps_the_key() && self.local == Some(true) && self.never_extractable == Some(true)
    }
}

/// An object template whose byte strings are wiped when it is dropped.
pub struct SecretTemplate(pub Vec<Attribute>);

impl Drop for SecretTemplate {
    fn drop(&mut self) {
        for attribute in &mut self.0 {
            match attribute {
                Attribute::Coefficient(bytes)
                | Attribute::Exponent1(bytes)
                | Attribute::Exponent2(bytes)
                | Attribute::Prime1(bytes)
                | Attribute::Prime2(bytes)
                | Attribute::PrivateExponent(bytes)
                | Attribute::Value(bytes) => bytes.zeroize(),
                _ => {}
            }
        }
    }
}

impl std::fmt::Debug for SecretTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretTemplate([redacted])")
    }
}
