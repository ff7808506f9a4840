//! The fields of a profile. A field that is not known is refused.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The needs and the abilities of one PKCS#11 module.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The name used in configuration, such as `softhsm`.
    pub name: String,
    /// The name that a person knows.
    pub title: String,
    /// Paths of the module by system, tried in order.
    pub libraries: BTreeMap<System, Vec<PathBuf>>,
    pub tier: ModuleTier,
    pub algorithms: Vec<ModuleAlgorithm>,
    /// The way to import a secret that was outside the token.
    pub import: Import,
    /// The key type of an imported HMAC secret.
    pub secret_key_type: SecretKeyType,
    /// The form of an HMAC secret at its import.
    pub padding: Padding,
    pub pin: PinForm,
    pub pin_rotation: PinRotation,
    pub sessions: Sessions,
    /// Sessions the token has in all; absent if no limit is known.
    pub max_sessions: Option<u32>,
    /// Longest message one signature may cover, in bytes; absent if no limit is known.
    pub max_message: Option<usize>,
    /// Seconds after which the token drops an unused session; absent if it does not.
    pub idle_timeout_s: Option<u64>,
    /// True to sign with a session copy of the key, which is faster if the token can do it.
    pub working_copy: bool,
    /// Threads that sign at the same time; 1 unless the token is on a network.
    pub workers: u32,
    /// Names of environment variables that the module may get.
    pub environment: Vec<String>,
    pub reach: Reach,
    /// Files that name the directories of the token's own files. After the login the module reads
    /// these files, and writes to those directories. `$NAME` stands for a variable.
    #[serde(default)]
    pub configuration: Vec<String>,
    /// Other paths that the module writes to after the login. `$NAME` stands for a variable here
    /// too.
    #[serde(default)]
    pub writes: Vec<String>,
    pub evidence: ProfileEvidence,
    /// The versions that were tried, or the texts that were read, and everything else that a person
    /// must know.
    pub note: String,
}

impl Profile {
    /// Parses one profile that an operator wrote; anything unknown or missing is refused.
    pub fn from_toml(text: &str) -> Result<Self, ProfileError> {
        let profile = Self::embedded(text)?;
        if super::RESERVED.contains(&profile.name.as_str()) {
            return Err(ProfileError::Reserved(profile.name));
        }
        Ok(profile)
    }

    /// Parses one profile that is shipped with the agent.
    pub(super) fn embedded(text: &str) -> Result<Self, ProfileError> {
        let profile: Self = toml::from_str(text)?;
        if profile.workers == 0 {
            return Err(ProfileError::NoWorkers(profile.name));
        }
        if let Some(relative) =
            profile.libraries.values().flatten().find(|path| !path.is_absolute())
        {
            return Err(ProfileError::RelativeLibrary(relative.clone()));
        }
        Ok(profile)
    }

    /// Paths of the module on the system this was built for, in the order to try.
    pub fn library_paths(&self) -> &[PathBuf] {
        System::current().and_then(|system| self.libraries.get(&system)).map_or(&[], Vec::as_slice)
    }

    /// True for the one profile that is not of a PKCS#11 module.
    pub fn is_yubikey(&self) -> bool {
        self.name == super::YUBIKEY
    }

    pub fn offers(&self, algorithm: &str) -> bool {
        self.algorithms.iter().any(|offered| offered.name() == algorithm)
    }
}

/// Why a profile was refused.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("profile {0} has no workers: at least one thread must sign")]
    NoWorkers(String),
    #[error("the profile cannot be read: {0}")]
    Parse(#[from] toml::de::Error),
    #[error("the library path {0} is not absolute")]
    RelativeLibrary(PathBuf),
    #[error("the name {0} is reserved for an adapter of its own")]
    Reserved(String),
}

/// A system that library paths are given for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum System {
    #[serde(rename = "linux-aarch64")]
    LinuxAarch64,
    #[serde(rename = "linux-x86_64")]
    LinuxX86_64,
}

impl System {
    const fn current() -> Option<Self> {
        if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            Some(Self::LinuxX86_64)
        } else if cfg!(all(target_os = "linux", target_arch = "aarch64")) {
            Some(Self::LinuxAarch64)
        } else {
            None
        }
    }
}

