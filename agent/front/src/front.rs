//! The front: every request passes through it between a connection and the core. The front holds no
//! key, PIN or module.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use countersign_base::config::Config;
use countersign_base::config::listener::ListenerKind;
use countersign_base::messages::confinement::ConfinementReport;
use countersign_base::system::clock;
use countersign_core::policy::{Client, Policy};
use countersign_core::ports::Caller;
use countersign_core::signer::Signer;
use tokio::sync::mpsc;

use crate::clock::SystemClock;
use crate::keyring::Keyring;
use crate::ledger::recorder::Recorder;
use crate::shutdown::{Stop, Stopper};
use crate::sockets::peer::Peer;
use crate::tokens::Tokens;
use crate::waiting::approvals::PendingApprovals;
use crate::waiting::budgets::Budgets;
use crate::waiting::keys_in_change::KeysInChange;
use crate::waiting::reload::Reload;

/// Everything the agent knows while it runs, in parts. One thread owns all of it.
#[derive(Debug)]
pub struct Front {
    pub about: About,
    pub clock: Rc<SystemClock>,
    pub keyring: Keyring,
    pub recorder: Recorder,
    pub tokens: Tokens,
    pub approvals: PendingApprovals,
    pub(crate) budgets: Budgets,
    pub(crate) keys_in_change: KeysInChange,
    pub(crate) stopper: (Stopper, Stop),
    /// Replaced as a whole at a reload; a request keeps the configuration it started with.
    config: RefCell<Rc<Config>>,
    pub(crate) locked: Cell<bool>,
    pub(crate) reload: mpsc::Sender<Reload>,
}

/// The facts about this process that do not change while it runs.
#[derive(Debug)]
pub struct About {
    /// The name of this agent in everything that approvers sign.
    pub agent_id: String,
    /// The limits that this process has put on itself.
    pub limits: ConfinementReport,
    /// The uid that the agent runs as. Only this uid and root may use the admin socket.
    pub own_uid: u32,
    pub started_ms: u64,
}

impl About {
    pub fn this_process(agent_id: String, limits: ConfinementReport) -> Self {
        Self {
            agent_id,
            limits,
            own_uid: rustix::process::geteuid().as_raw(),
            started_ms: clock::wall_ms(),
        }
    }
}

impl Front {
    pub fn new(
        about: About,
        config: Rc<Config>,
        locked: bool,
        keyring: Keyring,
        recorder: Recorder,
        tokens: Tokens,
        reload: mpsc::Sender<Reload>,
    ) -> Self {
        Self {
            about,
            clock: recorder.clock(),
            keyring,
            recorder,
            tokens,
            approvals: PendingApprovals::default(),
            budgets: Budgets::default(),
            keys_in_change: KeysInChange::default(),
            stopper: Stopper::new(),
            config: RefCell::new(config),
            locked: Cell::new(locked),
            reload,
        }
    }

    pub fn config(&self) -> Rc<Config> {
        Rc::clone(&self.config.borrow())
    }

    pub fn replace_config(&self, config: Rc<Config>) {
        self.budgets.forget_shares();
        self.config.replace(config);
    }

    /// Ends every wait for a person or an event. Requests under way go on to their end.
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
    ) -> Signer<'a, SystemClock, Recorder, Tokens, PendingApprovals> {
        Signer {
            clock: &*self.clock,
            ledger: &self.recorder,
            token: &self.tokens,
            approvals: &self.approvals,
            agent_id: &self.about.agent_id,
            policy,
            rates: &self.budgets.rates,
            locked: &self.locked,
            client,
            caller,
        }
    }

    /// Finds the client of `agent.toml` at the other end: by its uid, and by its own socket if it
    /// has one.
    pub(crate) fn client<'a>(&self, config: &'a Config, peer: &Peer) -> Option<&'a Client> {
        let uid = peer.uid?;
        match &peer.listener {
            ListenerKind::Admin => None,
            ListenerKind::Agent => {
                config.clients_on_agent_socket().find(|client| client.uid == uid)
            }
            ListenerKind::Client(name) => {
                config.policy.client(name).filter(|client| client.uid == uid)
            }
        }
    }

    pub(crate) fn is_operator(&self, peer: &Peer) -> bool {
        peer.listener == ListenerKind::Admin
            && peer.uid.is_some_and(|uid| uid == 0 || uid == self.about.own_uid)
    }
}
