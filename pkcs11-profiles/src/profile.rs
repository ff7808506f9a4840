//! The fields of a profile; unknown ones are refused, and none has a default.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What one PKCS#11 module needs and can do.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The name used in configuration, such as `softhsm`.
    pub name: String,
    /// What a person knows it as.
    pub title: String,
    /// Where the module lies, by system, tried in order.
    pub libraries: BTreeMap<System, Vec<PathBuf>>,
    pub tier: Tier,
    pub algorithms: Vec<Algorithm>,
    /// How a secret that was outside gets in.
    pub import: Import,
    /// The key type an imported HMAC secret is given.
    pub secret_key_type: SecretKeyType,
    /// What an HMAC secret is made into before it is imported.
    pub padding: Padding,
    pub pin: PinForm,
    pub pin_rotation: PinRotation,
    pub sessions: Sessions,
    /// Sessions the token has in all; absent where no limit is known.
    pub max_sessions: Option<u32>,
    /// Longest message one signature may cover, in bytes; absent where no limit is known.
    pub max_message: Option<usize>,
    /// Seconds after which the token drops an unused session; absent where it does not.
    pub idle_timeout_s: Option<u64>,
    /// Sign with a session copy of the key, which is faster where it works.
    pub working_copy: bool,
    /// Threads that sign at the same time; 1 unless the token is on a network.
    pub workers: u32,
    /// Names of environment variables the module may be given.
    pub environment: Vec<String>,
    pub reach: Reach,
    /// Files that say where the token's own files are: once logged in the module reads them, and
    /// writes to the directories they name. `$NAME` stands for a variable.
    #[serde(default)]
    pub configuration: Vec<String>,
    /// What it writes beside those once logged in, likewise.
    #[serde(default)]
    pub writes: Vec<String>,
    pub evidence: Evidence,
    /// What was tried or read, with versions, and what a person must know.
    pub note: String,
}

impl Profile {
    /// Parses one profile of an operator's; anything unknown or missing is refused.
    pub fn from_toml(text: &str) -> Result<Self, ProfileError> {
        let profile = Self::embedded(text)?;
        if super::RESERVED.contains(&profile.name.as_str()) {
            return Err(ProfileError::Reserved(profile.name));
        }
        Ok(profile)
    }

    /// Parses one of those that are shipped.
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

    /// Where the module may lie on the system this was built for, in the order to try.
    pub fn library_paths(&self) -> &[PathBuf] {
        System::current().and_then(|system| self.libraries.get(&system)).map_or(&[], Vec::as_slice)
    }

    /// True for the one profile that is no PKCS#11 module.
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

/// Where the token computes: `software` is for tests and trials.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    Hardware,
    Software,
}

/// A signature algorithm, by its name in configuration and protocol.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    EcdsaP256Sha256,
    Ed25519,
    HmacSha256,
    HmacSha384,
    HmacSha512,
    RsaPkcs1v15Sha256,
}

impl Algorithm {
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

/// How a secret gets in.
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
    /// CKK_SHA256_HMAC and its brothers.
    Hmac,
    /// The token holds no HMAC secrets.
    None,
}

/// What an HMAC secret is made into; by HMAC's definition the result signs the same.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Padding {
    /// Hashed first where longer than the hash's block, then filled with zeros up to the block.
    Block,
    /// The token holds no HMAC secrets.
    None,
}

/// What the PIN looks like.
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

/// How the user PIN is changed.
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

/// What the module needs once it is logged in; the rest is taken from its process.
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

/// Whether the module was run, or its documentation and source were read.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
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
            let without: String = SOFTHSM
                .lines()
                .filter(|line| !line.starts_with(&format!("{field} =")))
                .fold(String::new(), |all, line| all + line + "\n");
            assert_ne!(without.trim(), SOFTHSM.trim(), "{field} stands on a line of its own");
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
