//! The program's exit codes, and the exit code for each of the agent's error codes.

use std::process::ExitCode;

use countersign::core::refusal::Code;
use countersign::{AgentRefusal, Error};

/// The exit code of the program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    Done = 0,
    /// The command line or a file it names cannot be made into a request.
    Usage = 2,
    Refused = 3,
    /// A person said no, or nobody said yes in time.
    Approval = 4,
    /// A token, the ledger or the agent itself failed.
    Unavailable = 5,
    NotReachable = 6,
    Configuration = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<&Error> for Exit {
    fn from(error: &Error) -> Self {
        match error {
            Error::Refused(refused) => refused.into(),
            Error::TooLong { .. } => Self::Usage,
            Error::Waits(_) => Self::Done,
            // An agent that takes a request and does not answer is running, but has failed.
            Error::TimedOut { .. } => Self::Unavailable,
            Error::Absent { .. }
            | Error::Answer { .. }
            | Error::Closed { .. }
            | Error::Forbidden { .. }
            | Error::Frame { .. }
            | Error::Io { .. }
            | Error::Unsupported { .. } => Self::NotReachable,
        }
    }
}

impl From<&AgentRefusal> for Exit {
    fn from(refused: &AgentRefusal) -> Self {
        // A code this version does not know is a refusal all the same.
        refused.known_code().map_or(Self::Refused, Self::of_code)
    }
}

impl Exit {
    /// The one table of codes.
    const fn of_code(code: Code) -> Self {
        match code {
            Code::AgentLocked
            | Code::ApprovalRequired
            | Code::ClientUnknown
            | Code::KeyUnknown
            | Code::PolicyDestination
            | Code::PolicyEffectiveScope
            | Code::PolicyLimit
            | Code::PolicyRate
            | Code::PolicyScope
            | Code::RequestAmbiguous
            | Code::RequestForbiddenParameter
            | Code::RequestMalformed
            | Code::RequestUnknownEndpoint => Self::Refused,
            Code::ApprovalCancelled | Code::ApprovalDenied | Code::ApprovalExpired => {
                Self::Approval
            }
            Code::ClockUntrusted
            | Code::Internal
            | Code::LedgerUnavailable
            | Code::TokenTimeout
            | Code::TokenTooLate
            | Code::TokenUnavailable => Self::Unavailable,
        }
    }
}

/// The exit codes and variables in `--help`. Scripts may rely on them.
pub(crate) const EXIT_CODES_HELP: &str = "\
Exit codes:
  0   done
  2   usage: the arguments cannot be made into a request
  3   refused: request.*, policy.*, key.unknown, client.unknown, approval.required, agent.locked
  4   approval denied, expired or cancelled
  5   token.*, ledger.*, clock.*, internal, no answer in time, a journal that does not verify, \
      a file that cannot be written
  6   agent not reachable
  78  bad configuration

Environment:
  COUNTERSIGN_SOCK        the agent's socket
  COUNTERSIGN_ADMIN_SOCK  the operator's socket";
