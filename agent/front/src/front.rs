//! The front: what every request passes through between a connection and the core. Holds no key, PIN or module.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use countersign_base::config::Config;
use countersign_base::config::endpoint::ListenerKind;
use countersign_base::messages::confinement::Limits;
use countersign_core::policy::rate::Rates;
use countersign_core::policy::{Client, Policy};
use countersign_core::ports::{Caller, Clock};
use countersign_core::signer::Signer;
use tokio::sync::mpsc;

use crate::clock::SystemClock;
use crate::keyring::Keyring;
use crate::ledger::keys::KeyFiles;
use crate::ledger::recorder::Recorder;
use crate::shutdown::{Stop, Stopper};
use crate::sockets::peer::Peer;
use crate::tokens::Tokens;
use crate::tokens::spawner::Spawner;
use crate::tokens::vault::VaultSpawner;
use crate::waiting::approvals::Approvals;
use crate::waiting::reload::Reload;
use crate::waiting::shares::Shares;

/// Everything the agent knows while it runs. One thread owns it.
#[derive(Debug)]
pub struct Front {
    /// Replaced as a whole at a reload; a request keeps the one it started with.
    pub(crate) config: RefCell<Rc<Config>>,
    pub clock: Rc<SystemClock>,
    pub keyring: Keyring,
    pub recorder: Recorder,
    pub tokens: Tokens,
    pub approvals: Approvals,
    pub(crate) rates: RefCell<Rates>,
    pub(crate) shares: Shares,
    /// Changes to keys under way, by name.
    pub(crate) enrolling: RefCell<BTreeSet<String>>,
    pub(crate) stopper: (Stopper, Stop),
    pub(crate) locked: Cell<bool>,
    pub key_files: KeyFiles,
    pub spawner: Spawner,
    pub(crate) vault_spawner: Rc<VaultSpawner>,
    /// What this process cannot do.
    pub(crate) limits: Limits,
    pub(crate) reload: mpsc::Sender<Reload>,
    pub started_ms: u64,
    /// Names this agent in everything approvers sign.
    pub agent_id: String,
    /// The uid the agent runs as; with root the only one that may use the admin socket.
    pub(crate) own_uid: u32,
}

impl Front {
    pub fn new(
        config: Rc<Config>,
        keyring: Keyring,
        key_files: KeyFiles,
        (spawner, limits): (Spawner, Limits),
        recorder: Recorder,
        (agent_id, locked): (String, bool),
        reload: mpsc::Sender<Reload>,
    ) -> Self {
        let clock = recorder.clock();
        let socket = config.agent.vault_socket.clone();
        Self {
            started_ms: clock.now_ms(),
            agent_id,
            clock,
            keyring,
            recorder,
            tokens: Tokens::default(),
            approvals: Approvals::default(),
            rates: RefCell::default(),
            shares: Shares::default(),
            enrolling: RefCell::default(),
            stopper: Stopper::new(),
            config: RefCell::new(config),
            locked: Cell::new(locked),
            key_files,
            vault_spawner: Rc::new(VaultSpawner::new(spawner.clone(), socket)),
            spawner,
            limits,
            reload,
            own_uid: rustix::process::geteuid().as_raw(),
        }
    }

    pub fn config(&self) -> Rc<Config> {
        Rc::clone(&self.config.borrow())
    }

    pub fn replace_config(&self, config: Rc<Config>) {
        self.shares.forget();
        self.config.replace(config);
    }

    /// What starts the processes that open vaults.
    pub fn vault_spawner(&self) -> Rc<VaultSpawner> {
        Rc::clone(&self.vault_spawner)
    }

    /// Ends what waits for a person or an event; requests under way go on to their end.
    pub fn stop_waiting(&self) {
        self.stopper.0.stop();
    }

    pub fn is_locked(&self) -> bool {
        self.locked.get()
    }

    pub(crate) fn signer<'a>(
        &'a self,
        policy: &'a Policy,
        client: &'a Client,
        caller: &'a Caller,
    ) -> Signer<'a, SystemClock, Recorder, Tokens, Approvals> {
        Signer {
            clock: &*self.clock,
            ledger: &self.recorder,
            token: &self.tokens,
            approvals: &self.approvals,
            agent_id: &self.agent_id,
            policy,
            rates: &self.rates,
            locked: &self.locked,
            client,
            caller,
        }
    }

    /// The client of `agent.toml` at the other end: by uid, and by its own socket where it has one.
    pub(crate) fn client<'a>(&self, config: &'a Config, peer: &Peer) -> Option<&'a Client> {
        let uid = peer.uid?;
        match &peer.listener {
            ListenerKind::Admin => None,
            ListenerKind::Agent => config.clients_on_agent_socket().find(|client| client.uid == uid),
            ListenerKind::Client(name) => config.policy.client(name).filter(|client| client.uid == uid),
        }
    }

    pub(crate) fn is_operator(&self, peer: &Peer) -> bool {
        peer.listener == ListenerKind::Admin && peer.uid.is_some_and(|uid| uid == 0 || uid == self.own_uid)
    }
}
