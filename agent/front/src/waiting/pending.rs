//! One thing that waits for persons, and what it does once they agree.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use countersign_base::config::Config;
use countersign_base::config::endpoint::ListenerKind;
use countersign_core::approval::{Approved, Collected, Statement, Subject};
use countersign_core::refusal::Refusal;
use countersign_core::signer::Waiting;
use countersign_core::wire::{FinishedReply, PendingRequest};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::process_chain::process_chain;
use crate::sockets::peer::Peer;

/// Of a client's connections: its uid, and the socket.
pub(crate) type Origin = (Option<u32>, ListenerKind);

pub(crate) fn origin(peer: &Peer) -> Origin {
    (peer.uid, peer.listener.clone())
}

/// From its proposal to its end; a request stays until its outcome need not be fetched any more.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) id: String,
    opened: Instant,
    /// How long persons have.
    lasts: Duration,
    /// `None` once it does not wait any more.
    pub(crate) collected: RefCell<Option<Collected>>,
    pub(crate) effect: Effect,
}

/// Done once enough persons approved it.
#[derive(Debug)]
pub(crate) enum Effect {
    /// A configuration that loosens something; `None` for the one that was found at the start.
    Load(Option<u32>, Rc<Config>),
    Sign(Box<Request>),
    /// For this uid.
    Unlock(u32),
}

/// A client's request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) client: String,
    pub(crate) origin: Origin,
    /// Names of the process that asked and of those that started it.
    pub(crate) processes: Vec<String>,
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
    Waiting(Box<Waiting>),
    /// Its token is asked; a touch may be needed.
    Signing(Box<Signing>),
    Ended(Result<FinishedReply, Refusal>),
}

/// Shown of a request while its token is asked.
#[derive(Debug)]
pub(crate) struct Signing {
    pub(crate) pending: PendingRequest,
    pub(crate) token: String,
    pub(crate) why: String,
}

impl Pending {
    /// A change of the agent, which one person approves.
    pub(crate) fn change(statement: Statement, lasts: Duration, effect: Effect) -> Self {
        Self::new(Collected::new(statement, 1), lasts, effect)
    }

    pub(crate) fn request(peer: &Peer, waiting: Box<Waiting>, lasts: Duration) -> Self {
        let collected = Collected::new(waiting.statement.clone(), waiting.approvals_needed);
        let request = Request {
            client: waiting.caller.client.clone(),
            origin: origin(peer),
            processes: process_chain(waiting.caller.pid),
            state: RefCell::new(State::Waiting(waiting)),
            ending: RefCell::default(),
            changed: Notify::new(),
            asked: Cell::new(Instant::now()),
            watching: Cell::new(0),
        };
        Self::new(collected, lasts, Effect::Sign(Box::new(request)))
    }

    fn new(collected: Collected, lasts: Duration, effect: Effect) -> Self {
        let id = collected.statement().request_id.clone();
        Self { id, opened: Instant::now(), lasts, collected: RefCell::new(Some(collected)), effect }
    }

    /// The client's request, where it is one.
    pub(crate) fn as_request(&self) -> Option<&Request> {
        match &self.effect {
            Effect::Sign(request) => Some(request),
            Effect::Load(..) | Effect::Unlock(_) => None,
        }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.collected.borrow().is_some()
    }

    pub(crate) fn is_too_late(&self) -> bool {
        self.opened.elapsed() >= self.lasts
    }

    pub(crate) fn is_approved(&self) -> bool {
        self.collected.borrow().as_ref().is_some_and(Collected::is_complete)
    }

    /// What a client or an operator is told while it waits.
    pub(crate) fn told(&self) -> Option<PendingRequest> {
        let collected = self.collected.borrow();
        let collected = collected.as_ref()?;
        Some(PendingRequest {
            id: self.id.clone(),
            expires_ms: collected.statement().expires_ms,
            approvals_needed: collected.needed(),
            approvals: collected.given().len() as u32,
        })
    }

    /// Takes a request out of its wait: with the proof where enough persons approved it.
    pub(crate) fn take(&self) -> Option<(Box<Waiting>, Option<Approved>)> {
        let (request, pending) = (self.as_request()?, self.told()?);
        let mut state = request.state.borrow_mut();
        let State::Waiting(waiting) = &*state else { return None };
        let (token, why) = (waiting.key().token.clone(), why(&waiting.statement.subject));
        let signing = State::Signing(Box::new(Signing { pending, token, why }));
        match std::mem::replace(&mut *state, signing) {
            State::Waiting(waiting) => Some((waiting, self.collected.take()?.approved())),
            State::Ended(_) | State::Signing(_) => None, // seen above
        }
    }
}

impl Request {
    /// The token of a request that waits.
    pub(crate) fn token(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Waiting(waiting) => Some(waiting.key().token.clone()),
            State::Ended(_) | State::Signing(_) => None,
        }
    }

    /// Ends it early, unless something else did.
    pub(crate) fn end(&self, refusal: Refusal) {
        self.ending.borrow_mut().get_or_insert(refusal);
        self.changed.notify_waiters();
    }

    pub(crate) fn outcome(&self) -> Option<Result<FinishedReply, Refusal>> {
        match &*self.state.borrow() {
            State::Ended(outcome) => Some(outcome.clone()),
            State::Signing(_) | State::Waiting(_) => None,
        }
    }
}

/// What a touch is asked for, in a few words.
fn why(subject: &Subject) -> String {
    match subject {
        Subject::Request { client, key, method, path, .. } => {
            format!("{method} {path} of {client}, with {key}")
        }
        Subject::Session { client, key, session, .. } => {
            format!("a login ({session}) of {client}, with {key}")
        }
        _ => "a request".to_owned(),
    }
}
