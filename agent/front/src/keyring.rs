//! Keeps the enrolled keys: joins the key files with the keys that the tokens hold.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use countersign_base::messages::token_host::HostedKey;
use countersign_core::calendar::iso8601_ms;
use countersign_core::exchange::{self, Nonce};
use countersign_core::key::{Key, KeyName, NonceUnit};
use countersign_core::refusal::{Code, Refusal};
use countersign_core::signer;
use countersign_core::wire::{KeyEntry, KeyState};

use crate::ledger::keys::{KeyFile, KeyFileError, KeyFileState, KeyFiles, Rung};

/// The operator is told this long before the exchange lets a key expire: two weeks.
const EXPIRES_SOON_MS: u64 = 14 * 24 * 60 * 60 * 1000;

/// All keys of this agent, by name.
#[derive(Debug)]
pub struct Keyring {
    keys: RefCell<BTreeMap<KeyName, Enrolled>>,
    pub files: KeyFiles,
}

#[derive(Debug)]
struct Enrolled {
    file: KeyFile,
    /// The key as it was last seen on the token. It is kept while the token is down, so that the
    /// answer is `token.unavailable`.
    hosted: Option<HostedKey>,
    /// The key as the core uses it; `None` while something is missing.
    ready: Option<Rc<Key>>,
}

impl Keyring {
    /// Loads every key that has a file.
    pub fn of(files: KeyFiles) -> Result<Self, KeyFileError> {
        let found = files.load_all()?;
        let keyring = Self { keys: RefCell::default(), files };
        found.into_iter().for_each(|file| keyring.put(file));
        Ok(keyring)
    }

    /// Adds a key, or replaces its file.
    pub fn put(&self, file: KeyFile) {
        let mut keys = self.keys.borrow_mut();
        let before = keys.remove(&file.name);
        let mut enrolled =
            Enrolled { ready: None, hosted: before.and_then(|key| key.hosted), file };
        enrolled.refresh();
        keys.insert(enrolled.file.name.clone(), enrolled);
    }

    pub fn remove(&self, name: &KeyName) {
        self.keys.borrow_mut().remove(name);
    }

    pub fn file(&self, name: &str) -> Option<KeyFile> {
        self.keys.borrow().get(name).map(|key| key.file.clone())
    }

    /// The tokens that hold keys.
    pub fn tokens(&self) -> BTreeSet<String> {
        self.keys.borrow().values().map(|key| key.file.token.clone()).collect()
    }

    /// Warns the operator of keys that the exchange let expire, or will soon. The exchange enforces
    /// the expiry, not the agent.
    pub fn expiring(&self, now_ms: u64) -> Vec<String> {
        let enrolled = self.keys.borrow();
        let soon = enrolled.values().filter_map(|enrolled| {
            let (name, expires_ms) = (&enrolled.file.name, enrolled.file.expires_ms?);
            let moment = iso8601_ms(expires_ms);
            match expires_ms.checked_sub(now_ms) {
                None => Some(format!(
                    "the exchange let the key {name} expire at {moment}: enrol another one"
                )),
                Some(left_ms) if left_ms < EXPIRES_SOON_MS => Some(format!(
                    "the exchange lets the key {name} expire at {moment}: enrol the next one before"
                )),
                Some(_) => None,
            }
        });
        soon.collect()
    }

    pub fn names(&self) -> Vec<KeyName> {
        self.keys.borrow().keys().cloned().collect()
    }

    /// Takes note of the keys that a token says it holds.
    pub fn hosted(&self, token: &str, hosted: &[HostedKey]) {
        for key in self.keys.borrow_mut().values_mut().filter(|key| key.file.token == token) {
            key.hosted =
                hosted.iter().find(|hosted| hosted.name == key.file.name.as_str()).cloned();
            key.refresh();
        }
    }

    /// The key for an explanation. An explanation signs nothing, so the token may be down.
    pub fn to_explain(&self, name: &str) -> Result<Key, Refusal> {
        let file = self.file(name).ok_or_else(|| {
            Refusal::new(Code::KeyUnknown, format!("there is no key named {name:?}"))
        })?;
        as_key(&file, String::new()).ok_or_else(|| {
            Refusal::new(Code::Internal, format!("the exchange {} is not known", file.exchange))
        })
    }

    pub fn public_key_der(&self, name: &str) -> Option<Vec<u8>> {
        self.keys.borrow().get(name)?.hosted.as_ref()?.public_key_der.clone()
    }

