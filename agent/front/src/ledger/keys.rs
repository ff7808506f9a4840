//! Keeps one small file for each enrolled key. It holds no secret and no API key id: those are on
//! the token.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign_base::system::full_disk::is_full;
use countersign_core::algorithm::Algorithm;
use countersign_core::attestation::Root;
use countersign_core::key::{Environment, KeyName, NonceUnit, Tier};
use countersign_core::scope::Scopes;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::storage::Storage;

/// The contents of a key's file: the key as it was enrolled.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    pub name: KeyName,
    pub exchange: String,
    pub environment: Environment,
    /// Name of the token in `agent.toml`.
    pub token: String,
    pub algorithm: Algorithm,
    pub cka_id: CkaId,
    pub scopes: Scopes,
    pub tier: Tier,
    pub rung: Rung,
    /// True if the token refuses any other mechanism with this key.
    pub mechanism_bound: bool,
    pub state: KeyFileState,
    pub created_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce_unit: Option<NonceUnit>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key_pem: Option<String>,
    /// On rung 1: the root of the attestation that proves the touch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touch_attested_by: Option<Root>,
    /// The slot of a YubiKey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyFileState {
    Active,
    /// The key was generated on the token, and the exchange has not given its id yet.
    AwaitingApiKey,
}

/// The kind of protection by touch: 1 is a key in a touch slot, 2 a vault that a touch opens, 3
/// policy only.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Rung {
    One = 1,
    Two = 2,
    Three = 3,
}

impl TryFrom<u8> for Rung {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        match number {
            1 => Ok(Self::One),
            2 => Ok(Self::Two),
            3 => Ok(Self::Three),
            _ => Err("a rung is 1, 2 or 3"),
        }
    }
}

impl From<Rung> for u8 {
    fn from(rung: Rung) -> Self {
        rung as Self
    }
}

/// The id of a key's objects on its token; hex in the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CkaId(pub Vec<u8>);

impl Serialize for CkaId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for CkaId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        HEXLOWER.decode(text.as_bytes()).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Why the key files could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("{} is not a key file: {reason}", .path.display())]
    Invalid { path: PathBuf, reason: String },
    #[error("could not {doing} {}", .path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
}

impl KeyFileError {
    /// True if there was no room, and nothing else was wrong.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source))
    }
}

/// The directory of key files below a state directory.
#[derive(Clone, Debug)]
pub struct KeyFiles {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
}

/// A file that is not complete yet.
const UNFINISHED_KEY_FILE: &str = ".new";
const KEY_FILE_EXTENSION: &str = ".json";
/// Most bytes that are read of a key file. A public key of RSA 4096 has 800 bytes.
const LARGEST_KEY_FILE: u64 = 64 * 1024;

impl KeyFiles {
    /// Makes the directory if it is missing, and removes files that a crash left half written.
    pub fn open(storage: Arc<dyn Storage>, state_dir: &Path) -> Result<Self, KeyFileError> {
        let files = Self { storage, dir: state_dir.join("keys") };
        let dir = &files.dir;
        files.storage.create_dir(dir).map_err(|source| io_error("make", dir, source))?;
        files.storage.sync_dir(state_dir).map_err(|source| io_error("sync", state_dir, source))?;
        for name in files.names()?.into_iter().filter(|name| name.ends_with(UNFINISHED_KEY_FILE)) {
            let path = dir.join(name);
            files.storage.remove(&path).map_err(|source| io_error("remove", &path, source))?;
        }
        Ok(files)
    }

    /// All keys, sorted by name. A file that is not a key file is an error: it is not skipped.
    pub fn load_all(&self) -> Result<Vec<KeyFile>, KeyFileError> {
        self.names()?.iter().map(|name| self.load(name)).collect()
    }

    /// Writes a key's file, or replaces the old one. After a crash the file is complete: the old
    /// one or the new one.
    pub fn save(&self, key: &KeyFile) -> Result<(), KeyFileError> {
        let path = self.path(&key.name);
        self.write(&path, key).map_err(|source| io_error("write", &path, source))
    }

