//! Threads that sign what takes long, each with a session of its own, and the one writer they share
//! with the main loop.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use countersign_base::messages::frame;
use countersign_base::messages::token_host::{FromHost, HostError};
use countersign_core::algorithm::Algorithm;
use zeroize::Zeroizing;

use super::catalogue::SigningKey;
use super::signer::{Signer, sign};
use crate::token::fault::Fault;
use crate::token::pkcs11::Token;

/// One request for a worker.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: u64,
    pub(crate) key: Arc<SigningKey>,
    pub(crate) message: Vec<u8>,
}

#[derive(Debug)]
enum Order {
    KeepAlive,
    Sign(Job),
}

/// The threads; dropping it lets them finish what they were given.
#[derive(Debug)]
pub(crate) struct Workers {
    orders: Option<Sender<Order>>,
    threads: Vec<JoinHandle<()>>,
    writer: Writer,
    /// Whether MACs go to the threads too: they do where a signature is a round trip over a
    /// network.
    takes_macs: bool,
    gave_up: GaveUp,
}

/// Why a thread ended before it was told to.
type GaveUp = Arc<Mutex<Option<HostError>>>;

/// Whole frames only: each write is made under the lock.
type Writer = Arc<Mutex<UnixStream>>;

impl Workers {
    pub(crate) fn start(token: &Arc<Token>, stream: &UnixStream) -> Result<Self, HostError> {
        let failed =
            |error: io::Error| HostError::Token(format!("no thread to sign with: {error}"));
        let writer: Writer = Arc::new(Mutex::new(stream.try_clone().map_err(failed)?));
        let (orders, received) = channel();
        let received = Arc::new(Mutex::new(received));
        let gave_up = GaveUp::default();
        let mut threads = Vec::new();
        for number in 0..token.profile().workers {
            let worker = Worker {
                signer: Signer::open(token.clone())?,
                orders: received.clone(),
                writer: writer.clone(),
                gave_up: gave_up.clone(),
            };
            let builder = thread::Builder::new().name(format!("signer-{number}"));
            threads.push(builder.spawn(move || worker.run()).map_err(failed)?);
        }
        Ok(Self {
            orders: Some(orders),
            threads,
            writer,
            takes_macs: token.profile().workers > 1,
            gave_up,
        })
    }

    /// Whether this algorithm is for the threads.
    pub(crate) fn take(&self, algorithm: Algorithm) -> bool {
        self.takes_macs || !algorithm.is_hmac()
    }

    pub(crate) fn send(&self, job: Job) -> Result<(), HostError> {
        self.order(Order::Sign(job))
    }

    /// Has every thread use its session once.
    pub(crate) fn keep_alive(&self) -> Result<(), HostError> {
        self.threads.iter().try_for_each(|_| self.order(Order::KeepAlive))
    }

    /// Writes whole frames.
    pub(crate) fn write(&self, frames: &[u8]) -> io::Result<()> {
        if frames.is_empty() { Ok(()) } else { locked(&self.writer).write_all(frames) }
    }

    /// The error of a thread that only a new process can cure.
    pub(crate) fn gave_up(&self) -> Option<HostError> {
        locked(&self.gave_up).clone()
    }

    /// Waits until everything the threads were given is done.
    pub(crate) fn finish(&mut self) {
        self.orders = None;
        for thread in self.threads.drain(..) {
            // A worker that panicked has nothing more to finish.
            let _ = thread.join();
        }
    }

    fn order(&self, order: Order) -> Result<(), HostError> {
        let gone = || HostError::Token("signing threads that have ended".to_owned());
        self.orders.as_ref().ok_or_else(gone)?.send(order).map_err(|_| gone())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.finish();
    }
}

struct Worker {
    signer: Signer,
    orders: Arc<Mutex<Receiver<Order>>>,
    writer: Writer,
    gave_up: GaveUp,
}

impl Worker {
    fn run(mut self) {
        loop {
            // Taking an order releases the lock before it is carried out.
            let order = locked(&self.orders).recv();
            let Ok(order) = order else { return };
            if let Err(error) = self.carry_out(order) {
                self.give_up(error);
                return;
            }
        }
    }

    fn carry_out(&mut self, order: Order) -> Result<(), HostError> {
        let Order::Sign(Job { id, key, message }) = order else {
            return self.signer.keep_alive().map_err(|fault| fault.error);
        };
        match sign(&mut self.signer, id, &key, &message) {
            Ok(answer) => self.answer(&answer),
            Err(Fault { error, broken }) => {
                self.answer(&FromHost::Failed { id, error: error.clone() })?;
                if broken { Err(error) } else { Ok(()) }
            }
        }
    }

    fn answer(&self, answer: &FromHost) -> Result<(), HostError> {
        let mut out = Zeroizing::new(Vec::new());
        let sent = frame::encode(answer, &mut out)
            .and_then(|()| Ok(locked(&self.writer).write_all(&out)?));
        sent.map_err(|error| HostError::Token(format!("a front that is gone: {error}")))
    }

    /// Tells the front, and ends the main loop by closing its connection for reading.
    fn give_up(&self, error: HostError) {
        // Where the front is gone there is nobody left to tell, and the main loop is ending
        // already.
        let _ = self.answer(&FromHost::Broken(error.clone()));
        *locked(&self.gave_up) = Some(error);
        let _ = locked(&self.writer).shutdown(Shutdown::Both);
    }
}

/// A thread that panicked while it held the lock left no half frame: frames are written in one
/// call.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
