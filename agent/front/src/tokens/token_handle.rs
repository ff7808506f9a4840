//! Gives the rest of the front one token, behind a host or in a vault.

use countersign_base::messages::token_host::HostedKey;
use countersign_core::algorithm::Algorithm;
use countersign_core::policy::Grant;
use countersign_core::ports::{Signature, TokenError};
use tokio::sync::watch;

use super::host_handle::HostHandle;
use super::token_status::TokenStatus;
use super::vault::VaultHandle;

#[derive(Clone, Debug)]
pub enum TokenHandle {
    /// A host serves the token as long as the agent runs.
    Host(HostHandle),
    /// A process of its own opens the vault for each signature.
    Vault(VaultHandle),
}

impl TokenHandle {
    pub fn name(&self) -> &str {
        match self {
            Self::Host(host) => host.name(),
            Self::Vault(vault) => vault.name(),
        }
    }

    pub fn status(&self) -> TokenStatus {
        match self {
            Self::Host(host) => host.status(),
            Self::Vault(vault) => vault.status(),
        }
    }

    /// Tells of each change of the status, for the journal and the service manager.
    pub fn subscribe(&self) -> watch::Receiver<TokenStatus> {
        match self {
            Self::Host(host) => host.subscribe(),
            Self::Vault(vault) => vault.subscribe(),
        }
    }

    /// `Ok` if [`Self::sign`] would ask the token now.
    pub fn ready(&self) -> Result<(), TokenError> {
        match self {
            Self::Host(host) => host.ready(),
            Self::Vault(vault) => vault.ready(),
        }
    }

    /// True if each of its signatures needs a person's touch.
    pub fn takes_touch(&self) -> bool {
        match self {
            Self::Host(host) => host.takes_touch(),
            Self::Vault(_) => true,
        }
    }

    /// Asks for one signature over `message`. A vault judges the grant again and drafts the message
    /// itself.
    pub async fn sign(
        &self,
        grant: &Grant,
        algorithm: Algorithm,
        message: &[u8],
    ) -> Result<Signature, TokenError> {
        match self {
            Self::Host(host) => host.sign(grant.key().as_str(), algorithm, message).await,
            Self::Vault(vault) => vault.sign(grant).await,
        }
    }

    /// Asks a host to look for its keys again. A vault shows its keys only with a touch, so it
    /// gives none.
    pub async fn rescan(&self) -> Result<Vec<HostedKey>, TokenError> {
        match self {
            Self::Host(host) => host.rescan().await,
            Self::Vault(_) => Ok(Vec::new()),
        }
    }

    /// Describes a fault in the supervision of this token, if there is one.
    pub fn fault(&self) -> Option<&'static str> {
        match self {
            Self::Host(host) => host.fault(),
            Self::Vault(_) => None,
        }
    }

    /// Starts a host again that waits for its next try.
    pub fn retry(&self) {
        if let Self::Host(host) = self {
            host.retry();
        }
    }

    /// Asks the host to stop, kills it if it does not, and returns when its process is gone.
    pub async fn stop(&self) {
        if let Self::Host(host) = self {
            host.stop().await;
        }
    }
}
