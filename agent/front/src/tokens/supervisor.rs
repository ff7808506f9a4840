//! Keeps one token's host running: starts it, talks to it, kills it when it hangs, starts it again
//! when it died.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use countersign_base::messages::spawner::Kind;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use super::breaker::Breaker;
use super::conversation::{Ended, Session};
use super::handle::{Deadlines, Shared, TokenHandle};
use super::keeper::Keeper;
use super::link::append_frame;
use super::spawner::{Child, Spawner};
use super::token_status::{TokenState, unix_ms};
use crate::sockets::stream::Stream;

/// What the host of one token has to know.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// As in the configuration.
    pub name: String,
    /// The body of the first frame the host gets; it holds no PIN.
    pub settings: Vec<u8>,
    /// A process of its own has the PIN, once a touch opened it.
    pub keeps_pin: bool,
    pub deadlines: Deadlines,
}

/// Starts hosts for one token, one after the other, until stopped.
#[derive(Debug)]
pub struct Supervisor {
    config: TokenConfig,
    spawner: Spawner,
    handle: TokenHandle,
    breaker: Breaker,
    keeper: Option<Keeper>,
}

impl Supervisor {
    /// Starts the first host and returns at once. Must be called inside a `LocalRuntime`.
    pub fn start(config: TokenConfig, spawner: Spawner) -> TokenHandle {
        let handle = TokenHandle::new(config.name.clone(), config.deadlines);
        let supervisor = Self {
            config,
            spawner,
            handle: handle.clone(),
            breaker: Breaker::default(),
            keeper: None,
        };
        tokio::task::spawn_local(supervisor.run());
        handle
    }

    async fn run(mut self) {
        let shared = Rc::clone(&self.handle.0);
        loop {
            let ended = self.one_host(&shared).await;
            let pause = (!ended.is_final()).then(|| self.breaker.failed(Instant::now()));
            if matches!(ended, Ended::Stopped) {
                break;
            }
            shared.status.send_modify(|status| status.next_try_ms = pause.map(unix_ms));
            match pause {
                Some(pause) => shared.pulse.waits_until(Instant::now() + pause),
                None => shared.pulse.waits_for_the_operator(),
            }
            tracing::warn!(token = shared.name, reason = %ended, ?pause, "token host ended");
            let mut stop = shared.stop.1.clone();
            tokio::select! {
                biased;
                () = stop.requested() => break,
                () = shared.retry.notified() => self.breaker.reset(),
                () = sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
        shared.status.send_modify(|status| status.next_try_ms = None);
        shared.ended.0.stop();
    }

    /// The whole life of one host process; whatever was asked of it has its answer when this
    /// returns.
    async fn one_host(&mut self, shared: &Shared) -> Ended {
        shared.status.send_if_modified(|status| status.enter(TokenState::Starting));
        shared.pulse.waits_until(Instant::now()); // a spawner that answers does so at once
        let started = self.start_host().await;
        let (child, stream) = match started
            .and_then(|(child, stream)| Ok((child, Stream::new(stream.into_std()?)?)))
        {
            Ok(spawned) => spawned,
            Err(error) => {
                let ended = Ended::NotStarted(error);
                shared.host_ended(&ended);
                return ended;
            }
        };
        append_frame(&self.config.settings, &mut shared.desk.borrow_mut().outbound);
        let mut session = Session::new(shared, &mut self.breaker);
        let Err(ended) = session.run(&stream).await;
        shared.host_ended(&ended);
        drop(stream);
        shared.pulse.waits_until(Instant::now() + self.config.deadlines.stop);
        reap(child, self.config.deadlines.stop).await;
        ended
    }
}

impl Supervisor {
    async fn start_host(&mut self) -> io::Result<(Child, UnixStream)> {
        let TokenConfig { name, settings, keeps_pin, .. } = &self.config;
        if !keeps_pin {
            return self.spawner.start(Kind::Host, None).await;
        }
        let keeper = match self.keeper.take().filter(|keeper| !keeper.is_gone()) {
            Some(keeper) => keeper,
            None => Keeper::start(&self.spawner, name, settings).await?,
        };
        self.spawner.start_host(self.keeper.insert(keeper).process()).await
    }
}

impl Shared {
    /// The status says so before anyone learns that the request failed.
    fn host_ended(&self, ended: &Ended) {
        self.status.send_modify(|status| {
            status.enter(TokenState::Down);
            status.last_error = Some(ended.to_string());
            status.given_up = ended.is_final();
        });
        self.desk.take().outstanding.fail(&ended.as_token_error(&self.name));
    }
}

/// Makes sure that the process is gone. One that the kernel cannot end now, stuck in a driver, is
/// left to a task.
async fn reap(mut child: Child, patience: Duration) {
    child.kill();
    if timeout(patience, child.wait()).await.is_err() {
        tracing::warn!(pid = child.pid(), "a killed token host has not ended yet");
        tokio::task::spawn_local(async move { child.wait().await });
    }
}
