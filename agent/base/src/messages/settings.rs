//! The settings of a token, which the front sends to a token host or enrol child in the first
//! frame. They are never arguments or environment variables.

use std::io::Read;
use std::path::{Path, PathBuf};

use pkcs11_profiles::{ModuleTier, Profile};
use serde::{Deserialize, Serialize};

use super::confinement::Demand;
use super::token_host::HostError;
use crate::trusted_path::{self, Exposure};

const LONGEST_PROFILE: u64 = 64 * 1024;

/// One `[token.NAME]` of the configuration.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TokenSettings {
    /// The operator's name for the token: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// An embedded profile's name, or the absolute path of a profile file.
    pub profile: String,
    /// The module's path, if it is not one of the profile's.
    pub module: Option<PathBuf>,
    pub label: Option<String>,
    pub serial: Option<String>,
    /// File of certificates in PEM that may vouch for a YubiKey's keys, besides Yubico's.
    pub attestation_root: Option<PathBuf>,
    pub pin: PinSource,
    /// `$CREDENTIALS_DIRECTORY` of the agent, for [`PinSource::Credential`].
    pub credentials_directory: Option<PathBuf>,
    /// Variables for the module; the profile lists the names that are allowed.
    pub environment: Vec<(String, String)>,
    /// Directory of the record of PIN attempts.
    pub state_dir: PathBuf,
    pub allow_software_tokens: bool,
    pub confinement: Demand,
}

/// The source of a PIN.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum PinSource {
    /// A systemd credential, by name.
    Credential(String),
    /// A descriptor with which this process was started. A pipe can be read only once.
    Fd(i32),
    /// A file of mode 0600 or stricter.
    File(PathBuf),
    /// A person: pinentry, or the terminal.
    Prompt,
    /// Sealed to PIV keys, which open it only with a touch.
    Sealed(Box<SealedPin>),
}

/// A PIN that the keys of YubiKeys unseal.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SealedPin {
    /// The YubiKeys' names, sorted; the first that is plugged in is used.
    pub names: Vec<String>,
    /// The settings of these YubiKeys.
    pub by: Vec<TokenSettings>,
    /// For a token that stays open after a touch: the way to open it again after its host died.
    /// `None` makes the token a vault.
    pub reopen: Option<Reopen>,
}

/// The way to open a token again if its PIN is sealed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Reopen {
    /// Without a touch: the keeper, a process of its own, keeps the PIN while the agent runs.
    KeepWhileRunning,
    /// With a touch, as at the start.
    Touch,
}

impl TokenSettings {
    /// The profile that these settings name. An error if the settings may not be used with it.
    pub fn checked_profile(&self) -> Result<Profile, HostError> {
        if !is_plain_name(&self.name) {
            return Err(HostError::Refused(
                "a token's name is made of letters, digits, '-', '_' and '.'".to_owned(),
            ));
        }
        let profile = self.load_profile()?;
        if profile.tier == ModuleTier::Software && !self.allow_software_tokens {
            let reason = format!(
                "{} is a software token; trials set allow_software_tokens = true",
                profile.title
            );
            return Err(HostError::Refused(reason));
        }
        if let Some((name, _)) =
            self.environment.iter().find(|(name, _)| !profile.environment.contains(name))
        {
            let reason =
                format!("profile {} does not allow the environment variable {name}", profile.name);
            return Err(HostError::Refused(reason));
        }
        Ok(profile)
    }

    /// True if the token is a YubiKey, which is reached by PC/SC and not through a module.
    pub fn is_yubikey(&self) -> bool {
        self.profile == pkcs11_profiles::YUBIKEY
    }

    /// The serial of a YubiKey, which is a number.
    pub fn yubikey_serial(&self) -> Result<u32, HostError> {
        let serial = self.serial.as_deref().and_then(|serial| serial.parse().ok());
        serial
            .ok_or_else(|| HostError::Refused(format!("{} has no serial of a YubiKey", self.name)))
    }

