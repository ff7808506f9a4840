//! Keeps everything that waits for persons: requests of clients, one for each key, and changes of
//! the agent that loosen something.
//!
//! A request ends signed, denied, expired or cancelled. It is cancelled if its client cancels it,
//! is gone, or no longer asks for the result. It is also cancelled if the agent is locked, stops,
//! or loads another configuration. Tightening and `lock` never wait.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::mem::discriminant;
use std::rc::Rc;
use std::time::Duration;

use countersign_base::config::TooMuch;
use countersign_core::key::{Key, KeyName};
use countersign_core::ports::{self, WaitingPlace};
use countersign_core::refusal::{Code, Refusal};
use tokio::time::Instant;

use super::pending::{ClientRequest, Effect, Origin, Pending, RequestState, origin};
use crate::sockets::peer::Peer;

#[derive(Debug, Default)]
pub struct PendingApprovals {
    /// Requests and changes by id; ids sort by time. Requests that ended a moment ago are among
    /// them.
    entries: RefCell<BTreeMap<String, Rc<Pending>>>,
    places: Rc<WaitingKeys>,
    /// Open connections of each uid and socket, to know when a client is gone.
    connections: RefCell<HashMap<Origin, usize>>,
    /// Why the last `agent.toml` does not wait for an approver, although it is looser.
    pub(crate) unshown: RefCell<Option<TooMuch>>,
}

/// Most requests of one key that may ask for approval within an hour. A person who is asked more
/// often stops looking.
const MOST_AN_HOUR: usize = 30;
const ASKED_PERIOD: Duration = Duration::from_secs(60 * 60);
/// The keys that have a waiting request, and the times at which each key's requests asked for
/// approval.
#[derive(Debug, Default)]
struct WaitingKeys {
    taken: RefCell<HashSet<KeyName>>,
    pub(crate) asked: RefCell<HashMap<KeyName, VecDeque<Instant>>>,
}

/// One key's place. It is given back on drop.
#[derive(Debug)]
struct Taken {
    places: Rc<WaitingKeys>,
    key: KeyName,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.places.taken.borrow_mut().remove(&self.key);
    }
}

impl ports::Approvals for PendingApprovals {
    fn place(&self, key: &Key) -> Result<WaitingPlace, Refusal> {
        let name = &key.name;
        if self.places.taken.borrow().contains(name) {
            let message = format!("another request with {name} waits for approval; one at a time");
            return Err(Refusal::new(Code::PolicyRate, message));
        }
        let mut asked = self.places.asked.borrow_mut();
        let asked = asked.entry(name.clone()).or_default();
        while asked.front().is_some_and(|at| at.elapsed() >= ASKED_PERIOD) {
            asked.pop_front();
        }
        if asked.len() >= MOST_AN_HOUR {
            let message =
                format!("{MOST_AN_HOUR} requests with {name} asked for approval within an hour");
            return Err(Refusal::new(Code::PolicyRate, message));
        }
        asked.push_back(Instant::now());
        self.places.taken.borrow_mut().insert(name.clone());
        Ok(WaitingPlace(Box::new(Taken { places: Rc::clone(&self.places), key: name.clone() })))
    }
}

impl PendingApprovals {
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

    pub(crate) fn is_connected(&self, request: &ClientRequest) -> bool {
        self.connections.borrow().contains_key(&request.origin)
    }

    pub(crate) fn insert(&self, pending: &Rc<Pending>) {
        self.entries.borrow_mut().insert(pending.id.clone(), Rc::clone(pending));
    }

    /// Adds a change. At most one change of each kind waits: a newer one replaces an older one.
    pub(crate) fn insert_change(&self, change: &Rc<Pending>) {
        self.withdraw(&change.effect);
        self.insert(change);
    }

    /// Removes every waiting change of this kind.
    pub(crate) fn withdraw(&self, effect: &Effect) {
        let kind = discriminant(effect);
        self.entries.borrow_mut().retain(|_, pending| discriminant(&pending.effect) != kind);
    }

    pub(crate) fn remove(&self, id: &str) {
        self.entries.borrow_mut().remove(id);
    }

    pub(crate) fn get(&self, id: &str) -> Option<Rc<Pending>> {
        self.entries.borrow().get(id).cloned()
    }

    /// Everything that waits, oldest first. A change that nobody approved in time is removed here.
    /// A request is not: its own task ends it, since that has to be recorded.
    pub(crate) fn waiting(&self) -> Vec<Rc<Pending>> {
        let mut entries = self.entries.borrow_mut();
        entries.retain(|_, pending| pending.as_request().is_some() || !pending.is_too_late());
        entries.values().filter(|pending| pending.is_waiting()).cloned().collect()
    }

    /// Returns when no request waits or is being signed: all of them are on record.
    pub async fn settled(&self) {
        let ended =
            |request: &ClientRequest| matches!(*request.state.borrow(), RequestState::Ended(_));
        while !self.entries.borrow().values().filter_map(|pending| pending.as_request()).all(ended)
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
