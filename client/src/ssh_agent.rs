//! Asks an approver's own ssh-agent for keys that may approve, and for their signatures.

use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_core::approval::Statement;
use countersign_core::approval::sshsig::{armoured, signed_data};
use countersign_core::wire::admin::ApproverEntry;
use ssh_agent_lib::blocking::Client;
use ssh_agent_lib::proto::SignRequest;
use ssh_key::PublicKey;

/// The reasons why an approver's ssh-agent gave no signature.
#[derive(Debug, thiserror::Error)]
pub enum ApproverError {
    #[error("SSH_AUTH_SOCK is not set: no ssh-agent to ask for a signature")]
    NoAgent,
    #[error("no ssh-agent answers at {}", socket.display())]
    Unreachable {
        socket: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the answer of the ssh-agent is not understood")]
    Protocol(#[source] ssh_agent_lib::error::AgentError),
    #[error("the ssh-agent holds no approver's key; the approvers are: {}", .0.join(", "))]
    NoKey(Vec<String>),
    #[error(
        "the key of {approver} did not sign: it was not touched in time, not unlocked, or is not \
         plugged in"
    )]
    NotSigned {
        approver: String,
        #[source]
        source: ssh_agent_lib::error::AgentError,
    },
    #[error("the signature cannot be encoded")]
    Form(#[source] ssh_key::Error),
}

/// An approver whose key the ssh-agent holds.
#[derive(Debug)]
pub struct Candidate {
    pub name: String,
    key: PublicKey,
    hardware: Option<String>,
}

impl Candidate {
    /// Type and fingerprint, as `ssh-add -l` shows them.
    pub fn describe(&self) -> String {
        let hardware =
            self.hardware.as_ref().map(|hardware| format!(": {hardware}")).unwrap_or_default();
        format!(
            "{}, {} {}{hardware}",
            self.name,
            self.key.algorithm(),
            self.key.fingerprint(Default::default())
        )
    }
}

/// The approver's ssh-agent.
#[derive(Debug)]
pub struct SshAgent {
    client: Client<UnixStream>,
}

/// Asks for SHA-512. Without this flag an RSA key signs with SHA-1 (draft-ietf-sshm-ssh-agent,
/// 3.6.1).
const RSA_SHA2_512: u32 = 4;
/// Longer than any token waits for a touch.
const TOUCH: Duration = Duration::from_secs(180);

impl SshAgent {
    /// Connects to the agent that `SSH_AUTH_SOCK` names.
    pub fn open() -> Result<Self, ApproverError> {
        let named = std::env::var_os("SSH_AUTH_SOCK").filter(|name: &OsString| !name.is_empty());
        Self::at(Path::new(&named.ok_or(ApproverError::NoAgent)?))
    }

    pub fn at(socket: &Path) -> Result<Self, ApproverError> {
        let stream = UnixStream::connect(socket).and_then(|stream| {
            stream.set_read_timeout(Some(TOUCH))?;
            Ok(stream)
        });
        let unreachable = |source| ApproverError::Unreachable { socket: socket.to_owned(), source };
        let stream = stream.map_err(unreachable)?;
        Ok(Self { client: Client::new(stream) })
    }

    /// The first of `approvers` whose key this ssh-agent holds.
    pub fn candidate(&mut self, approvers: &[ApproverEntry]) -> Result<Candidate, ApproverError> {
        let held = self.client.request_identities().map_err(ApproverError::Protocol)?;
        let held: Vec<_> =
            held.iter().map(|identity| identity.credential.key_data().clone()).collect();
        let known = approvers.iter().filter_map(|approver| {
            let key = PublicKey::from_openssh(&approver.public_key).ok()?;
            let hardware = approver.hardware.clone();
            held.contains(key.key_data()).then(|| Candidate {
                name: approver.name.clone(),
                key,
                hardware,
            })
        });
        let names = || approvers.iter().map(|approver| approver.name.clone()).collect();
        known.into_iter().next().ok_or_else(|| ApproverError::NoKey(names()))
    }

    /// Has the statement signed, and waits for the touch. The signed bytes are rebuilt from the
    /// statement's fields.
    pub fn approve(
        &mut self,
        candidate: &Candidate,
        statement: &Statement,
    ) -> Result<String, ApproverError> {
        let request = SignRequest {
            credential: candidate.key.key_data().clone().into(),
            data: signed_data(&statement.bytes()),
            flags: if candidate.key.algorithm().is_rsa() { RSA_SHA2_512 } else { 0 },
        };
        let signature = self.client.sign(request).map_err(|source| ApproverError::NotSigned {
            approver: candidate.name.clone(),
            source,
        })?;
        armoured(candidate.key.key_data(), &signature).map_err(ApproverError::Form)
    }
}