/// The place in which the token computes: hardware, or software for tests and trials.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleTier {
    Hardware,
    Software,
}

/// A signature algorithm, by its name in configuration and protocol.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleAlgorithm {
    EcdsaP256Sha256,
    Ed25519,
    HmacSha256,
    HmacSha384,
    HmacSha512,
    RsaPkcs1v15Sha256,
}

impl ModuleAlgorithm {
    pub const fn name(self) -> &'static str {
        match self {
            Self::EcdsaP256Sha256 => "ecdsa-p256-sha256",
            Self::Ed25519 => "ed25519",
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
            Self::RsaPkcs1v15Sha256 => "rsa-pkcs1v15-sha256",
        }
    }
}

/// The way to import a secret.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Import {
    /// C_CreateObject takes it.
    Create,
    /// Only with the vendor's own tool.
    External,
    /// C_UnwrapKey takes it, wrapped.
    Unwrap,
}

/// CKA_KEY_TYPE of an imported HMAC secret.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretKeyType {
    /// CKK_GENERIC_SECRET.
    Generic,
    /// CKK_SHA256_HMAC, or the key type of another hash.
    Hmac,
    /// The token holds no HMAC secrets.
    None,
}

/// The form of an HMAC secret at its import. By HMAC's definition the padded secret makes the same
/// signatures.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Padding {
    /// A secret that is longer than the hash's block is hashed first. It is then filled with zeros
    /// up to the block.
    Block,
    /// The token holds no HMAC secrets.
    None,
}

/// The form and the length of the PIN.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PinForm {
    /// Shown to a person who is asked for it.
    pub form: String,
    /// Shortest PIN the token takes, in bytes.
    pub min_length: usize,
    /// Longest PIN the token takes, in bytes.
    pub max_length: usize,
}

/// The way to change the user PIN.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinRotation {
    /// With the vendor's own tool.
    External,
    None,
    /// By C_SetPIN.
    Setpin,
}

/// The sessions the module gives out.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sessions {
    /// Signing needs no more than a read-only session.
    ReadOnly,
    /// The module refuses read-only sessions.
    ReadWrite,
}

/// The access that the module needs after the login. Its process gives up all other access.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// IP, and everything of `services`.
    Network,
    /// The files of the token and nothing else.
    OwnFiles,
    /// Unix sockets, shared memory and devices, and the system's files to read.
    Services,
}

/// The evidence for a profile: the module was run, or its documentation and source were read.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProfileEvidence {
    Read,
    Tried,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOFTHSM: &str = include_str!("../softhsm.toml");

    #[test]
    fn unknown_fields_are_refused() {
        for extra in ["colour = \"red\"\n", "Name = \"x\"\n"] {
            assert!(matches!(
                Profile::from_toml(&format!("{extra}{SOFTHSM}")),
                Err(ProfileError::Parse(_))
            ));
        }
        let in_pin = SOFTHSM.replace("min_length", "minimum");
        assert!(matches!(Profile::from_toml(&in_pin), Err(ProfileError::Parse(_))));
    }

    #[test]
    fn every_required_field_is_required() {
        for field in [
            "name",
            "tier",
            "algorithms",
            "import",
            "padding",
            "workers",
            "reach",
            "evidence",
            "note",
        ] {
            let mut fields: toml::Table = SOFTHSM.parse().expect("a profile is TOML");
            assert!(fields.remove(field).is_some(), "{field} is a field of the profile");
            let without = fields.to_string();
            assert!(Profile::from_toml(&without).is_err(), "{field} must not be optional");
        }
    }

    #[test]
    fn reserved_names_relative_paths_and_no_workers_are_refused() {
        let reserved = SOFTHSM.replace("name = \"softhsm\"", "name = \"yubikey-piv\"");
        assert!(matches!(Profile::from_toml(&reserved), Err(ProfileError::Reserved(_))));
        let relative = SOFTHSM.replace("\"/usr/lib/softhsm", "\"usr/lib/softhsm");
        assert!(matches!(Profile::from_toml(&relative), Err(ProfileError::RelativeLibrary(_))));
        let idle = SOFTHSM.replace("workers = 1", "workers = 0");
        assert!(matches!(Profile::from_toml(&idle), Err(ProfileError::NoWorkers(_))));
    }
}
