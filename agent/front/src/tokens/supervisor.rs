//! Keeps one token's host running: starts it, talks to it, kills it if it hangs, and starts it
//! again after its death.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use countersign_base::messages::spawner::ChildKind;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use super::conversation::{Conversation, HostGone};
use super::host_handle::{Deadlines, HostHandle, HostShared};
use super::keeper::KeeperProcess;
use super::link::append_frame;
use super::restarts::Restarts;
use super::spawner::{Child, Spawner};
use super::token_status::{TokenState, unix_ms};
use crate::sockets::stream::Stream;

/// The settings for the host of one token.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Name of the token in the configuration.
    pub name: String,
    /// The body of the first frame to the host. It holds no PIN.
    pub settings: Vec<u8>,
    /// True if a keeper has the PIN, once a touch opened it.
    pub keeps_pin: bool,
    pub deadlines: Deadlines,
}

/// Starts hosts for one token, one after the other, until it is stopped.
#[derive(Debug)]
pub struct Supervisor {
    config: HostConfig,
    spawner: Spawner,
    handle: HostHandle,
    restarts: Restarts,
    keeper: Option<KeeperProcess>,
}

impl Supervisor {
    /// Starts the first host and returns at once. Call this inside a `LocalRuntime`.
    pub fn start(config: HostConfig, spawner: Spawner) -> HostHandle {
        let handle = HostHandle::new(config.name.clone(), config.deadlines);
        let supervisor = Self {
            config,
            spawner,
            handle: handle.clone(),
            restarts: Restarts::default(),
            keeper: None,
        };
        tokio::task::spawn_local(supervisor.run());
        handle
    }

    async fn run(mut self) {
        let shared = Rc::clone(&self.handle.0);
        loop {
            let ended = self.one_host(&shared).await;
            let pause = (!ended.is_final()).then(|| self.restarts.failed(Instant::now()));
            if matches!(ended, HostGone::Stopped) {
                break;
            }
            shared.status.send_modify(|status| status.next_try_ms = pause.map(unix_ms));
            match pause {
                Some(pause) => shared.supervision.waits_until(Instant::now() + pause),
                None => shared.supervision.waits_for_the_operator(),
            }
            tracing::warn!(token = shared.name, reason = %ended, ?pause, "token host ended");
            let mut stop = shared.stop.1.clone();
            tokio::select! {
                biased;
                () = stop.requested() => break,
                () = shared.retry.notified() => self.restarts.reset(),
                () = sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
        shared.status.send_modify(|status| status.next_try_ms = None);
        shared.ended.0.stop();
    }

    /// Runs one host process from its start to its end. All its requests are answered when this
    /// returns.
    async fn one_host(&mut self, shared: &HostShared) -> HostGone {
        shared.status.send_if_modified(|status| status.enter(TokenState::Starting));
        shared.supervision.waits_until(Instant::now()); // a working spawner answers at once
        let started = self.start_host().await;
        let (child, stream) = match started
            .and_then(|(child, stream)| Ok((child, Stream::new(stream.into_std()?)?)))
        {
            Ok(spawned) => spawned,
            Err(error) => {
                let ended = HostGone::NotStarted(error);
                shared.host_ended(&ended);
                return ended;
            }
        };
        append_frame(&self.config.settings, &mut shared.traffic.borrow_mut().outbound);
        let mut conversation = Conversation::new(shared, &mut self.restarts);
        let Err(ended) = conversation.run(&stream).await;
        shared.host_ended(&ended);
        drop(stream);
        shared.supervision.waits_until(Instant::now() + self.config.deadlines.stop);
        reap(child, self.config.deadlines.stop).await;
        ended
    }
}

impl Supervisor {
    async fn start_host(&mut self) -> io::Result<(Child, UnixStream)> {
        let HostConfig { name, settings, keeps_pin, .. } = &self.config;
        if !keeps_pin {
            return self.spawner.start(ChildKind::Host, None).await;
        }
        let keeper = match self.keeper.take().filter(|keeper| !keeper.is_gone()) {
            Some(keeper) => keeper,
            None => KeeperProcess::start(&self.spawner, name, settings).await?,
        };
        self.spawner.start_host(self.keeper.insert(keeper).process()).await
    }
}

impl HostShared {
    /// Sets the status before any caller learns that its request failed.
    fn host_ended(&self, ended: &HostGone) {
        self.status.send_modify(|status| {
            status.enter(TokenState::Down);
            status.last_error = Some(ended.to_string());
            status.given_up = ended.is_final();
        });
        self.traffic.take().outstanding.fail(&ended.as_token_error(&self.name));
    }
}

/// Makes sure that the process is gone. If the kernel cannot end it now, because it is stuck in a
/// driver, a task waits for its end.
async fn reap(mut child: Child, patience: Duration) {
    child.kill();
    if timeout(patience, child.wait()).await.is_err() {
        tracing::warn!(pid = child.pid(), "a killed token host has not ended yet");
        tokio::task::spawn_local(async move { child.wait().await });
    }
}
