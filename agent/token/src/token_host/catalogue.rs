//! The keys with which a host can sign. They are found once, and each has a working copy if the
//! token makes one.

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_base::messages::token_host::{HostError, HostedKey};
use countersign_core::algorithm::Algorithm;
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::Session;

use crate::token::fault::Fault;
use crate::token::mechanism::SigningMechanism;
use crate::token::objects::{self, KeyRecord, Protection, StoredRecord};
use crate::token::pkcs11::Pkcs11Token;

/// One key, ready to sign.
#[derive(Debug)]
pub struct SigningKey {
    name: String,
    pub mechanism: SigningMechanism,
    record: KeyRecord,
    original: ObjectHandle,
    copy: Option<ObjectHandle>,
}

impl SigningKey {
    /// The object that C_SignInit gets.
    pub fn handle(&self) -> ObjectHandle {
        self.copy.unwrap_or(self.original)
    }

    pub fn algorithm(&self) -> Algorithm {
        self.record.algorithm
    }

    pub fn passphrase(&self) -> Option<&str> {
        self.record.passphrase.as_ref().map(|passphrase| passphrase.as_str())
    }

    fn describe(&self) -> HostedKey {
        HostedKey {
            name: self.name.clone(),
            algorithm: self.record.algorithm,
            api_key: self.record.api_key.as_ref().map(|api_key| api_key.to_string()),
            has_passphrase: self.record.passphrase.is_some(),
            public_key_der: self.record.public_key_der(),
            working_copy: self.copy.is_some(),
        }
    }
}

/// Every key by name. Working copies belong to the keeper's session and serve every thread of the
/// process.
#[derive(Debug, Default)]
pub struct Catalogue(BTreeMap<String, Arc<SigningKey>>);

impl Catalogue {
    pub fn key(&self, name: &str) -> Option<&Arc<SigningKey>> {
        self.0.get(name)
    }

    pub fn describe(&self) -> Vec<HostedKey> {
        self.0.values().map(|key| key.describe()).collect()
    }

    /// Looks for keys again. Working copies of keys that are still there are kept, and the others
    /// are destroyed.
    pub fn rescan(&mut self, token: &Pkcs11Token, keeper: &Session) -> Result<(), Fault> {
        let mut keys = BTreeMap::new();
        for stored in objects::stored_records(keeper)? {
            let copy = self.copy_of(&stored);
            if let Some(key) = open_key(token, keeper, stored, copy)? {
                keys.insert(key.name.clone(), Arc::new(key));
            }
        }
        let before = std::mem::replace(&mut self.0, keys);
        for copy in before.values().filter_map(|key| key.copy) {
            if !self.0.values().any(|key| key.copy == Some(copy)) {
                keeper.destroy_object(copy)?;
            }
        }
        Ok(())
    }

    fn copy_of(&self, stored: &StoredRecord) -> Option<ObjectHandle> {
        self.0.values().find(|key| key.record.id == stored.record.id).and_then(|key| key.copy)
    }
}

fn open_key(
    token: &Pkcs11Token,
    keeper: &Session,
    stored: StoredRecord,
    copy: Option<ObjectHandle>,
) -> Result<Option<SigningKey>, Fault> {
    let StoredRecord { name, record, .. } = stored;
    let Some(mechanism) =
        SigningMechanism::choose(record.algorithm, token.profile(), token.mechanisms())
    else {
        tracing::warn!(key = name, algorithm = %record.algorithm, "the token does not offer this \
            key's algorithm");
        return Ok(None);
    };
    let Some(original) = objects::find_key(keeper, &record)? else {
        tracing::warn!(
            key = name,
            "the token holds a record of this key but not exactly one key for it"
        );
        return Ok(None);
    };
    if !Protection::of(keeper, original)?.keeps_the_key() {
        tracing::warn!(key = name, "the token could give this key away: it is not used");
        return Ok(None);
    }
    let copy = match copy {
        None if token.profile().working_copy => make_copy(keeper, original)?,
        kept => kept,
    };
    Ok(Some(SigningKey { name, mechanism, record, original, copy }))
}

/// A session copy; `None` if the token refuses to make one. If a copy could leave the token, the
/// token is not used.
pub fn make_copy(session: &Session, original: ObjectHandle) -> Result<Option<ObjectHandle>, Fault> {
    let Ok(copy) = session.copy_object(original, &[Attribute::Token(false)]) else {
        return Ok(None);
    };
    if Protection::of(session, copy)?.keeps_the_key() {
        return Ok(Some(copy));
    }
    session.destroy_object(copy)?;
    Err(copies_leak())
}

/// Asks for a copy that may leave the token. A token that makes such a copy protects nothing, and
/// is refused.
///
/// `key` is the host's own and was made for this test, so that no operator's key is ever at risk.
pub fn prove_that_copies_stay_inside(session: &Session, key: ObjectHandle) -> Result<(), Fault> {
    let leaking = [
        vec![Attribute::Token(false), Attribute::Extractable(true)],
        vec![Attribute::Token(false), Attribute::Extractable(true), Attribute::Sensitive(false)],
    ];
    for template in &leaking {
        let Ok(copy) = session.copy_object(key, template) else { continue };
        let protection = Protection::of(session, copy)?;
        session.destroy_object(copy)?;
        if !protection.keeps_the_key() {
            return Err(copies_leak());
        }
    }
    Ok(())
}

fn copies_leak() -> Fault {
    Fault::broken(HostError::Refused(
        "it lets a copy of a protected key become extractable".to_owned(),
    ))
}
