//! The ledger: the durable, hash-chained record of intents and results, and the limits and nonces
//! that follow from it.
//!
//! One owner, no threads but the one that syncs, nothing asynchronous. After a failure to write or
//! sync nothing is signed: where the disk was full, until there is room and the chain was verified;
//! else until a restart has verified it.

mod ballast;
mod full;
mod group_sync;
mod journal;
pub mod keys;
pub mod nonces;
pub mod recorder;
mod recovery;
mod refusals;
pub mod segment;
mod state;
pub mod storage;
pub mod verify;
pub mod windows;
mod writers;

#[cfg(test)]
mod simulated_disk;
#[cfg(test)]
mod ledger_tests;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign_core::audit::SegmentName;
use countersign_core::chain::Link;
use countersign_core::decimal::Amount;
use countersign_core::key::{KeyName, NonceUnit};
use countersign_core::policy::Spend;
use countersign_core::record::{
    CarriedState, Closed, Intent, NonceBlock, Opened, Record, Refused, Reserve, WindowBlock,
};

pub use ballast::ballast_file;
pub use recovery::Torn;
pub use writers::Crowded;

use ballast::Ballast;
use full::{Reach, Stopped};
use journal::Journal;
use recovery::{Recovered, recover};
use refusals::{Floods, Recording, shortened};
use segment::SegmentDir;
use state::State;
use storage::{Space, Storage};
use windows::WindowError;
use writers::Writers;

/// Why the ledger could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error(
        "the journal is damaged: {segment}, line {line}: {reason}. Nothing is signed with a \
         damaged journal. \
         `countersign audit verify` shows all that is wrong. To go on without it, move {} aside \
         and start again: \
         what was spent in the last 24 hours is then forgotten, so lower the limits for a \
         day", journal.display()
    )]
    Damaged { journal: PathBuf, segment: String, line: u64, reason: String },
    #[error(
        "{0}; nothing is signed until there is room and the journal was verified, which the agent \
         tries by itself"
    )]
    Full(String),
    #[error("another agent works on {}", .0.display())]
    InUse(PathBuf),
    #[error("could not {doing}")]
    Io { doing: String, source: io::Error },
    #[error("key {0} has no nonces left: its last one stands at the end of the numbers")]
    NoncesExhausted(KeyName),
    #[error("{0}; nothing is signed until the agent is restarted and has verified the journal")]
    Unavailable(String),
}

impl LedgerError {
    fn io(doing: &str, source: io::Error) -> Self {
        Self::Io { doing: doing.to_owned(), source }
    }

    fn damaged(
        segments: &SegmentDir,
        segment: SegmentName,
        line: u64,
        reason: impl Into<String>,
    ) -> Self {
        Self::Damaged {
            journal: segments.dir.clone(),
            segment: segment.to_string(),
            line,
            reason: reason.into(),
        }
    }
}

/// Why spends were not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    #[error(transparent)]
    Crowded(#[from] Crowded),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Limit(#[from] WindowError),
}

/// When records reach the disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Durability {
    /// Written at each flush, synced within 50 ms.
    #[default]
    Group,
    /// Synced at each flush.
    Synced,
}

/// How long complete segments are kept. What limits and nonces need is never lost: the newest
/// segment carries it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Retention {
    pub age_ms: u64,
    /// Of all segments together; less on a disk that has not so much room.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age_ms: 400 * DAY_MS, bytes: 16 << 30 }
    }
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// How a ledger works, and what run of the agent it belongs to.
#[derive(Clone, Debug)]
pub struct Options {
    pub version: String,
    pub pid: u32,
    /// See [`boot_id`]. Empty where it is not known: then every unclean stop counts as a power cut.
    pub boot_id: String,
    pub durability: Durability,
    pub retention: Retention,
    /// A segment that is longer or older is followed by a new one.
    pub segment_bytes: u64,
    pub segment_age_ms: u64,
    /// Room that is set aside for a full disk; less on a small one.
    pub ballast_bytes: u64,
    /// On a full disk, nothing is tried again sooner than so long after it failed.
    pub try_again: Duration,
    /// False: no thread; the owner calls [`Ledger::sync`] when [`Ledger::sync_due`] says.
    pub background_sync: bool,
}

