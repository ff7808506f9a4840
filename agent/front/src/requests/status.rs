//! Reports the status of the agent, its tokens and its keys.

use countersign_base::config::TokenConfig;
use countersign_core::key::KeyName;
use countersign_core::policy::Client;
use countersign_core::ports::Clock;
use countersign_core::wire::{
    ConfinementEntry, KeyEntry, LedgerEntry, StatusReply, TokenEntry, VERSION,
};
use ssh_agent_lib::proto::Identity;

use super::ssh_public_key::ssh_public_key;
use crate::front::Front;
use crate::keyring::Keyring;
use crate::ledger::recorder::Recorder;
use crate::tokens::Tokens;

impl Front {
    /// Status for a client: only the tokens that hold its keys.
    pub(crate) fn status_for_client(&self, client: &Client) -> StatusReply {
        let of_client = |token: &TokenConfig| {
            let holds = |name: &KeyName| {
                self.keyring
                    .file(name.as_str())
                    .is_some_and(|file| file.token == token.settings.name)
            };
            client.keys.iter().any(holds)
        };
        let mut status = self.status(of_client);
        for token in &mut status.tokens {
            token.keys.retain(|key| client.keys.contains(key.as_str()));
        }
        status.warnings.clear();
        status
    }

    /// Status for the operator.
    pub(crate) fn status_for_operator(&self) -> StatusReply {
        let mut status = self.status(|_| true);
        status.confinement = self.confinement();
        for ConfinementEntry { process, missing, .. } in &status.confinement {
            status
                .warnings
                .extend(missing.iter().map(|what| format!("not confined: {process}: {what}")));
        }
        for change in
            self.approvals.waiting().iter().filter(|pending| pending.as_request().is_none())
        {
            status
                .warnings
                .push(format!("a change waits for approval: countersign approve {}", change.id));
        }
        let unshown = self.unshown_config();
        status.warnings.extend(
            unshown.map(|reason| format!("agent.toml is looser than what is in force: {reason}")),
        );
        status.warnings.extend(self.keyring.expiring(self.clock.now_ms()));
        let health = self.recorder.health();
        status.warnings.extend(health.warnings);
        status.ledger = Some(LedgerEntry {
            state: health.state.to_owned(),
            directory: self.config().agent.state_dir.display().to_string(),
            last: health.last,
            free_bytes: health.free_bytes,
        });
        status
    }

    fn status(&self, shown: impl Fn(&TokenConfig) -> bool) -> StatusReply {
        let config = self.config();
        StatusReply {
            v: VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            locked: self.is_locked(),
            started_ms: self.about.started_ms,
            tokens: config
                .tokens
                .iter()
                .filter(|token| shown(token))
                .filter_map(|token| self.token_entry(token))
                .collect(),
            ledger: None,
            confinement: Vec::new(),
            warnings: config.warnings.clone(),
        }
    }

    fn token_entry(&self, token: &TokenConfig) -> Option<TokenEntry> {
        let status = self.tokens.status(&token.settings.name)?;
        Some(TokenEntry {
            name: token.settings.name.clone(),
            profile: token.settings.profile.clone(),
            state: status.state.name().to_owned(),
            since_ms: status.since_ms,
            last_error: status.last_error,
            next_try_ms: status.next_try_ms,
            keys: status.keys.into_iter().map(|key| key.name).collect(),
            tier: token.tier,
        })
    }
}

pub(crate) fn key_entry(
    keyring: &Keyring,
    tokens: &Tokens,
    recorder: &Recorder,
    name: &KeyName,
) -> Option<KeyEntry> {
    let token = keyring.file(name.as_str())?.token;
    keyring.entry(name.as_str(), tokens.is_up(&token), recorder.last_used_ms(name))
}

/// The asymmetric keys a client may use, for `ssh-add -l`; the comment is the key's name.
pub(crate) fn identities_of(keyring: &Keyring, client: &Client) -> Vec<Identity> {
    let identity = |name: &KeyName| {
        let pubkey = ssh_public_key(&keyring.public_key_der(name.as_str())?)?;
        Some(Identity { credential: pubkey.into(), comment: name.to_string() })
    };
    client.keys.iter().filter_map(identity).collect()
}
