//! The records of a YubiKey's keys: one file for each key in the agent's state directory, written
//! at enrolment.
//!
//! PIV has no private data objects, and writing its public ones takes the management key. So the
//! record, which other tokens hold themselves, is kept here, with the attestation. Nothing in it is
//! secret: it signs nothing without a touch.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use countersign_base::messages::settings::{TokenSettings, is_plain_name};
use countersign_base::messages::token_host::{HostError, HostedKey};
use countersign_base::messages::yubikey::Slot;
use countersign_core::algorithm::Algorithm;
use countersign_core::attestation::Root;
use serde::{Deserialize, Serialize};

use crate::token::public_key::PublicKey;

const YUBIKEYS_DIRECTORY: &str = "yubikeys";
const YUBIKEY_RECORD_EXTENSION: &str = ".json";
/// Longest record that is read, in bytes: two certificates and a little more.
const LARGEST_YUBIKEY_RECORD: u64 = 64 * 1024;

/// One key that was made in a slot.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct YubiKeyRecord {
    pub v: u8,
    pub name: String,
    pub serial: u32,
    pub slot: Slot,
    pub algorithm: Algorithm,
    /// SubjectPublicKeyInfo in DER as base64.
    pub public_key: String,
    /// The id that the exchange gave for the key; absent until the key is activated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// The certificates of the slot and of the attestation key, PEM. Anybody can verify them.
    pub attestation: String,
    /// The root that vouches for the attestation.
    pub attested_by: Root,
}

impl YubiKeyRecord {
    pub fn public_key_der(&self) -> Option<Vec<u8>> {
        data_encoding::BASE64.decode(self.public_key.as_bytes()).ok()
    }

    pub fn public_key(&self) -> Option<PublicKey> {
        PublicKey::from_der(self.algorithm, &self.public_key_der()?)
    }

    pub fn describe(&self) -> HostedKey {
        HostedKey {
            name: self.name.clone(),
            algorithm: self.algorithm,
            api_key: self.api_key.clone(),
            has_passphrase: false,
            public_key_der: self.public_key_der(),
            working_copy: false,
        }
    }
}

/// The records of one token.
#[derive(Clone, Debug)]
pub struct YubiKeyRecords {
    directory: PathBuf,
    serial: u32,
}

impl YubiKeyRecords {
    /// Opens the records, and makes the directory if it is missing.
    pub fn open(settings: &TokenSettings, serial: u32) -> Result<Self, HostError> {
        let directory = directory(settings);
        let made = DirBuilder::new().mode(0o700).recursive(true).create(&directory);
        made.map_err(|error| unusable(&directory, &error))?;
        Ok(Self { directory, serial })
    }

    /// All records, by name. A file that is not a record is an error, so that no key goes missing
    /// silently. A record of another YubiKey is left out.
    pub fn all(&self) -> Result<Vec<YubiKeyRecord>, HostError> {
        let mut names = Vec::new();
        for entry in
            fs::read_dir(&self.directory).map_err(|error| unusable(&self.directory, &error))?
        {
            let name = entry.map_err(|error| unusable(&self.directory, &error))?.file_name();
            names.extend(
                name.to_str()
                    .and_then(|name| name.strip_suffix(YUBIKEY_RECORD_EXTENSION))
                    .map(str::to_owned),
            );
        }
        names.sort();
        let records: Result<Vec<_>, _> = names.iter().map(|name| self.read(name)).collect();
        Ok(records?.into_iter().filter(|record| record.serial == self.serial).collect())
    }

    pub fn get(&self, name: &str) -> Result<Option<YubiKeyRecord>, HostError> {
        Ok(self.all()?.into_iter().find(|record| record.name == name))
    }

    /// Writes a record whole, as a new file or over the old one.
    pub fn put(&self, record: &YubiKeyRecord) -> Result<(), HostError> {
        let path = self.path(&record.name);
        self.write(&path, record).map_err(|error| unusable(&path, &error))
    }

    pub fn remove(&self, name: &str) -> Result<(), HostError> {
        let path = self.path(name);
        let removed = fs::remove_file(&path).and_then(|()| File::open(&self.directory)?.sync_all());
        removed.map_err(|error| unusable(&path, &error))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}{YUBIKEY_RECORD_EXTENSION}"))
    }

    fn read(&self, name: &str) -> Result<YubiKeyRecord, HostError> {
        let path = self.path(name);
        let mut text = Vec::new();
        let read = File::open(&path)
            .and_then(|file| file.take(LARGEST_YUBIKEY_RECORD).read_to_end(&mut text));
        read.map_err(|error| unusable(&path, &error))?;
        let record: YubiKeyRecord =
            serde_json::from_slice(&text).map_err(|error| unusable(&path, &error))?;
        let sound = record.v == 1
            && record.name == name
            && is_plain_name(name)
            && record.public_key().is_some();
        if sound { Ok(record) } else { Err(unusable(&path, &"it is no record of a key")) }
    }

    fn write(&self, path: &Path, record: &YubiKeyRecord) -> io::Result<()> {
        let new = path.with_extension("new");
        let options = &mut File::options();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(record)?)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(&self.directory)?.sync_all()
    }
}

/// The directory of a token's records.
pub fn directory(settings: &TokenSettings) -> PathBuf {
    settings.state_dir.join(YUBIKEYS_DIRECTORY).join(&settings.name)
}

fn unusable(path: &Path, reason: &dyn std::fmt::Display) -> HostError {
    HostError::Refused(format!(
        "the record of its keys in {} cannot be used: {reason}",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_base::messages::settings::PinSource;

    use crate::token::pin::pin_tests::settings;

    fn record(name: &str, serial: u32) -> YubiKeyRecord {
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
        let der = PublicKey::Ed25519(key).to_der().expect("DER");
        YubiKeyRecord {
            v: 1,
            name: name.to_owned(),
            serial,
            slot: Slot::AUTHENTICATION,
            algorithm: Algorithm::Ed25519,
            public_key: data_encoding::BASE64.encode(&der),
            api_key: None,
            attestation: String::new(),
            attested_by: Root::Other,
        }
    }

    #[test]
    fn records_are_kept_by_name_and_those_of_another_yubikey_are_not_this_ones() {
        let state = tempfile::tempdir().expect("a directory");
        let settings = TokenSettings {
            state_dir: state.path().to_owned(),
            ..settings(PinSource::Prompt, None)
        };
        let records = YubiKeyRecords::open(&settings, 7).expect("opens");
        records.put(&record("one", 7)).expect("written");
        records.put(&record("other", 8)).expect("written");
        assert_eq!(records.all().expect("read"), [record("one", 7)]);
        let active = YubiKeyRecord { api_key: Some("id".to_owned()), ..record("one", 7) };
        records.put(&active).expect("written over");
        assert_eq!(records.get("one").expect("read"), Some(active));
        records.remove("one").expect("removed");
        assert!(records.all().expect("read").is_empty());
        for damaged in ["", "{}", "{\"v\":1}"] {
            fs::write(directory(&settings).join("x.json"), damaged).expect("written");
            assert!(matches!(records.all(), Err(HostError::Refused(_))), "{damaged:?}");
        }
    }
}
