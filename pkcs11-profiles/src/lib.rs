//! Profiles of PKCS#11 modules: the needs and the abilities of each, as data. There is one TOML
//! file per token type, embedded and parsed strictly.
#![forbid(unsafe_code)]

mod profile;

use std::sync::LazyLock;

pub use profile::{
    Import, ModuleAlgorithm, ModuleTier, Padding, PinForm, PinRotation, Profile, ProfileError,
    ProfileEvidence, Reach, SecretKeyType, Sessions,
};

/// The name of the profile for YubiKeys, which the agent asks by PC/SC, without a PKCS#11 module.
pub const YUBIKEY: &str = "yubikey-piv";

/// Names of tokens that are not PKCS#11 modules and have their own adapter in the agent. A profile
/// that an operator wrote may not take such a name.
pub const RESERVED: &[&str] = &[YUBIKEY];

const EMBEDDED: &[&str] = &[
    include_str!("../cloudhsm.toml"),
    include_str!("../google-kms.toml"),
    include_str!("../kryoptic.toml"),
    include_str!("../luna.toml"),
    include_str!("../nshield.toml"),
    include_str!("../opencryptoki.toml"),
    include_str!("../opensc.toml"),
    include_str!("../softhsm.toml"),
    include_str!("../tpm2-pkcs11.toml"),
    include_str!("../ykcs11.toml"),
    include_str!("../yubihsm2.toml"),
    include_str!("../yubikey-piv.toml"),
];

static PROFILES: LazyLock<Vec<Profile>> = LazyLock::new(|| {
    // A test parses every embedded file, so every shipped file parses.
    EMBEDDED.iter().filter_map(|text| Profile::embedded(text).ok()).collect()
});

impl Profile {
    /// The embedded profile of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PROFILES.iter().find(|profile| profile.name == name)
    }

    /// Every embedded profile, by name.
    pub fn all() -> &'static [Self] {
        &PROFILES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_profile_parses_and_is_found_by_its_name() {
        for text in EMBEDDED {
            let profile = Profile::embedded(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert_eq!(Profile::named(&profile.name), Some(&profile));
        }
        assert_eq!(Profile::all().len(), EMBEDDED.len());
    }

    #[test]
    fn names_are_sorted_and_unique() {
        let names: Vec<_> = Profile::all().iter().map(|profile| profile.name.as_str()).collect();
        assert!(names.is_sorted_by(|one, next| one < next), "{names:?}");
    }

    #[test]
    fn every_profile_names_libraries_algorithms_and_its_evidence() {
        for profile in Profile::all() {
            assert_eq!(profile.libraries.is_empty(), profile.is_yubikey(), "{}", profile.name);
            assert!(
                profile.libraries.values().flatten().all(|path| path.is_absolute()),
                "{}",
                profile.name
            );
            assert!(!profile.algorithms.is_empty(), "{}", profile.name);
            assert!(!profile.note.trim().is_empty(), "{}", profile.name);
            assert!(profile.workers >= 1, "{}", profile.name);
        }
    }

    #[test]
    fn software_tokens_are_exactly_these() {
        let software: Vec<_> = Profile::all()
            .iter()
            .filter(|profile| profile.tier == ModuleTier::Software)
            .map(|p| p.name.as_str())
            .collect();
        assert_eq!(software, ["kryoptic", "opencryptoki", "softhsm"]);
    }
}
