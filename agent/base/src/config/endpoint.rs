//! The sockets that a configuration asks for.

use std::path::PathBuf;

/// A socket to listen on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    pub path: PathBuf,
    pub kind: ListenerKind,
}

/// Which socket a connection came in by.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum ListenerKind {
    Admin,
    Agent,
    /// The socket of one client, named as in the configuration.
    Client(String),
}
