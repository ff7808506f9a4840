//! Requests that wait for persons: one for each key, each with an end.
//!
//! A request ends signed, denied, expired or cancelled: by its client, because the client is gone or no longer asks for the
//! result, because the agent is locked, stops, or works by another configuration.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use countersign_base::config::endpoint::ListenerKind;
use countersign_core::approval::{Approved, Collected, Subject};
use countersign_core::key::{Key, KeyName};
use countersign_core::ports::{self, Place};
use countersign_core::refusal::{Code, Refusal};
use countersign_core::signer::Waiting;
use countersign_core::wire::{FinishedReply, PendingRequest};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::process_chain::process_chain;
use crate::sockets::peer::Peer;

/// The requests that wait, and those that ended a moment ago.
#[derive(Debug, Default)]
pub struct Approvals {
    /// By id, which sorts by time.
    pub(crate) requests: RefCell<BTreeMap<String, Rc<Pending>>>,
    places: Rc<Places>,
    /// Open connections of each uid and socket, to know when a client is gone.
    pub(crate) connections: RefCell<HashMap<Origin, usize>>,
}

pub(crate) type Origin = (Option<u32>, ListenerKind);

/// How many requests of one key may ask for approval within an hour: a person who is asked more often stops looking.
const MOST_AN_HOUR: usize = 30;
const HOUR: Duration = Duration::from_secs(60 * 60);
/// A client that does not ask for the result as long as this has lost interest.
pub(crate) const INTEREST: Duration = Duration::from_secs(30);
/// How long an outcome can be fetched.
pub(crate) const KEPT: Duration = Duration::from_secs(60);

/// Which keys have a request waiting, and when each was last asked for.
#[derive(Debug, Default)]
struct Places {
    taken: RefCell<HashSet<KeyName>>,
    pub(crate) asked: RefCell<HashMap<KeyName, VecDeque<Instant>>>,
}

/// One place among [`Places`].
#[derive(Debug)]
struct Taken {
    places: Rc<Places>,
    key: KeyName,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.places.taken.borrow_mut().remove(&self.key);
    }
}

impl ports::Approvals for Approvals {
    fn place(&self, key: &Key) -> Result<Place, Refusal> {
        let name = &key.name;
        if self.places.taken.borrow().contains(name) {
            let message = format!("another request with {name} waits for approval; one at a time");
            return Err(Refusal::new(Code::PolicyRate, message));
        }
        let mut asked = self.places.asked.borrow_mut();
        let asked = asked.entry(name.clone()).or_default();
        while asked.front().is_some_and(|at| at.elapsed() >= HOUR) {
            asked.pop_front();
        }
        if asked.len() >= MOST_AN_HOUR {
            let message = format!("{MOST_AN_HOUR} requests with {name} asked for approval within an hour");
            return Err(Refusal::new(Code::PolicyRate, message));
        }
        asked.push_back(Instant::now());
        self.places.taken.borrow_mut().insert(name.clone());
        Ok(Place(Box::new(Taken { places: Rc::clone(&self.places), key: name.clone() })))
    }
}

impl Approvals {
    pub fn connected(&self, peer: &Peer) {
        *self.connections.borrow_mut().entry(origin(peer)).or_default() += 1;
    }

    pub fn disconnected(&self, peer: &Peer) {
        let mut connections = self.connections.borrow_mut();
        let origin = origin(peer);
        if let Some(open) = connections.get_mut(&origin) {
            *open -= 1;
            if *open == 0 {
                connections.remove(&origin);
            }
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<Rc<Pending>> {
        self.requests.borrow().get(id).cloned()
    }
}

fn origin(peer: &Peer) -> Origin {
    (peer.uid, peer.listener.clone())
}

/// One request from its intent to a minute after its end.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) id: String,
    pub(crate) client: String,
    pub(crate) origin: Origin,
    /// Names of the process that asked and of those that started it.
    pub(crate) processes: Vec<String>,
    pub(crate) opened: Instant,
    pub(crate) state: RefCell<State>,
    /// Set by whoever ends it early.
    pub(crate) ending: RefCell<Option<Refusal>>,
    pub(crate) changed: Notify,
    /// When the client last asked for the result; `watching` counts the calls that wait for it now.
    pub(crate) asked: Cell<Instant>,
    pub(crate) watching: Cell<u32>,
}

#[derive(Debug)]
pub(crate) enum State {
    Waiting {
        collected: Collected,
        waiting: Box<Waiting>,
    },
    /// Its token is asked; a touch may be needed.
    Signing(Box<Signing>),
    Ended(Result<FinishedReply, Refusal>),
}

/// What is shown of a request while its token is asked.
#[derive(Debug)]
pub(crate) struct Signing {
    pub(crate) pending: PendingRequest,
    pub(crate) token: String,
    pub(crate) why: String,
}

impl Pending {
    pub(crate) fn new(peer: &Peer, waiting: Box<Waiting>) -> Self {
        Self {
            id: waiting.statement.request_id.clone(),
            client: waiting.caller.client.clone(),
            origin: origin(peer),
            processes: process_chain(waiting.caller.pid),
            state: RefCell::new(State::Waiting {
                collected: Collected::new(waiting.statement.clone(), waiting.approvals_needed),
                waiting,
            }),
            opened: Instant::now(),
            ending: RefCell::default(),
            changed: Notify::new(),
            asked: Cell::new(Instant::now()),
            watching: Cell::new(0),
        }
    }

    /// Ends it, unless it is being signed already.
    pub(crate) fn end(&self, refusal: Refusal) -> bool {
        let waits = matches!(*self.state.borrow(), State::Waiting { .. });
        if waits {
            self.ending.borrow_mut().get_or_insert(refusal);
            self.changed.notify_waiters();
        }
        waits
    }

    /// Takes the request out of its wait: with the proof where enough persons approved it.
    pub(crate) fn take(&self) -> Option<(Box<Waiting>, Option<Approved>)> {
        let mut state = self.state.borrow_mut();
        let State::Waiting { collected, waiting } = &*state else { return None };
        let signing = Box::new(Signing {
            pending: self.pending_request(collected, waiting),
            token: waiting.key().token.clone(),
            why: why(&waiting.statement.subject),
        });
        match std::mem::replace(&mut *state, State::Signing(signing)) {
            State::Waiting { collected, waiting } => Some((waiting, collected.approved())),
            State::Ended(_) | State::Signing(_) => None, // seen above
        }
    }

    pub(crate) fn pending_request(&self, collected: &Collected, waiting: &Waiting) -> PendingRequest {
        PendingRequest {
            id: self.id.clone(),
            expires_ms: waiting.statement.expires_ms,
            approvals_needed: collected.needed(),
            approvals: collected.given().len() as u32,
        }
    }

    /// The token of a request that waits.
    pub(crate) fn token(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Waiting { waiting, .. } => Some(waiting.key().token.clone()),
            State::Ended(_) | State::Signing(_) => None,
        }
    }

    pub(crate) fn is_approved(&self) -> bool {
        matches!(&*self.state.borrow(), State::Waiting { collected, .. } if collected.is_complete())
    }
}

/// What a touch is asked for, in a few words.
fn why(subject: &Subject) -> String {
    match subject {
        Subject::Request { client, key, method, path, .. } => format!("{method} {path} of {client}, with {key}"),
        Subject::Session { client, key, session, .. } => format!("a login ({session}) of {client}, with {key}"),
        _ => "a request".to_owned(),
    }
}
