//! The front's end of one token, whichever way the token is reached.

use countersign_base::messages::token_host::HostedKey;
use countersign_core::algorithm::Algorithm;
use countersign_core::policy::Grant;
use countersign_core::ports::{Signature, TokenError};
use tokio::sync::watch;

use super::handle::TokenHandle;
use super::token_status::TokenStatus;
use super::vault::Vault;

#[derive(Clone, Debug)]
pub enum TokenEnd {
    /// A host serves it as long as the agent runs.
    Host(TokenHandle),
    /// A process of its own opens it for each signature.
    Vault(Vault),
}

impl TokenEnd {
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

    /// Changes whenever the status does; for the journal and the service manager.
    pub fn subscribe(&self) -> watch::Receiver<TokenStatus> {
        match self {
            Self::Host(host) => host.subscribe(),
            Self::Vault(vault) => vault.subscribe(),
        }
    }

    /// Whether [`Self::sign`] would be put to the token now.
    pub fn ready(&self) -> Result<(), TokenError> {
        match self {
            Self::Host(host) => host.ready(),
            Self::Vault(vault) => vault.ready(),
        }
    }

    /// Whether each of its signatures takes a person's touch.
    pub fn takes_touch(&self) -> bool {
        match self {
            Self::Host(host) => host.takes_touch(),
            Self::Vault(_) => true,
        }
    }

    /// One signature over `message`; a vault judges the grant anew and drafts the message itself.
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

    /// Has a host look for its keys again. Nobody looks into a vault without a touch.
    pub async fn rescan(&self) -> Result<Vec<HostedKey>, TokenError> {
        match self {
            Self::Host(host) => host.rescan().await,
            Self::Vault(_) => Ok(Vec::new()),
        }
    }

    /// What is wrong with the supervision of this token, if something is.
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

    /// Ends the host, politely first, and returns when its process is gone.
    pub async fn stop(&self) {
        if let Self::Host(host) = self {
            host.stop().await;
        }
    }
}
