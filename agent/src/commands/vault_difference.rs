//! Finds the differences between the terms of a vault now and after a change, in the form in which
//! its approvers are shown them.

use std::path::Path;

use countersign_base::config::{self, Config, SystemFacts, diff, loosened};
use countersign_core::legible::word;
use countersign_core::policy::Policy;
use countersign_token::vault::directory::VaultDirectory;
use countersign_token::vault::sealed::{Recipient, Terms};
use data_encoding::{BASE64, BASE64_NOPAD};
use sha2::{Digest, Sha256};

/// Sentences with values, and the lines of `agent.toml` that differ.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub(super) loosens: Vec<String>,
    pub(super) diff: String,
    /// True if the configuration for which the vault was sealed is not known, so that all of the
    /// new one counts as new.
    pub(super) whole: bool,
}

impl Difference {
    pub(super) fn between(
        before: &Terms,
        after: &Terms,
        config: &Config,
        directory: &VaultDirectory,
        config_file: &Path,
    ) -> Self {
        let mut found = Self::default();
        found.recipients(&before.recipients, &after.recipients);
        if before.policy_sha256 == after.policy_sha256 {
            return found;
        }
        let kept =
            kept(directory, config_file).filter(|kept| kept.policy.sha256 == before.policy_sha256);
        found.whole = kept.is_none();
        if found.whole {
            let unknown = "the agent.toml that it was sealed for is not kept beside it: all of the \
                           new one counts as new";
            found.loosens.push(unknown.to_owned());
        }
        let kept = kept.unwrap_or_else(|| without_rules(config));
        let tokens = kept.tokens.iter().map(|token| token.settings.name.clone()).collect();
        found.loosens.extend(loosened(&kept, config, &tokens));
        found.diff = diff(&kept.text, &config.text);
        found
    }

    fn recipients(&mut self, before: &[Recipient], after: &[Recipient]) {
        let is_in = |all: &[Recipient], one: &Recipient| {
            all.iter()
                .any(|other| (other.serial, &other.public_key) == (one.serial, &one.public_key))
        };
        let opens = after.iter().filter(|one| !is_in(before, one));
        self.loosens
            .extend(opens.map(|one| {
                format!("the {} opens the vault, as it did not before", described(one))
            }));
        let gone = before.iter().filter(|one| !is_in(after, one));
        self.loosens
            .extend(gone.map(|one| format!("the {} no longer opens the vault", described(one))));
    }
}

fn described(one: &Recipient) -> String {
    let key = BASE64.decode(one.public_key.as_bytes()).unwrap_or_default();
    let fingerprint = BASE64_NOPAD.encode(&Sha256::digest(key));
    format!("YubiKey {} (serial {}, key in 9d SHA256:{fingerprint})", word(&one.name), one.serial)
}

/// The configuration that is kept beside the vault. A person who changes that file gains nothing,
/// because its hash is sealed.
fn kept(directory: &VaultDirectory, config_file: &Path) -> Option<Config> {
    config::parse(directory.kept_config()?, config_file, &SystemFacts::of_this_process()).ok()
}

/// The same configuration without any rights, so that everything in the new one counts as new.
fn without_rules(config: &Config) -> Config {
    let mut none = config.clone();
    let Policy { clients, destinations, transfers, approvers, approval_timeout_ms: _, sha256: _ } =
        &mut none.policy;
    clients.clear();
    destinations.clear();
    transfers.clear();
    approvers.clear();
    none.approvers.clear();
    none.tokens.clear();
    none.text.clear();
    none
}
