//! Syncs the journal from a thread of its own, soon after the first write that is not yet on the
//! disk. The same thread verifies a journal that comes back after a full disk.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use countersign_base::system::full_disk::is_full;

use super::storage::Syncer;

/// The sync starts this long after the first unsynced write: early enough to be done within 50 ms
/// on an ordinary disk.
pub(super) const DELAY: Duration = Duration::from_millis(30);

/// The thread, and the data that it shares with the journal.
#[derive(Debug)]
pub(super) struct GroupSync {
    shared: Arc<SyncShared>,
    /// The file the journal writes to.
    current: Arc<Syncing>,
    thread: Option<JoinHandle<()>>,
}

/// One file, the bytes of it that were written, and the bytes that are known to be on the disk.
#[derive(Debug)]
struct Syncing {
    file: Box<dyn Syncer>,
    written: AtomicU64,
    synced: AtomicU64,
}

#[derive(Debug)]
struct SyncShared {
    work: Mutex<SyncWork>,
    wake: Condvar,
    /// A sync has ended.
    ended: Condvar,
    /// A sync is due that will cover every write up to its start.
    armed: AtomicBool,
    failed: AtomicBool,
}

#[derive(Debug)]
struct SyncWork {
    due: Option<Instant>,
    file: Arc<Syncing>,
    /// A sync has begun and not ended.
    syncing: bool,
    failure: Option<SyncFailure>,
    verification: Verification,
    stop: bool,
}

/// The error says why the journal does not verify.
type Verified = Result<(), String>;

/// The verification that the thread was asked for, and its result.
#[derive(Default)]
enum Verification {
    Asked(Box<dyn FnOnce() -> Verified + Send>),
    Done(Verified),
    #[default]
    Nothing,
    UnderWay,
}

enum Task {
    Sync(Arc<Syncing>),
    Verify(Box<dyn FnOnce() -> Verified + Send>),
}

/// Why a sync of the thread failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct SyncFailure {
    pub(super) reason: String,
    /// True if there was no room for the bytes: then they can be written again.
    pub(super) full: bool,
}

impl Syncing {
    fn new(file: Box<dyn Syncer>, length: u64) -> Arc<Self> {
        Arc::new(Self { file, written: AtomicU64::new(length), synced: AtomicU64::new(length) })
    }
}

impl GroupSync {
    /// `length` is the number of bytes of the file that are on the disk already.
    pub(super) fn start(file: Box<dyn Syncer>, length: u64) -> std::io::Result<Self> {
        let current = Syncing::new(file, length);
        let work = SyncWork {
            due: None,
            file: Arc::clone(&current),
            syncing: false,
            failure: None,
            verification: Verification::Nothing,
            stop: false,
        };
        let shared = Arc::new(SyncShared {
            work: Mutex::new(work),
            wake: Condvar::new(),
            ended: Condvar::new(),
            armed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("journal-sync".to_owned())
            .spawn(move || theirs.run())?;
        Ok(Self { shared, current, thread: Some(thread) })
    }

    /// Tells the thread that the file was written up to `length`.
    pub(super) fn written(&self, length: u64) {
        self.current.written.store(length, Ordering::SeqCst);
        if self.shared.armed.swap(true, Ordering::SeqCst) {
            return;
        }
        self.shared.lock().due = Some(Instant::now() + DELAY);
        self.shared.wake.notify_one();
    }

    /// The number of bytes of the file that are on the disk, as far as the thread knows.
    pub(super) fn synced(&self) -> u64 {
        self.current.synced.load(Ordering::SeqCst)
    }

    /// Waits for the sync that is under way, so that its failure is known, and cancels the sync
    /// that is due. The caller is about to leave the file for another one and syncs it itself.
    pub(super) fn settle(&self) {
        let work = self.shared.lock();
        let waited = self.shared.ended.wait_while(work, |work| work.syncing);
        let mut work = waited.unwrap_or_else(PoisonError::into_inner);
        work.due = None;
        self.shared.armed.store(false, Ordering::SeqCst);
    }

    /// Asks the thread to verify the journal with `check`, unless it does so already. `None` until
    /// it is done.
    pub(super) fn verify(
        &self,
        check: impl FnOnce() -> Verified + Send + 'static,
    ) -> Option<Verified> {
        let mut work = self.shared.lock();
        match std::mem::take(&mut work.verification) {
            Verification::Done(verified) => return Some(verified),
            Verification::Nothing => work.verification = Verification::Asked(Box::new(check)),
            under_way => work.verification = under_way,
        }
        self.shared.wake.notify_one();
        None
    }

    /// True from the moment when a verification is asked for until it is done.
    pub(super) fn verifies(&self) -> bool {
        matches!(self.shared.lock().verification, Verification::Asked(_) | Verification::UnderWay)
    }

    /// Tells the thread that the journal goes on in another file. The first `length` bytes of it
    /// are synced, and so is all of the old file.
    pub(super) fn follow(&mut self, file: Box<dyn Syncer>, length: u64) {
        self.current = Syncing::new(file, length);
        self.shared.lock().file = Arc::clone(&self.current);
    }

    /// Why a sync failed: the first failure, or the first one that was not a full disk.
    pub(super) fn failure(&self) -> Option<SyncFailure> {
        if !self.shared.failed.load(Ordering::SeqCst) {
            return None;
        }
        self.shared.lock().failure.clone()
    }

    /// Forgets a failure for lack of room: the bytes were written again and are on the disk. Any
    /// other failure stays.
    pub(super) fn forget_failure(&self) {
        let mut work = self.shared.lock();
        work.failure.take_if(|failure| failure.full);
        self.shared.failed.store(work.failure.is_some(), Ordering::SeqCst);
    }
}

impl Drop for GroupSync {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic, and there would be nothing left to do if it did.
            let _ = thread.join();
        }
    }
}

