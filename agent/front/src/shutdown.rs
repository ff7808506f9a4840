//! Receives the signals that tell the agent to stop or to read its configuration again: SIGTERM,
//! SIGINT, SIGHUP.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Tells every holder of a [`Stop`] that the agent stops.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// Waits for the agent to stop.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stopper {
    pub fn new() -> (Self, Stop) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), Stop(receiver))
    }

    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once the agent has to stop, or once the [`Stopper`] is gone.
    pub async fn requested(&mut self) {
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// The signals that the agent listens to. Once this exists, none of them ends the process by
/// itself.
#[derive(Debug)]
pub struct Signals {
    hang_up: Signal,
    interrupt: Signal,
    terminate: Signal,
    stop_came: bool,
}

/// The wish of the operator or the service manager.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wish {
    Reload,
    Stop,
}

impl Signals {
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            stop_came: false,
        })
    }

    /// Waits for the next signal. A stop comes before a reload.
    pub async fn next(&mut self) -> Wish {
        if self.stop_came {
            return Wish::Stop;
        }
        tokio::select! {
            biased;
            _ = self.terminate.recv() => self.stop_came = true,
            _ = self.interrupt.recv() => self.stop_came = true,
            _ = self.hang_up.recv() => return Wish::Reload,
        }
        Wish::Stop
    }

    /// Returns once the agent has to stop, so that long work can be given up. [`Self::next`] tells
    /// of the stop afterwards too.
    pub async fn stop(&mut self) {
        if !self.stop_came {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            self.stop_came = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_hang_up_asks_for_a_reload() {
        let mut signals = Signals::listen().expect("signals can be listened to");
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::HUP)
            .expect("a signal to oneself");
        assert_eq!(signals.next().await, Wish::Reload);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_stop_that_ended_something_is_told_afterwards_too() {
        let mut signals = Signals::listen().expect("signals can be listened to");
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::INT)
            .expect("a signal to oneself");
        signals.stop().await;
        signals.stop().await;
        assert_eq!(signals.next().await, Wish::Stop);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_stop_reaches_those_who_wait_and_those_who_ask_later() {
        let (stopper, stop) = Stopper::new();
        let waiting = tokio::spawn({
            let mut stop = stop.clone();
            async move { stop.requested().await }
        });
        tokio::task::yield_now().await;
        stopper.stop();
        waiting.await.expect("the waiting task ends");
        stop.clone().requested().await;
    }
}
