//! Starts the enrol child for one operation and waits for its answer.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::enrol::protocol::{EnrolReply, EnrolRequest};
use crate::host::frame::{self, Frames};
use crate::host::settings::TokenSettings;

/// Starts an enrol child: standard input is the socketpair, standard output the operator's terminal or pipe.
pub(super) async fn run(
    token: &TokenSettings,
    request: &EnrolRequest,
    operator: Option<OwnedFd>,
) -> io::Result<EnrolReply> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut child = Command::new("/proc/self/exe")
        .arg("enrol")
        .env_clear()
        .envs(token.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(operator.map_or_else(Stdio::null, Stdio::from))
        .kill_on_drop(true)
        .spawn()?;
    let mut stream = UnixStream::from_std(ours)?;
    let mut requests = Vec::new();
    for encoded in [frame::encode(token, &mut requests), frame::encode(request, &mut requests)] {
        encoded.map_err(io::Error::other)?;
    }
    stream.write_all(&requests).await?;
    let mut answer = Vec::new();
    // The child answers with one frame and exits.
    stream.read_to_end(&mut answer).await?;
    child.wait().await?;
    let mut frames = Frames::default();
    frames.push(&answer);
    let reply = frames.take().map_err(io::Error::other)?;
    reply.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "it ended without an answer"))
}
