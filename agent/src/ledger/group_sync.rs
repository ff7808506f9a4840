//! Syncs the journal from a thread of its own, soon after the first write that is not yet on the disk.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::storage::Syncer;

/// The sync starts this long after the first unsynced write: early enough to be done within 50 ms on an ordinary disk.
pub(super) const DELAY: Duration = Duration::from_millis(30);

/// The thread, and what it shares with the journal.
#[derive(Debug)]
pub(super) struct GroupSync {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    work: Mutex<Work>,
    wake: Condvar,
    /// A sync is due that will cover every write up to its start.
    armed: AtomicBool,
    failed: AtomicBool,
}

#[derive(Debug)]
struct Work {
    due: Option<Instant>,
    file: Arc<dyn Syncer>,
    failure: Option<String>,
    stop: bool,
}

impl GroupSync {
    pub(super) fn start(file: Box<dyn Syncer>) -> std::io::Result<Self> {
        let work = Work { due: None, file: file.into(), failure: None, stop: false };
        let shared = Arc::new(Shared {
            work: Mutex::new(work),
            wake: Condvar::new(),
            armed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("journal-sync".to_owned()).spawn(move || theirs.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Tells the thread that bytes were written.
    pub(super) fn written(&self) {
        if self.shared.armed.swap(true, Ordering::SeqCst) {
            return;
        }
        self.shared.lock().due = Some(Instant::now() + DELAY);
        self.shared.wake.notify_one();
    }

    /// The journal goes on in another file; the old one is synced already.
    pub(super) fn follow(&self, file: Box<dyn Syncer>) {
        self.shared.lock().file = file.into();
    }

    /// Why a sync failed, from the first failure on.
    pub(super) fn failure(&self) -> Option<String> {
        if !self.shared.failed.load(Ordering::SeqCst) {
            return None;
        }
        self.shared.lock().failure.clone()
    }
}

impl Drop for GroupSync {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // It has no way to panic; and there is nothing left to do if it did.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        while let Some(file) = self.next() {
            if let Err(error) = file.sync() {
                self.lock().failure.get_or_insert(format!("the journal could not be synced: {error}"));
                self.failed.store(true, Ordering::SeqCst);
            }
        }
    }

    /// Waits until a sync is due; `None` where the thread has to end.
    fn next(&self) -> Option<Arc<dyn Syncer>> {
        let mut work = self.lock();
        loop {
            if work.stop {
                return None;
            }
            let now = Instant::now();
            work = match work.due {
                None => self.wake.wait(work).unwrap_or_else(PoisonError::into_inner),
                Some(due) if due > now => {
                    self.wake.wait_timeout(work, due - now).unwrap_or_else(PoisonError::into_inner).0
                }
                Some(_) => break,
            };
        }
        work.due = None;
        // Before the sync starts: a write that comes while it runs needs another one.
        self.armed.store(false, Ordering::SeqCst);
        Some(Arc::clone(&work.file))
    }
}
