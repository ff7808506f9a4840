//! Describes one request or change that waits for persons, and its effect once they agree.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use countersign_base::config::Config;
use countersign_base::config::listener::ListenerKind;
use countersign_core::approval::{Approved, Collected, Statement, Subject};
use countersign_core::refusal::Refusal;
use countersign_core::signer::Waiting;
use countersign_core::wire::{FinishedReply, PendingRequest};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::caller_processes::caller_processes;
use crate::sockets::peer::Peer;

/// The origin of a client's connections: its uid and the socket.
pub(crate) type Origin = (Option<u32>, ListenerKind);

pub(crate) fn origin(peer: &Peer) -> Origin {
    (peer.uid, peer.listener.clone())
}

/// One request or change, from its proposal to its end. A request stays until its outcome need not
/// be kept any more.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) id: String,
    opened: Instant,
    /// Time for persons to approve.
    lasts: Duration,
    /// The approvals so far; `None` once this does not wait any more.
    pub(crate) collected: RefCell<Option<Collected>>,
    pub(crate) effect: Effect,
}

/// The effect once enough persons have approved.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Loads a configuration that loosens something. The uid asked for it; `None` if the start
    /// found it.
    Load(Option<u32>, Rc<Config>),
    Sign(Box<ClientRequest>),
    /// Unlocks the agent. This uid asked for it.
    Unlock(u32),
}

/// A client's request.
#[derive(Debug)]
pub(crate) struct ClientRequest {
    pub(crate) client: String,
    pub(crate) origin: Origin,
    /// Names of the process that asked, and of the processes that started it.
    pub(crate) processes: Vec<String>,
    pub(crate) state: RefCell<RequestState>,
    /// The reason for an early end, if something has ended the request early.
    pub(crate) ending: RefCell<Option<Refusal>>,
    pub(crate) changed: Notify,
    /// The last time that the client asked for the result. `watching` counts the calls that wait
    /// for it now.
    pub(crate) asked: Cell<Instant>,
    pub(crate) watching: Cell<u32>,
}

#[derive(Debug)]
pub(crate) enum RequestState {
    Waiting(Box<Waiting>),
    /// Its token is asked to sign, which may need a touch.
    Signing(Box<Signing>),
    Ended(Result<FinishedReply, Refusal>),
}

/// The part of a request that is shown while its token is asked.
#[derive(Debug)]
pub(crate) struct Signing {
    pub(crate) pending: PendingRequest,
    pub(crate) token: String,
    pub(crate) why: String,
}

impl Pending {
    /// A change of the agent, which one person has to approve.
    pub(crate) fn change(statement: Statement, lasts: Duration, effect: Effect) -> Self {
        Self::new(Collected::new(statement, 1), lasts, effect)
    }

    pub(crate) fn request(peer: &Peer, waiting: Box<Waiting>, lasts: Duration) -> Self {
        let collected = Collected::new(waiting.statement.clone(), waiting.approvals_needed);
        let request = ClientRequest {
            client: waiting.caller.client.clone(),
            origin: origin(peer),
            processes: caller_processes(waiting.caller.pid),
            state: RefCell::new(RequestState::Waiting(waiting)),
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

    /// The client's request; `None` for a change.
    pub(crate) fn as_request(&self) -> Option<&ClientRequest> {
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

    /// The reply to a client or an operator while this waits; `None` afterwards.
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

    /// Ends the wait of a request. Returns it, with the proof if enough persons approved it.
    pub(crate) fn take(&self) -> Option<(Box<Waiting>, Option<Approved>)> {
        let (request, pending) = (self.as_request()?, self.told()?);
        let mut state = request.state.borrow_mut();
        let RequestState::Waiting(waiting) = &*state else { return None };
        let (token, why) = (waiting.key().token.clone(), why(&waiting.statement.subject));
        let signing = RequestState::Signing(Box::new(Signing { pending, token, why }));
        match std::mem::replace(&mut *state, signing) {
            RequestState::Waiting(waiting) => Some((waiting, self.collected.take()?.approved())),
            RequestState::Ended(_) | RequestState::Signing(_) => None, // seen above
        }
    }
}

impl ClientRequest {
    /// The token of a request that waits.
    pub(crate) fn token(&self) -> Option<String> {
        match &*self.state.borrow() {
            RequestState::Waiting(waiting) => Some(waiting.key().token.clone()),
            RequestState::Ended(_) | RequestState::Signing(_) => None,
        }
    }

    /// Ends the request early, unless something else has done so.
    pub(crate) fn end(&self, refusal: Refusal) {
        self.ending.borrow_mut().get_or_insert(refusal);
        self.changed.notify_waiters();
    }

    pub(crate) fn outcome(&self) -> Option<Result<FinishedReply, Refusal>> {
        match &*self.state.borrow() {
            RequestState::Ended(outcome) => Some(outcome.clone()),
            RequestState::Signing(_) | RequestState::Waiting(_) => None,
        }
    }
}

/// The purpose of a touch, in a few words.
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
