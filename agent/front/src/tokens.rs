//! Keeps the tokens of `agent.toml`, each behind its own host.

pub mod conversation;
pub mod enrol_child;
pub mod host_handle;
pub mod keeper;
pub mod link;
pub mod outstanding;
pub mod restarts;
pub mod spawner;
pub mod supervision;
pub mod supervisor;
pub mod token_handle;
pub mod token_status;
pub mod vault;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use countersign_core::algorithm::Algorithm;
use countersign_core::key::Key;
use countersign_core::policy::Grant;
use countersign_core::ports::{Signed, Token, TokenError};

use crate::tokens::spawner::Spawner;
use crate::tokens::token_handle::TokenHandle;
use crate::tokens::token_status::{TokenState, TokenStatus};
use crate::tokens::vault::VaultSpawner;

/// The tokens by the operator's names, and the spawners of the processes that serve them.
#[derive(Debug)]
pub struct Tokens {
    handles: RefCell<BTreeMap<String, TokenHandle>>,
    pub spawner: Spawner,
    /// The spawner of the processes that open vaults.
    pub vault_spawner: Rc<VaultSpawner>,
}

impl Tokens {
    /// Starts with no token. `vault_socket` is the socket of a spawner of vaults that runs as a
    /// user of its own, if there is one.
    pub fn new(spawner: Spawner, vault_socket: Option<PathBuf>) -> Self {
        let vault_spawner = Rc::new(VaultSpawner::new(spawner.clone(), vault_socket));
        Self { handles: RefCell::default(), spawner, vault_spawner }
    }

    pub fn add(&self, handle: TokenHandle) {
        self.handles.borrow_mut().insert(handle.name().to_owned(), handle);
    }

    pub fn handle(&self, name: &str) -> Option<TokenHandle> {
        self.handles.borrow().get(name).cloned()
    }

    fn of_key(&self, key: &Key) -> Result<TokenHandle, TokenError> {
        let gone =
            || TokenError::Unavailable(format!("{} is not in agent.toml any more", key.token));
        self.handle(&key.token).ok_or_else(gone)
    }

    pub fn status(&self, name: &str) -> Option<TokenStatus> {
        Some(self.handles.borrow().get(name)?.status())
    }

    pub fn is_up(&self, name: &str) -> bool {
        self.status(name).is_some_and(|status| {
            matches!(status.state, TokenState::Healthy | TokenState::Degraded)
        })
    }

    /// Starts hosts again that waited for the operator to repair something.
    pub fn retry_given_up(&self) {
        self.handles
            .borrow()
            .values()
            .filter(|handle| handle.status().given_up)
            .for_each(TokenHandle::retry);
    }

    /// Describes the first fault in the supervision of a token, if there is one.
    pub fn fault(&self) -> Option<String> {
        let handles = self.handles.borrow();
        handles.iter().find_map(|(name, handle)| Some(format!("{name}: {}", handle.fault()?)))
    }

    /// Ends the hosts of these tokens, all at once. Each may take until its own deadline.
    pub async fn stop<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let handles: Vec<_> = {
            let mut all = self.handles.borrow_mut();
            names.into_iter().filter_map(|name| all.remove(name)).collect()
        };
        Self::end(handles).await;
    }

    /// Ends every host.
    pub async fn stop_all(&self) {
        let handles = std::mem::take(&mut *self.handles.borrow_mut()).into_values().collect();
        Self::end(handles).await;
    }

    async fn end(handles: Vec<TokenHandle>) {
        let stops: Vec<_> = handles
            .into_iter()
            .map(|handle| tokio::task::spawn_local(async move { handle.stop().await }))
            .collect();
        for stop in stops {
            if stop.await.is_err() {
                tracing::error!("a token host could not be stopped in order");
            }
        }
    }
}

impl Token for Tokens {
    fn ready(&self, key: &Key) -> Result<(), TokenError> {
        self.of_key(key)?.ready()
    }

    async fn sign(
        &self,
        grant: Grant,
        key: &Key,
        algorithm: Algorithm,
        message: &[u8],
    ) -> Result<Signed, TokenError> {
        if grant.key() != &key.name {
            return Err(TokenError::Unavailable("the grant is for another key".to_owned()));
        }
        let handle = self.of_key(key)?;
        let signature = handle.sign(&grant, algorithm, message).await?;
        Ok(Signed { signature, spent: grant.spend() })
    }

    fn takes_touch(&self, key: &Key) -> bool {
        // Nobody can be asked to touch a token that is not there.
        self.of_key(key).is_ok_and(|handle| handle.takes_touch())
    }
}
