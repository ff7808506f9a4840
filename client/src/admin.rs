//! The operator's calls to the agent, over the admin socket.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use countersign_core::wire::admin::{
    self, ApproveRequest, DoneReply, EventsReply, EventsRequest, ExplainReply, ExplainRequest,
    PendingListReply, PendingQuery, Register,
};
use countersign_core::wire::{self, IdRequest, PlainRequest, StatusReply};

use crate::client::AgentClient;
use crate::connection::{Connection, DEADLINE};
use crate::error::Error;
use crate::socket::Sockets;

/// Longest time a person may take to type a secret.
const TYPING: Duration = Duration::from_secs(600);

/// Longest time a token may take to make a key. A slow token takes a minute for an RSA key.
const GENERATING: Duration = Duration::from_secs(120);

/// A connection to the operator's socket.
#[derive(Debug)]
pub struct Admin {
    connection: Connection,
}

impl Admin {
    pub fn open(sockets: &Sockets) -> Result<Self, Error> {
        let connection = Connection::open(&sockets.admin)?;
        Ok(Self { connection })
    }

    /// The connection itself, to set its deadline or to send requests before reading answers.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Changes the keys without asking for a secret or a PIN. [`Register::Add`] needs
    /// [`Self::add`], and so does a token that asks for its PIN.
    pub fn register(&mut self, change: &Register) -> Result<DoneReply, Error> {
        self.connection.within(GENERATING, |connection| connection.call(admin::REGISTER, change))
    }

    /// Changes the keys. The agent's enrolment process reads the secret or the PIN from `source`, a
    /// terminal or a pipe.
    pub fn add(&mut self, change: &Register, source: BorrowedFd<'_>) -> Result<DoneReply, Error> {
        self.connection.within(TYPING, |connection| {
            connection.send_with_descriptor(admin::REGISTER, change, source)?;
            connection.receive()
        })
    }

    /// The journal records after record `after`. Waits up to `wait` if there are none yet.
    pub fn events(&mut self, after: u64, wait: Duration) -> Result<EventsReply, Error> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let request = EventsRequest { v: wire::VERSION, after, wait_ms };
        self.connection.within(wait.saturating_add(DEADLINE), |connection| {
            connection.call(admin::EVENTS, &request)
        })
    }

    /// Asks how policy would decide about a request. Nothing is signed or counted.
    pub fn explain(&mut self, request: &ExplainRequest) -> Result<ExplainReply, Error> {
        self.connection.call(admin::EXPLAIN, request)
    }

    /// The agent's state with that of its journal, which clients do not see.
    pub fn status(&mut self) -> Result<StatusReply, Error> {
        self.connection.call(wire::STATUS, &PlainRequest::NOW)
    }

    pub fn pending(&mut self) -> Result<PendingListReply, Error> {
        self.connection.call(admin::PENDING, &PlainRequest::NOW)
    }

    /// Like [`Self::pending`], for one request.
    pub fn pending_request(&mut self, id: &str) -> Result<PendingListReply, Error> {
        let query = PendingQuery { v: wire::VERSION, id: Some(id.to_owned()) };
        self.connection.call(admin::PENDING, &query)
    }

    /// Hands in one approver's signature, PEM, over the request's statement.
    pub fn approve(&mut self, id: &str, sshsig: &str) -> Result<DoneReply, Error> {
        let request =
            ApproveRequest { v: wire::VERSION, id: id.to_owned(), sshsig: sshsig.to_owned() };
        self.connection.call(admin::APPROVE, &request)
    }

    pub fn deny(&mut self, id: &str) -> Result<DoneReply, Error> {
        self.connection.call(admin::DENY, &IdRequest { v: wire::VERSION, id: id.to_owned() })
    }

    /// Stops all signing until [`Self::unlock`].
    pub fn lock(&mut self) -> Result<DoneReply, Error> {
        self.connection.call(admin::LOCK, &PlainRequest::NOW)
    }

    pub fn unlock(&mut self) -> Result<DoneReply, Error> {
        self.connection.call(admin::UNLOCK, &PlainRequest::NOW)
    }

    /// Turns this into a [`AgentClient`]: the admin socket serves the agent socket's calls too.
    pub fn into_client(self) -> AgentClient {
        AgentClient::over(self.connection)
    }
}