impl Options {
    /// The usual options for this process.
    pub fn for_this_run() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            boot_id: boot_id().unwrap_or_default(),
            durability: Durability::default(),
            retention: Retention::default(),
            segment_bytes: 64 << 20,
            segment_age_ms: DAY_MS,
            ballast_bytes: 4 << 20,
            try_again: Duration::from_millis(250),
            background_sync: true,
        }
    }
}

/// The kernel's id of this boot.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// What was found at the start. Worth a line in the log, and a warning where `torn` or `health`
/// says so.
#[derive(Clone, Debug)]
pub struct OpenReport {
    pub carried: CarriedState,
    pub segments: usize,
    /// The `opened` record of this run.
    pub opened: Link,
    pub torn: Option<Torn>,
    pub health: Health,
}

/// How the ledger is doing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Health {
    /// Why nothing is signed any more.
    pub unavailable: Option<String>,
    /// Which clients have to make way, where the disk is nearly full.
    pub crowded: Option<String>,
    /// Absent where the file system does not say.
    pub space: Option<Space>,
}

impl Health {
    /// True where less than 5 % or 256 MiB of the disk is free.
    pub fn is_space_low(&self) -> bool {
        self.space.is_some_and(Space::is_low)
    }
}

/// The one writer of a state directory's journal.
#[derive(Debug)]
pub struct Ledger {
    journal: Journal,
    state: State,
    options: Options,
    floods: Floods,
    ballast: Ballast,
    writers: Writers,
    stopped: Option<Stopped>,
    /// Held as long as the ledger lives.
    _lock: Box<dyn Debug + Send>,
}

impl Ledger {
    /// Takes up the journal below `state_dir`, or begins one; verified, repaired where its end is
    /// torn, and synced.
    pub fn open(
        state_dir: &Path,
        storage: Arc<dyn Storage>,
        mut options: Options,
        now_ms: u64,
    ) -> Result<(Self, OpenReport), LedgerError> {
        let lock = prepare(state_dir, &storage)?;
        let ballast = Ballast::open(Arc::clone(&storage), state_dir, options.ballast_bytes);
        if let Ok(space) = storage.space(state_dir) {
            options.segment_bytes = options.segment_bytes.min(space.segment());
        }
        let segments = SegmentDir::new(storage, state_dir);
        let Recovered { end, state, segments: count, torn } = recover(&segments, now_ms)?;
        let journal = Journal::new(segments, end, options.background_sync)
            .map_err(|error| LedgerError::io("start the thread that syncs the journal", error))?;
        let carried = state.carried_into(&options.boot_id);
        let (floods, writers) = (Floods::default(), Writers::default());
        let mut ledger =
            Self { journal, state, options, floods, ballast, writers, stopped: None, _lock: lock };
        let opened = ledger.begin(now_ms, carried, torn)?;
        let report = OpenReport { carried, segments: count, opened, torn, health: ledger.health() };
        Ok((ledger, report))
    }

    fn begin(
        &mut self,
        now_ms: u64,
        carried: CarriedState,
        torn: Option<Torn>,
    ) -> Result<Link, LedgerError> {
        let Options { version, boot_id, pid, retention, .. } = self.options.clone();
        let cut_bytes = if let Some(Torn::Cut(bytes)) = torn { bytes } else { 0 };
        let (version, boot_id) = (version.into(), boot_id.into());
        let opened = self.append(
            now_ms,
            &Record::Opened(Opened { version, boot_id, pid, carried, cut_bytes }),
        )?;
        self.sync()?;
        let removed = self.journal.remove_old(now_ms, &mut self.state, retention);
        let set_aside = removed.and_then(|()| self.set_room_aside());
        match self.judged(set_aside) {
            // The agent starts, says that the disk is full, and signs once there is room.
            Ok(()) | Err(LedgerError::Full(_)) => Ok(opened),
            Err(error) => Err(error),
        }
    }