impl SyncShared {
    fn lock(&self) -> MutexGuard<'_, SyncWork> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        while let Some(task) = self.next() {
            match task {
                Task::Sync(syncing) => self.sync(syncing),
                Task::Verify(check) => {
                    let verified = check();
                    self.lock().verification = Verification::Done(verified);
                }
            }
        }
    }

    fn sync(&self, syncing: Arc<Syncing>) {
        let covered = syncing.written.load(Ordering::SeqCst);
        match syncing.file.sync() {
            Ok(()) => drop(syncing.synced.fetch_max(covered, Ordering::SeqCst)),
            Err(error) => self.fail(&error),
        }
        self.lock().syncing = false;
        self.ended.notify_all();
    }

    fn fail(&self, error: &std::io::Error) {
        let failure = SyncFailure {
            reason: format!("the journal could not be synced: {error}"),
            full: is_full(error),
        };
        let mut work = self.lock();
        if work.failure.as_ref().is_none_or(|known| known.full && !failure.full) {
            work.failure = Some(failure);
        }
        self.failed.store(true, Ordering::SeqCst);
    }

    /// Waits until there is something to do. `None` if the thread has to end.
    fn next(&self) -> Option<Task> {
        let mut work = self.lock();
        loop {
            if work.stop {
                return None;
            }
            let now = Instant::now();
            if work.due.is_some_and(|due| due <= now) {
                break;
            }
            match std::mem::take(&mut work.verification) {
                Verification::Asked(check) => {
                    work.verification = Verification::UnderWay;
                    return Some(Task::Verify(check));
                }
                other => work.verification = other,
            }
            work = match work.due {
                None => self.wake.wait(work).unwrap_or_else(PoisonError::into_inner),
                Some(due) => {
                    self.wake
                        .wait_timeout(work, due - now)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        (work.due, work.syncing) = (None, true);
        // Cleared before the sync starts: a write that comes while it runs needs another sync.
        self.armed.store(false, Ordering::SeqCst);
        Some(Task::Sync(Arc::clone(&work.file)))
    }
}

impl std::fmt::Debug for Verification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Asked(_) => "Asked",
            Self::Done(_) => "Done",
            Self::Nothing => "Nothing",
            Self::UnderWay => "UnderWay",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Reports when it is asked to sync, and fails for lack of room once it is told to.
    #[derive(Debug)]
    struct Slow {
        began: Mutex<Sender<()>>,
        fails: Mutex<Receiver<()>>,
    }

    impl Syncer for Slow {
        fn sync(&self) -> std::io::Result<()> {
            let _ = self.began.lock().expect("no panic").send(());
            let _ = self.fails.lock().expect("no panic").recv();
            Err(std::io::ErrorKind::StorageFull.into())
        }
    }

    #[test]
    fn a_failure_is_known_before_the_journal_goes_on_in_another_file() {
        let ((began, begins), (fail, fails)) = (channel(), channel());
        let slow = Slow { began: Mutex::new(began), fails: Mutex::new(fails) };
        let group_sync = GroupSync::start(Box::new(slow), 0).expect("a thread");
        group_sync.written(10);
        begins.recv().expect("the thread syncs");
        assert_eq!(group_sync.failure(), None, "not yet");
        let failing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            fail.send(()).expect("the thread waits");
        });
        group_sync.settle();
        let failure = group_sync.failure().expect("it failed");
        assert!(failure.full, "what was written can be written again: {failure:?}");
        failing.join().expect("no panic");
    }

    /// Counts how often it is asked to sync.
    #[derive(Debug, Default)]
    struct Counted(Arc<AtomicU64>);

    impl Syncer for Counted {
        fn sync(&self) -> std::io::Result<()> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    #[test]
    fn once_the_journal_has_settled_no_file_that_it_leaves_is_synced() {
        let left = Counted::default();
        let times = Arc::clone(&left.0);
        let mut group_sync = GroupSync::start(Box::new(left), 0).expect("a thread");
        group_sync.written(10);
        group_sync.settle();
        std::thread::sleep(2 * DELAY);
        assert_eq!(times.load(Ordering::SeqCst), 0, "its owner has synced it");
        let next = Counted::default();
        let times = Arc::clone(&next.0);
        group_sync.follow(Box::new(next), 0);
        group_sync.written(10);
        std::thread::sleep(4 * DELAY);
        assert_eq!(times.load(Ordering::SeqCst), 1, "the next one is");
    }

    #[test]
    fn a_disk_that_is_full_and_broken_is_broken_whichever_was_known_first() {
        use std::io::ErrorKind::{Other, StorageFull};
        for (errors, full, forgotten) in [
            (&[StorageFull][..], true, true),
            (&[StorageFull, StorageFull], true, true),
            (&[StorageFull, Other], false, false),
            (&[Other, StorageFull], false, false),
        ] {
            let group_sync = GroupSync::start(Box::new(Counted::default()), 0).expect("a thread");
            errors.iter().for_each(|error| group_sync.shared.fail(&(*error).into()));
            assert_eq!(group_sync.failure().map(|failure| failure.full), Some(full), "{errors:?}");
            group_sync.forget_failure();
            assert_eq!(group_sync.failure().is_none(), forgotten, "{errors:?}");
        }
    }
}
