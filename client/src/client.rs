//! The calls that a client makes to the agent.

use std::time::Duration;

use countersign_core::json::Value;
use countersign_core::wire::admin::DoneReply;
use countersign_core::wire::{
    self, IdRequest, KeysReply, PlainRequest, ResultRequest, SessionReply, SessionRequest,
    SignReply, StatusReply,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::connection::{Connection, DEADLINE};
use crate::error::Error;
use crate::socket::Sockets;

/// A connection to the agent socket.
#[derive(Debug)]
pub struct AgentClient {
    connection: Connection,
}

/// One request to be signed. It has business parameters only: the agent adds time, nonce and
/// signature.
#[derive(Clone, Debug, Serialize)]
pub struct SignCall {
    v: u32,
    pub key: String,
    pub method: String,
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params: Option<Value>,
    /// The place of the parameters: `none`, `query`, `form`, `json`, `query+json` or
    /// `payload-json`. Without it the exchange's recipe chooses the usual place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params_in: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Free text for the journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl SignCall {
    pub fn new(key: impl Into<String>, method: impl Into<String>, path: impl Into<String>) -> Self {
        Self {
            v: wire::VERSION,
            key: key.into(),
            method: method.into(),
            path: path.into(),
            params: None,
            params_in: None,
            host: None,
            reason: None,
        }
    }
}

impl AgentClient {
    pub fn open(sockets: &Sockets) -> Result<Self, Error> {
        Connection::open(&sockets.agent).map(Self::over)
    }

    /// Uses a connection that is open already. The admin socket serves the same calls.
    pub fn over(connection: Connection) -> Self {
        Self { connection }
    }

    /// The connection itself, to set its deadline or to send requests before reading answers.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Has one request signed; the reply is ready to send as it is.
    pub fn sign(&mut self, call: &SignCall) -> Result<SignReply, Error> {
        self.connection.call(wire::SIGN, call)
    }

    /// Asks for the outcome of a request that waits for approval: the finished request or login.
    /// The error is [`Error::Waits`] if the request still waits after `wait`, or a refusal if it
    /// will never be signed.
    pub fn result<R: DeserializeOwned>(&mut self, id: &str, wait: Duration) -> Result<R, Error> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let request = ResultRequest { v: wire::VERSION, id: id.to_owned(), wait_ms };
        self.connection.within(wait.saturating_add(DEADLINE), |connection| {
            connection.call(wire::RESULT, &request)
        })
    }

    /// Withdraws a request that waits for approval.
    pub fn cancel(&mut self, id: &str) -> Result<DoneReply, Error> {
        self.connection.call(wire::CANCEL, &IdRequest { v: wire::VERSION, id: id.to_owned() })
    }

    /// Has several requests signed in one go. The answers are in the order of the calls.
    ///
    /// The outer error means that the connection was lost. The outcome of the later calls is then
    /// not known.
    pub fn sign_all(&mut self, calls: &[SignCall]) -> Result<Vec<Result<SignReply, Error>>, Error> {
        /// Largest number of requests sent before the first answer is read. With too many, each
        /// side could wait for the other to read.
        const AHEAD: usize = 64;
        let mut answers = Vec::with_capacity(calls.len());
        for batch in calls.chunks(AHEAD) {
            let sent: Vec<Result<(), Error>> =
                batch.iter().map(|call| self.connection.send(wire::SIGN, call)).collect();
            for sent in sent {
                let answer = match sent {
                    Ok(()) => self.connection.receive(),
                    Err(error) => Err(error),
                };
                match answer {
                    Err(error) if error.ends_connection() => return Err(error),
                    answer => answers.push(answer),
                }
            }
        }
        Ok(answers)
    }

    /// The keys this client may use.
    pub fn keys(&mut self) -> Result<KeysReply, Error> {
        self.connection.call(wire::KEYS, &PlainRequest::NOW)
    }

    /// Has a session login signed; `purpose` is `ws`. Nothing more is signed in that session.
    pub fn session(&mut self, key: &str, purpose: &str) -> Result<SessionReply, Error> {
        self.login(&SessionRequest::new(key, purpose))
    }

    /// Like [`Self::session`], with the arguments that some exchanges take.
    pub fn login(&mut self, request: &SessionRequest) -> Result<SessionReply, Error> {
        self.connection.call(wire::SESSION, request)
    }

    pub fn status(&mut self) -> Result<StatusReply, Error> {
        self.connection.call(wire::STATUS, &PlainRequest::NOW)
    }
}