    /// Puts a record at the end of the journal; [`Ledger::flush`] or [`Ledger::sync`] makes it
    /// stand.
    ///
    /// The spends of an intent are counted by this, whatever their caps: [`Ledger::intend`] judges
    /// them first.
    pub fn append(&mut self, time_ms: u64, record: &Record<'_>) -> Result<Link, LedgerError> {
        self.may_append(record)?;
        if !self.is_full() {
            let rotated = self.journal.rotate_where_due(time_ms, &mut self.state, &self.options);
            // Where it finds no room, what ends or refuses something is recorded all the same.
            self.judged(rotated).or_else(|_| self.may_append(record))?;
        }
        let appended = self.journal.put(time_ms, record, &mut self.state);
        self.judged(appended)
    }

    /// Judges the spends of an intent, reserves for them on the disk, counts them and appends the
    /// intent: all or nothing.
    pub fn intend(&mut self, time_ms: u64, intent: Intent<'_>) -> Result<Link, ReserveError> {
        let now_ms = self.state.time_ms(time_ms);
        self.look_at_space(now_ms);
        self.writers.admit(&intent.client, now_ms)?;
        self.reserve(time_ms, &intent.spends)?;
        let (client, before) = (intent.client.clone().into_owned(), self.journal.pending());
        let link = self.append(time_ms, &Record::Intent(Box::new(intent)))?;
        let bytes = self.journal.pending().saturating_sub(before) as u64;
        self.writers.wrote(&client, bytes, now_ms);
        Ok(link)
    }

    /// How long the next request of a client waits before anything is done for it: the disk is
    /// nearly full, and the client writes more than its share.
    pub fn wait_of(&mut self, client: &str, now_ms: u64) -> Duration {
        self.writers.wait(client, self.state.time_ms(now_ms))
    }

    fn look_at_space(&mut self, now_ms: u64) {
        if self.writers.wants_look(now_ms) {
            self.writers.look(self.space(), now_ms);
        }
    }

    fn space(&self) -> Option<Space> {
        let segments = &self.journal.segments;
        segments.storage.space(&segments.dir).ok()
    }

    /// Judges `spends` and reserves for them on the disk. They are counted when their intent is
    /// appended.
    fn reserve(&mut self, now_ms: u64, spends: &[Spend]) -> Result<(), ReserveError> {
        self.available()?;
        let blocks = self.state.windows.admit(self.state.time_ms(now_ms), spends)?;
        Ok(self.set_aside(now_ms, blocks, Vec::new())?)
    }

    /// The next nonce of a key; never given out before, also not before a crash.
    pub fn nonce(
        &mut self,
        key: &KeyName,
        unit: NonceUnit,
        now_ms: u64,
    ) -> Result<u64, LedgerError> {
        self.available()?;
        let next = self.state.nonces.next(key.as_str(), unit, now_ms);
        let Some(next) = next else { return Err(LedgerError::NoncesExhausted(key.clone())) };
        self.set_aside(now_ms, Vec::new(), next.reserve.into_iter().collect())?;
        self.state.nonces.used(key.as_str(), next.nonce);
        Ok(next.nonce)
    }

    fn set_aside(
        &mut self,
        now_ms: u64,
        windows: Vec<WindowBlock>,
        nonces: Vec<NonceBlock<'_>>,
    ) -> Result<(), LedgerError> {
        if windows.is_empty() && nonces.is_empty() {
            return Ok(());
        }
        self.append(now_ms, &Record::Reserve(Reserve { windows, nonces }))?;
        self.sync()
    }

    /// Records a refusal; of a flood, the first ones singly and the rest as a count that
    /// [`Ledger::tick`] records.
    pub fn refuse(&mut self, time_ms: u64, refused: &Refused<'_>) -> Result<(), LedgerError> {
        self.writable()?;
        self.record_floods(time_ms)?;
        let now_ms = self.state.time_ms(time_ms);
        match self.floods.admit(now_ms, &refused.client, &refused.code, self.is_full()) {
            Recording::Counted => Ok(()),
            Recording::Singly => {
                self.append(time_ms, &Record::Refused(shortened(refused))).map(drop)
            }
        }
    }