    /// True if every login takes a touch and a process of its own.
    pub fn is_vault(&self) -> bool {
        matches!(&self.pin, PinSource::Sealed(sealed) if sealed.reopen.is_none())
    }

    /// True if a keeper keeps the PIN for later hosts.
    pub fn keeps_pin(&self) -> bool {
        matches!(
            &self.pin,
            PinSource::Sealed(sealed) if sealed.reopen == Some(Reopen::KeepWhileRunning)
        )
    }

    /// True if a touch opens the PIN, at each use or once.
    pub fn is_sealed(&self) -> bool {
        matches!(self.pin, PinSource::Sealed(_))
    }

    fn load_profile(&self) -> Result<Profile, HostError> {
        if self.profile.starts_with('/') {
            return read_profile(self.profile.as_ref());
        }
        Profile::named(&self.profile).cloned().ok_or_else(|| {
            HostError::Refused(format!("there is no profile named {}", self.profile))
        })
    }
}

/// Reads the operator's own profile file.
pub fn read_profile(path: &Path) -> Result<Profile, HostError> {
    let refused = |error: &dyn std::fmt::Display| {
        HostError::Refused(format!("profile {}: {error}", path.display()))
    };
    Profile::from_toml(&read_profile_text(path)?).map_err(|error| refused(&error))
}

/// Reads the text of the operator's own profile file, and does not parse it.
pub fn read_profile_text(path: &Path) -> Result<String, HostError> {
    let refused = |error: &dyn std::fmt::Display| {
        HostError::Refused(format!("profile {}: {error}", path.display()))
    };
    let file = trusted_path::open(path, Exposure::Public).map_err(|error| refused(&error))?;
    let mut text = String::new();
    file.take(LONGEST_PROFILE).read_to_string(&mut text).map_err(|error| refused(&error))?;
    Ok(text)
}

/// True for a name that is safe in a file name and in a label on a token.
pub fn is_plain_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=64).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with(['-', '.'])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn settings() -> TokenSettings {
        TokenSettings {
            name: "hsm".to_owned(),
            profile: "softhsm".to_owned(),
            module: None,
            label: Some("countersign".to_owned()),
            serial: None,
            attestation_root: None,
            pin: PinSource::Prompt,
            credentials_directory: None,
            environment: vec![(
                "SOFTHSM2_CONF".to_owned(),
                "/etc/countersign/softhsm2.conf".to_owned(),
            )],
            state_dir: "/var/lib/countersign".into(),
            allow_software_tokens: true,
            confinement: Demand::Available,
        }
    }

    #[test]
    fn a_profile_is_given_only_to_settings_that_may_use_it() {
        assert_eq!(settings().checked_profile().expect("allowed").name, "softhsm");
        let refused: [fn(&mut TokenSettings); 5] = [
            |settings| settings.allow_software_tokens = false,
            |settings| settings.environment.push(("LD_PRELOAD".to_owned(), "/tmp/x.so".to_owned())),
            |settings| settings.profile = "yubikey".to_owned(),
            |settings| settings.name = "../hsm".to_owned(),
            |settings| settings.profile = "/nonexistent/profile.toml".to_owned(),
        ];
        for (index, change) in refused.into_iter().enumerate() {
            let mut settings = settings();
            change(&mut settings);
            assert!(
                matches!(settings.checked_profile(), Err(HostError::Refused(_))),
                "case {index}"
            );
        }
    }

    #[test]
    fn plain_names() {
        for name in ["hsm", "binance-mm", "A.b_c-1"] {
            assert!(is_plain_name(name), "{name}");
        }
        for name in ["", ".", "..", ".a", "-a", "a/b", "a b", "a\n", "ä", "a:b", &"a".repeat(65)] {
            assert!(!is_plain_name(name), "{name:?}");
        }
    }
}
