//! The errors of a call to the agent.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_core::refusal::Code;
use countersign_core::wire::PendingReply;
use serde::{Deserialize, Serialize};

use crate::frame::AnswerFrameError;

/// A call that gave no result. See [`Self::ends_connection`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing listens there.
    #[error("no agent answers at {}", socket.display())]
    Absent {
        socket: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A payload that is not what this version expects; the connection goes on.
    #[error("the agent's answer to {extension} is not understood: {reason}")]
    Answer { extension: &'static str, reason: String },
    #[error("the agent at {} closed the connection without an answer", socket.display())]
    Closed { socket: PathBuf },
    /// The file system does not let this user connect.
    #[error("this user may not connect to {}", socket.display())]
    Forbidden {
        socket: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the program at {} does not speak the agent protocol", socket.display())]
    Frame {
        socket: PathBuf,
        #[source]
        source: AnswerFrameError,
    },
    #[error("could not talk to the agent at {}", socket.display())]
    Io {
        socket: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Refused(#[from] AgentRefusal),
    #[error("the agent at {} did not answer within {} s", socket.display(), deadline.as_secs_f32())]
    TimedOut { socket: PathBuf, deadline: Duration },
    /// Found before anything was sent.
    #[error("the request is {length} bytes long, more than {maximum}")]
    TooLong { length: usize, maximum: usize },
    /// Not a failure: [`crate::AgentClient::result`] returns the outcome of the request.
    #[error("the request waits for approval: {}", .0.pending.id)]
    Waits(Box<PendingReply>),
    /// The agent does not know the extension, or not on this socket.
    #[error("the program at {} does not serve {extension}", socket.display())]
    Unsupported { socket: PathBuf, extension: &'static str },
}

impl Error {
    /// An error of a system call on `socket`, sorted by what the user can do about it.
    pub(crate) fn from_io(socket: &Path, source: io::Error, deadline: Duration) -> Self {
        let socket = socket.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Self::Absent { socket, source }
            }
            io::ErrorKind::PermissionDenied => Self::Forbidden { socket, source },
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                Self::TimedOut { socket, deadline }
            }
            io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::UnexpectedEof => Self::Closed { socket },
            _ => Self::Io { socket, source },
        }
    }

    /// True if nothing more can be asked over the same connection.
    pub fn ends_connection(&self) -> bool {
        !matches!(
            self,
            Self::Answer { .. }
                | Self::Refused(_)
                | Self::TooLong { .. }
                | Self::Unsupported { .. }
                | Self::Waits(_)
        )
    }

    /// True if no agent could be reached, so that another socket may be tried.
    pub fn is_not_reachable(&self) -> bool {
        matches!(self, Self::Absent { .. } | Self::Forbidden { .. })
    }
}

/// A refusal as the agent worded it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct AgentRefusal {
    /// Text, not [`Code`]: an agent may be newer than its client.
    pub code: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl AgentRefusal {
    /// The code, if this version knows it.
    pub fn known_code(&self) -> Option<Code> {
        use serde::de::IntoDeserializer;
        let text: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
            self.code.as_str().into_deserializer();
        Code::deserialize(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_known_by_their_text() {
        let refused = |code: &str| AgentRefusal {
            code: code.into(),
            message: String::new(),
            request_id: None,
        };
        assert_eq!(refused("policy.scope").known_code(), Some(Code::PolicyScope));
        assert_eq!(refused("policy.of_tomorrow").known_code(), None);
    }
}
