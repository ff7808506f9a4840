//! The tokens of `agent.toml`, each behind its own host.

pub mod breaker;
pub mod conversation;
pub mod enrol_child;
pub mod handle;
pub mod keeper;
pub mod link;
pub mod outstanding;
pub mod pulse;
pub mod spawner;
pub mod supervisor;
pub mod token_end;
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
use crate::tokens::token_end::TokenEnd;
use crate::tokens::token_status::{TokenState, TokenStatus};
use crate::tokens::vault::VaultSpawner;

/// Tokens by the operator's name, and what starts the processes that serve them.
#[derive(Debug)]
pub struct Tokens {
    handles: RefCell<BTreeMap<String, TokenEnd>>,
    pub spawner: Spawner,
    /// Of the processes that open vaults.
    pub vault_spawner: Rc<VaultSpawner>,
}

impl Tokens {
    /// None yet. `vault_socket` is that of a spawner of vaults which runs as a user of its own.
    pub fn new(spawner: Spawner, vault_socket: Option<PathBuf>) -> Self {
        let vault_spawner = Rc::new(VaultSpawner::new(spawner.clone(), vault_socket));
        Self { handles: RefCell::default(), spawner, vault_spawner }
    }

    pub fn add(&self, handle: TokenEnd) {
        self.handles.borrow_mut().insert(handle.name().to_owned(), handle);
    }

    pub fn handle(&self, name: &str) -> Option<TokenEnd> {
        self.handles.borrow().get(name).cloned()
    }

    fn of_key(&self, key: &Key) -> Result<TokenEnd, TokenError> {
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

    /// Starts hosts again that waited for the operator to put something right.
    pub fn retry_given_up(&self) {
        self.handles
            .borrow()
            .values()
            .filter(|handle| handle.status().given_up)
            .for_each(TokenEnd::retry);
    }

    /// What is wrong with the supervision of a token, if something is.
    pub fn fault(&self) -> Option<String> {
        let handles = self.handles.borrow();
        handles.iter().find_map(|(name, handle)| Some(format!("{name}: {}", handle.fault()?)))
    }

    /// Ends the hosts of these tokens; each may take until its own deadline, all of them at once.
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

    async fn end(handles: Vec<TokenEnd>) {
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
        // Nobody can be asked to touch what is not there.
        self.of_key(key).is_ok_and(|handle| handle.takes_touch())
    }
}