    /// To be called every few seconds: records what was counted, looks at the space, and comes back
    /// where the disk was full.
    pub fn tick(&mut self, now_ms: u64) -> Result<(), LedgerError> {
        self.record_floods(now_ms)?;
        if self.is_full() {
            return self.come_back();
        }
        self.look_at_space(self.state.time_ms(now_ms));
        if self.space().is_some_and(Space::is_below_floor) {
            let removed = self.journal.remove_old(now_ms, &mut self.state, self.options.retention);
            self.judged(removed)?;
        }
        Ok(())
    }

    fn record_floods(&mut self, now_ms: u64) -> Result<(), LedgerError> {
        if !self.has_place_for_counts() {
            return Ok(());
        }
        for refusals in self.floods.ended(self.state.time_ms(now_ms)) {
            self.append(now_ms, &Record::Refusals(refusals))?;
        }
        Ok(())
    }

    /// Hands what was appended to the kernel in one write: before any reply leaves. Syncs too,
    /// where all is synced.
    pub fn flush(&mut self) -> Result<(), LedgerError> {
        if self.options.durability == Durability::Synced {
            return self.sync();
        }
        self.stand(Reach::Kernel)
    }

    /// Returns when all that was appended is on the disk: before a token is asked to transfer,
    /// withdraw or administer.
    pub fn sync(&mut self) -> Result<(), LedgerError> {
        self.stand(Reach::Disk)
    }

    pub fn durability(&self) -> Durability {
        self.options.durability
    }

    /// How long until [`Ledger::sync`] is due; `None` where nothing waits for it, or the thread
    /// sees to it.
    pub fn sync_due(&self) -> Option<Duration> {
        self.journal.sync_due()
    }

    /// Why the thread that syncs has failed; cheap enough to ask often. From then on everything is
    /// refused.
    pub fn sync_failure(&self) -> Option<String> {
        self.journal.sync_failure().map(|failure| failure.reason)
    }

    /// What is used of a limit's window.
    pub fn used(&self, now_ms: u64, window: &str) -> Amount {
        self.state.windows.used(self.state.time_ms(now_ms), window)
    }

    /// The latest time on record. Limits go by it while a time that is handed in is earlier.
    pub fn latest_ms(&self) -> u64 {
        self.state.time_ms(0)
    }

    pub fn health(&self) -> Health {
        let stopped = self.stopped.as_ref().map(|stopped| stopped.reason.clone());
        Health {
            unavailable: stopped.or_else(|| self.sync_failure()),
            crowded: self.writers.warning(self.latest_ms()),
            space: self.space(),
        }
    }

    /// Records wait in memory for room on the disk.
    pub fn holds_records_back(&self) -> bool {
        self.is_full() && self.journal.pending() > 0
    }

    /// Ends the run in order: what was reserved and not used is free again. Whatever does not fit,
    /// the rest is written.
    pub fn close(mut self, now_ms: u64) -> Result<(), LedgerError> {
        self.writable()?;
        let mut done = Ok(());
        for refusals in self.floods.all() {
            if self.holds_too_much() {
                // what it could not write is tried again below
                let _ = self.write_out(Reach::Kernel);
            }
            done = done.and(self.append(now_ms, &Record::Refusals(refusals)).map(drop));
        }
        let closed = self.append(now_ms, &Record::Closed(Closed {})).map(drop);
        let written = self.write_out(Reach::Disk);
        written.and(done).and(closed)
    }
}

/// Makes the directories, their names on the disk, and keeps every other agent out.
fn prepare(
    state_dir: &Path,
    storage: &Arc<dyn Storage>,
) -> Result<Box<dyn Debug + Send>, LedgerError> {
    let making =
        |error| LedgerError::io(&format!("make the journal in {}", state_dir.display()), error);
    storage.create_dir(&state_dir.join("journal")).map_err(making)?;
    let lock = storage.lock(&state_dir.join("lock")).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => LedgerError::InUse(state_dir.to_owned()),
        _ => LedgerError::io(&format!("lock {}", state_dir.display()), error),
    })?;
    storage.sync_dir(state_dir).map_err(making)?;
    Ok(lock)
}