    /// The key as clients and operators see it.
    pub fn entry(
        &self,
        name: &str,
        token_is_up: bool,
        last_used_ms: Option<u64>,
    ) -> Option<KeyEntry> {
        let keys = self.keys.borrow();
        let Enrolled { file, hosted, ready } = keys.get(name)?;
        let state = match (file.state, ready) {
            (KeyFileState::AwaitingApiKey, _) => KeyState::AwaitingApiKey,
            (KeyFileState::Active, Some(_)) if token_is_up => KeyState::Active,
            (KeyFileState::Active, _) => KeyState::Unavailable,
        };
        Some(KeyEntry {
            name: file.name.clone(),
            exchange: file.exchange.clone(),
            environment: file.environment,
            algorithm: file.algorithm,
            api_key: hosted.as_ref().and_then(|hosted| hosted.api_key.clone()),
            scopes: file.scopes,
            tier: file.tier,
            rung: file.rung.into(),
            token: file.token.clone(),
            state,
            created_ms: file.created_ms,
            expires_ms: file.expires_ms,
            last_used_ms,
            created: iso8601_ms(file.created_ms),
            expires: file.expires_ms.map(iso8601_ms),
            last_used: last_used_ms.map(iso8601_ms),
            public_key: file.public_key_pem.clone(),
            touch_attested_by: file.touch_attested_by,
            slot: file.slot.clone(),
        })
    }
}

impl Enrolled {
    fn refresh(&mut self) {
        let key = match self.file.rung {
            // The agent sees the keys of a vault, and their API key ids, only after a touch: the
            // vault drafts the request.
            Rung::Two if self.file.state == KeyFileState::Active => {
                as_key(&self.file, String::new())
            }
            _ => self.hosted.as_ref().and_then(|hosted| ready(&self.file, hosted)),
        };
        self.ready = key.map(Rc::new);
    }

    /// Why the key cannot sign now.
    fn missing(&self) -> Refusal {
        let name = &self.file.name;
        let message = match (&self.hosted, self.file.state) {
            (_, KeyFileState::AwaitingApiKey) => {
                format!(
                    "the exchange's id for {name} is not known yet: countersign key activate \
                     {name} --api-key ID"
                )
            }
            (None, _) => format!(
                "the token {} has not shown the key {name} since the agent started",
                self.file.token
            ),
            (Some(hosted), _) => {
                let (token, unlike) = (&self.file.token, unlike(&self.file, hosted));
                format!(
                    "the key {name} on the token {token} is not the one that was enrolled, \
                     {unlike}: countersign key remove {name}, and enrol it again"
                )
            }
        };
        Refusal::new(Code::TokenUnavailable, message)
    }
}

/// Explains why [`ready`] returned `None`.
fn unlike(file: &KeyFile, hosted: &HostedKey) -> String {
    if hosted.algorithm != file.algorithm {
        return format!("a key for {} and not {}", hosted.algorithm.name(), file.algorithm.name());
    }
    let missing = if hosted.api_key.is_none() { "API key id" } else { "passphrase" };
    format!("there is no {missing} beside the key")
}

/// The key as the core uses it, if file and token agree.
fn ready(file: &KeyFile, hosted: &HostedKey) -> Option<Key> {
    let needs_passphrase = exchange::named(&file.exchange)?.facts().passphrase.is_needed();
    let agrees = hosted.algorithm == file.algorithm && hosted.has_passphrase >= needs_passphrase;
    (file.state == KeyFileState::Active && agrees).then_some(())?;
    as_key(file, hosted.api_key.clone()?)
}

fn as_key(file: &KeyFile, api_key: String) -> Option<Key> {
    let facts = exchange::named(&file.exchange)?.facts();
    Some(Key {
        name: file.name.clone(),
        exchange: facts.name,
        environment: file.environment,
        algorithm: file.algorithm,
        api_key,
        scopes: file.scopes,
        tier: file.tier,
        token: file.token.clone(),
        in_vault: file.rung == Rung::Two,
        nonce_unit: file.nonce_unit.unwrap_or(match facts.nonce {
            Nonce::Increasing(unit) => unit,
            Nonce::None | Nonce::Random | Nonce::Uuid => NonceUnit::Milliseconds,
        }),
    })
}

impl signer::KeyLookup for Keyring {
    fn key(&self, name: &str) -> Result<Rc<Key>, Refusal> {
        let keys = self.keys.borrow();
        let Some(enrolled) = keys.get(name) else {
            return Err(Refusal::new(
                Code::KeyUnknown,
                countersign_core::policy::unknown_key(name),
            ));
        };
        enrolled.ready.clone().ok_or_else(|| enrolled.missing())
    }
}
