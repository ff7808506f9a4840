//! Threads that make slow signatures, each with a session of its own, and the one writer that they
//! share with the main loop.

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
use super::signer::{SigningSession, sign};
use crate::token::fault::Fault;
use crate::token::pkcs11::Pkcs11Token;

/// One signature for a worker to make.
#[derive(Debug)]
pub(crate) struct SignatureJob {
    pub(crate) id: u64,
    pub(crate) key: Arc<SigningKey>,
    pub(crate) message: Vec<u8>,
}

#[derive(Debug)]
enum WorkerJob {
    KeepAlive,
    Sign(SignatureJob),
}

/// The threads that sign. When this is dropped, they finish the jobs they have.
#[derive(Debug)]
pub(crate) struct Workers {
    jobs: Option<Sender<WorkerJob>>,
    threads: Vec<JoinHandle<()>>,
    writer: AnswerWriter,
    /// True if MACs go to the threads too, because a signature is a round trip over a network.
    takes_macs: bool,
    gave_up: GaveUp,
}

/// The error with which a thread ended before it was told to.
type GaveUp = Arc<Mutex<Option<HostError>>>;

/// Whole frames only: each write is made under the lock.
type AnswerWriter = Arc<Mutex<UnixStream>>;

impl Workers {
    pub(crate) fn start(token: &Arc<Pkcs11Token>, stream: &UnixStream) -> Result<Self, HostError> {
        let failed =
            |error: io::Error| HostError::Token(format!("no thread to sign with: {error}"));
        let writer: AnswerWriter = Arc::new(Mutex::new(stream.try_clone().map_err(failed)?));
        let (jobs, received) = channel();
        let received = Arc::new(Mutex::new(received));
        let gave_up = GaveUp::default();
        let mut threads = Vec::new();
        for number in 0..token.profile().workers {
            let worker = Worker {
                signer: SigningSession::open(token.clone())?,
                jobs: received.clone(),
                writer: writer.clone(),
                gave_up: gave_up.clone(),
            };
            let builder = thread::Builder::new().name(format!("signer-{number}"));
            threads.push(builder.spawn(move || worker.run()).map_err(failed)?);
        }
        Ok(Self {
            jobs: Some(jobs),
            threads,
            writer,
            takes_macs: token.profile().workers > 1,
            gave_up,
        })
    }

    /// True if signatures with this algorithm go to the threads.
    pub(crate) fn take(&self, algorithm: Algorithm) -> bool {
        self.takes_macs || !algorithm.is_hmac()
    }

    pub(crate) fn send(&self, job: SignatureJob) -> Result<(), HostError> {
        self.give(WorkerJob::Sign(job))
    }

    /// Has every thread use its session once.
    pub(crate) fn keep_alive(&self) -> Result<(), HostError> {
        self.threads.iter().try_for_each(|_| self.give(WorkerJob::KeepAlive))
    }

    /// Writes whole frames.
    pub(crate) fn write(&self, frames: &[u8]) -> io::Result<()> {
        if frames.is_empty() { Ok(()) } else { locked(&self.writer).write_all(frames) }
    }

    /// The error of a thread that gave up, which only a new process can cure.
    pub(crate) fn gave_up(&self) -> Option<HostError> {
        locked(&self.gave_up).clone()
    }

    /// Waits until the threads have finished all their jobs.
    pub(crate) fn finish(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A worker that panicked has nothing more to finish.
            let _ = thread.join();
        }
    }

    fn give(&self, job: WorkerJob) -> Result<(), HostError> {
        let gone = || HostError::Token("signing threads that have ended".to_owned());
        self.jobs.as_ref().ok_or_else(gone)?.send(job).map_err(|_| gone())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.finish();
    }
}

struct Worker {
    signer: SigningSession,
    jobs: Arc<Mutex<Receiver<WorkerJob>>>,
    writer: AnswerWriter,
    gave_up: GaveUp,
}

impl Worker {
    fn run(mut self) {
        loop {
            // The lock is released as soon as the job is taken, before the job is carried out.
            let job = locked(&self.jobs).recv();
            let Ok(job) = job else { return };
            if let Err(error) = self.carry_out(job) {
                self.give_up(error);
                return;
            }
        }
    }

    fn carry_out(&mut self, job: WorkerJob) -> Result<(), HostError> {
        let WorkerJob::Sign(SignatureJob { id, key, message }) = job else {
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
        // If the front is gone, nobody can be told, and the main loop is ending already.
        let _ = self.answer(&FromHost::Broken(error.clone()));
        *locked(&self.gave_up) = Some(error);
        let _ = locked(&self.writer).shutdown(Shutdown::Both);
    }
}

/// Takes the lock, even if a thread panicked while it held it. That thread left no half frame:
/// frames are written in one call.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
