//! Starts a keeper and watches it: the process that has the PIN of a trading token while the agent
//! runs.

use std::io;

use countersign_base::messages::spawner::ChildKind;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::link::append_frame;
use super::spawner::{Child, Spawner};

/// A running keeper. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct KeeperProcess {
    process: Child,
    /// The keeper ends when this is closed.
    _connection: UnixStream,
}

impl KeeperProcess {
    /// Starts a keeper for the token of these settings. It asks for a touch when the first host
    /// wants the PIN.
    pub(crate) async fn start(spawner: &Spawner, token: &str, settings: &[u8]) -> io::Result<Self> {
        let (process, mut connection) = spawner.start(ChildKind::Keeper, None).await?;
        let mut frame = Vec::new();
        append_frame(settings, &mut frame);
        connection.write_all(&frame).await?;
        tracing::info!(
            token,
            pid = process.pid(),
            "a process is to keep its PIN while the agent runs"
        );
        Ok(Self { process, _connection: connection })
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.process.has_ended()
    }

    pub(crate) fn process(&self) -> &Child {
        &self.process
    }
}
