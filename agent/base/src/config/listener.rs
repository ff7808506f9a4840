//! The sockets that a configuration asks for.

use std::path::PathBuf;

/// Longest path of a socket, in bytes: what `sockaddr_un` has room for.
pub const LONGEST_SOCKET_PATH: usize = 107;

/// A socket to listen on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenerConfig {
    pub path: PathBuf,
    pub kind: ListenerKind,
}

/// The kind of socket by which a connection came in.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum ListenerKind {
    Admin,
    Agent,
    /// The socket of one client, named as in the configuration.
    Client(String),
}
