//! Starts the enrol child for one operation and waits for its answer.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::time::Duration;

use countersign_base::messages::enrol_child::{EnrolReply, EnrolRequest};
use countersign_base::messages::frame::{self, Frames};
use countersign_base::messages::settings::TokenSettings;
use countersign_base::messages::spawner::ChildKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::spawner::Spawner;

/// Longest time for a child to give up after it was asked to. It switches the terminal's echo on
/// again.
const GIVE_UP_DEADLINE: Duration = Duration::from_secs(5);

/// Starts an enrol child and waits for its answer: standard input is the socketpair, standard
/// output the operator's terminal or pipe.
///
/// Once `abandoned` ends, the child asks nobody any more. It finishes the work that it has begun on
/// the token, and reports it.
pub(crate) async fn run(
    spawner: &Spawner,
    token: &TokenSettings,
    request: &EnrolRequest,
    operator: Option<OwnedFd>,
    abandoned: impl Future<Output = ()>,
) -> io::Result<EnrolReply> {
    let (mut child, stream) = spawner.start(ChildKind::Enrol, operator).await?;
    let (mut reader, mut writer) = stream.into_split();
    let mut requests = Vec::new();
    for encoded in [frame::encode(token, &mut requests), frame::encode(request, &mut requests)] {
        encoded.map_err(io::Error::other)?;
    }
    writer.write_all(&requests).await?;
    let mut answer = Vec::new();
    {
        // The child answers with one frame and exits.
        let mut answered = pin!(reader.read_to_end(&mut answer));
        tokio::select! {
            read = &mut answered => read?,
            () = abandoned => {
                drop(writer);
                let answered = tokio::time::timeout(GIVE_UP_DEADLINE, answered).await;
                answered.map_err(|_| io::ErrorKind::TimedOut)??
            }
        };
    }
    child.wait().await;
    let mut frames = Frames::default();
    frames.push(&answer);
    let reply = frames.take().map_err(io::Error::other)?;
    reply.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "it ended without an answer"))
}