    /// Removes a key's file. It is no error if the file is gone already.
    pub fn remove(&self, name: &KeyName) -> Result<(), KeyFileError> {
        let path = self.path(name);
        let removed = match self.storage.remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        };
        removed
            .and_then(|()| self.storage.sync_dir(&self.dir))
            .map_err(|source| io_error("remove", &path, source))
    }

    fn write(&self, path: &Path, key: &KeyFile) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(key)?;
        text.push(b'\n');
        let temporary =
            self.dir.join(format!("{}{KEY_FILE_EXTENSION}{UNFINISHED_KEY_FILE}", key.name));
        match self.storage.remove(&temporary) {
            // An earlier write that failed left this file.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = self.storage.create(&temporary)?;
        file.write(&text)?;
        file.sync()?;
        self.storage.rename(&temporary, path)?;
        self.storage.sync_dir(&self.dir)
    }

    fn load(&self, name: &str) -> Result<KeyFile, KeyFileError> {
        let path = self.dir.join(name);
        let invalid = |reason: String| KeyFileError::Invalid { path: path.clone(), reason };
        let named =
            name.strip_suffix(KEY_FILE_EXTENSION).and_then(|stem| KeyName::parse(stem).ok());
        let named = named.ok_or_else(|| {
            invalid("its name is not NAME.json with the name of a key".to_owned())
        })?;
        let mut text = Vec::new();
        let opened = self
            .storage
            .open(&path, 0)
            .and_then(|file| file.take(LARGEST_KEY_FILE).read_to_end(&mut text));
        opened.map_err(|source| io_error("read", &path, source))?;
        let key: KeyFile =
            serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))?;
        if key.name != named {
            return Err(invalid(format!("it is the file of key {}", key.name)));
        }
        Ok(key)
    }

    fn names(&self) -> Result<Vec<String>, KeyFileError> {
        let files =
            self.storage.list(&self.dir).map_err(|source| io_error("list", &self.dir, source))?;
        Ok(files.into_iter().map(|(name, _)| name).collect())
    }

    fn path(&self, name: &KeyName) -> PathBuf {
        self.dir.join(format!("{name}{KEY_FILE_EXTENSION}"))
    }
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> KeyFileError {
    KeyFileError::Io { doing, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use countersign_core::scope::Scope;

    use super::*;
    use crate::ledger::simulated_disk::{Loss, SimulatedDisk};
    use crate::ledger::storage::Disk;

    fn key(name: &str) -> KeyFile {
        KeyFile {
            name: KeyName::parse(name).expect(name),
            exchange: "kraken".to_owned(),
            environment: Environment::Production,
            token: "hsm".to_owned(),
            algorithm: Algorithm::HmacSha512,
            cka_id: CkaId(vec![0, 255]),
            scopes: [Scope::Read, Scope::Trade].into_iter().collect(),
            tier: Tier::Imported,
            rung: Rung::Two,
            mechanism_bound: true,
            state: KeyFileState::Active,
            created_ms: 1_700_000_000_000,
            expires_ms: None,
            nonce_unit: Some(NonceUnit::Microseconds),
            public_key_pem: None,
            touch_attested_by: None,
            slot: None,
        }
    }

    #[test]
    fn keys_are_saved_replaced_and_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = KeyFiles::open(Arc::new(Disk), dir.path()).expect("opens");
        let (one, mut two) = (key("a"), key("b.c-d_e"));
        files.save(&one).expect("saved");
        files.save(&two).expect("saved");
        two.state = KeyFileState::AwaitingApiKey;
        files.save(&two).expect("saved");
        assert_eq!(files.load_all().expect("loads"), [one.clone(), two.clone()]);
        files.remove(&one.name).expect("removed");
        files.remove(&one.name).expect("gone already");
        assert_eq!(
            KeyFiles::open(Arc::new(Disk), dir.path()).expect("opens").load_all().expect("loads"),
            [two]
        );
    }

    #[test]
    fn what_is_no_key_file_is_an_error() {
        let good = serde_json::to_string(&key("k")).expect("serialises");
        let cases = [
            ("other.json", good.clone(), "it is the file of key k"),
            ("k.txt", good.clone(), "its name is not"),
            ("K.json", good.clone(), "its name is not"),
            (
                "k.json",
                good.replace("\"tier\"", "\"secret\":\"x\",\"tier\""),
                "unknown field `secret`",
            ),
            ("k.json", good.replace("\"rung\":2", "\"rung\":4"), "a rung is 1, 2 or 3"),
            ("k.json", good.replace("00ff", "00FF"), "invalid"),
            ("k.json", good.replace("hmac-sha512", "md5"), "unknown variant `md5`"),
            ("k.json", good.replace("\"read\"", "\"read-all\""), "unknown variant `read-all`"),
            ("k.json", good[..good.len() - 1].to_owned(), "EOF"),
        ];
        for (name, text, expected) in cases {
            let dir = tempfile::tempdir().expect("a directory");
            let files = KeyFiles::open(Arc::new(Disk), dir.path()).expect("opens");
            std::fs::write(dir.path().join("keys").join(name), text).expect("written");
            let error = files.load_all().expect_err(expected).to_string();
            assert!(error.contains(expected) && error.contains(name), "{error}");
        }
    }

    #[test]
    fn a_power_cut_leaves_the_old_file_or_the_new_one() {
        let (old, mut new) = (key("k"), key("k"));
        new.state = KeyFileState::AwaitingApiKey;
        for operation in 0.. {
            let disk = SimulatedDisk::default();
            let files = KeyFiles::open(Arc::new(disk.clone()), Path::new("/s")).expect("opens");
            files.save(&old).expect("saved");
            disk.fail_after(operation);
            let saved = files.save(&new).is_ok();
            for loss in Loss::ALL {
                let files = KeyFiles::open(Arc::new(disk.after_power_cut(loss)), Path::new("/s"))
                    .expect("opens");
                let found = files.load_all().expect("whole files only");
                assert!(
                    found == [new.clone()] || !saved && found == [old.clone()],
                    "{operation} {loss:?}: {found:?}"
                );
            }
            if saved {
                break;
            }
        }
    }
}
