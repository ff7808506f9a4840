//! The ledger: the durable, hash-chained journal of intents and results, with the limits and nonces
//! that follow from it.
//!
//! The ledger has one owner, one thread that syncs, and nothing asynchronous. After a failure to
//! write or sync, nothing is signed. If the disk was full, signing goes on once there is room and
//! the chain was verified. After any other failure, signing goes on once a restart has verified the
//! chain.

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
mod ledger_tests;
#[cfg(test)]
mod simulated_disk;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign_core::audit::SegmentName;
use countersign_core::calendar::DAY_MS;
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
use full::{AppendReach, Stopped, WhenFull, when_full};
use journal::Journal;
use recovery::{Recovered, recover};
use refusals::{Floods, Recording, shortened};
use segment::SegmentDir;
use state::LedgerState;
use storage::{Space, Storage};
use windows::WindowError;
use writers::{RESULT_BYTES, Writers, expected};

/// Why the ledger could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error(
        "the journal is damaged: {segment}, line {line}: {reason}. Nothing is signed with a \
         damaged journal. \
         `countersign audit verify` shows all that is wrong. To go on without it, move {} aside \
         and start again: \
         the spends of the last 24 hours are then forgotten, so lower the limits for a \
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

/// Why the ledger did not accept the spends of an intent.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    #[error(transparent)]
    Crowded(#[from] Crowded),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Limit(#[from] WindowError),
}

/// The moment at which records reach the disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SyncMode {
    /// Written at each flush, synced within 50 ms.
    #[default]
    Group,
    /// Synced at each flush.
    Synced,
}

/// Limits for keeping complete segments. Limits and nonces lose nothing when a segment is removed:
/// the newest segment carries their state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Retention {
    pub age_ms: u64,
    /// Bytes of all segments together; less on a disk that does not have so much room.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age_ms: 400 * DAY_MS, bytes: 16 << 30 }
    }
}

/// Settings of a ledger, and the run of the agent that it belongs to.
#[derive(Clone, Debug)]
pub struct Options {
    pub version: String,
    pub pid: u32,
    /// See [`boot_id`]. Empty if it is not known: then every unclean stop counts as a power cut.
    pub boot_id: String,
    pub durability: SyncMode,
    pub retention: Retention,
    /// A segment that is longer than this, or older than `segment_age_ms`, is followed by a new
    /// one.
    pub segment_bytes: u64,
    pub segment_age_ms: u64,
    /// Room that is set aside for a full disk, in bytes; less on a small disk.
    pub ballast_bytes: u64,
    /// On a full disk, the ledger waits this long after a failure before it tries again.
    pub try_again: Duration,
    /// True: a thread syncs. False: the owner calls [`LedgerWriter::sync`] when
    /// [`LedgerWriter::sync_due`] says so.
    pub background_sync: bool,
}

impl Options {
    /// The usual options for this process.
    pub fn for_this_run() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            boot_id: boot_id().unwrap_or_default(),
            durability: SyncMode::default(),
            retention: Retention::default(),
            segment_bytes: 64 << 20,
            segment_age_ms: DAY_MS,
            ballast_bytes: 4 << 20,
            try_again: Duration::from_millis(250),
            background_sync: true,
        }
    }
}

/// Reads the kernel's id of this boot.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The state of the journal at the start. The caller logs a line, and a warning if `torn` or
/// `health` asks for it.
#[derive(Clone, Debug)]
pub struct OpenReport {
    pub carried: CarriedState,
    pub segments: usize,
    /// The `opened` record of this run.
    pub opened: Link,
    pub torn: Option<Torn>,
    pub health: Health,
}

/// The ledger's health, for `status` and the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Health {
    /// Why nothing is signed any more, if that is so.
    pub unavailable: Option<String>,
    /// On a nearly full disk: the clients that have to wait because they write most.
    pub crowded: Option<String>,
    /// Absent if the file system does not say.
    pub space: Option<Space>,
}

impl Health {
    /// True if less than 5 % or 256 MiB of the disk is free.
    pub fn is_space_low(&self) -> bool {
        self.space.is_some_and(Space::is_low)
    }
}

/// The one writer of a state directory's journal.
#[derive(Debug)]
pub struct LedgerWriter {
    journal: Journal,
    state: LedgerState,
    options: Options,
    floods: Floods,
    ballast: Ballast,
    writers: Writers,
    stopped: Option<Stopped>,
    /// Held as long as the ledger lives.
    _lock: Box<dyn Debug + Send>,
}

impl LedgerWriter {
    /// Opens the journal below `state_dir`, or begins a new one. The journal is verified, repaired
    /// if its end is torn, and synced.
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
            // The agent starts all the same, says that the disk is full, and signs once there is
            // room.
            Ok(()) | Err(LedgerError::Full(_)) => Ok(opened),
            Err(error) => Err(error),
        }
    }

    /// Puts a record at the end of the journal. It is written by the next [`LedgerWriter::flush`]
    /// or [`LedgerWriter::sync`].
    ///
    /// This counts the spends of an intent without looking at their caps: [`LedgerWriter::intend`]
    /// judges them first.
    pub fn append(&mut self, time_ms: u64, record: &Record<'_>) -> Result<Link, LedgerError> {
        self.append_when(time_ms, record, when_full(record))
    }

    fn append_when(
        &mut self,
        time_ms: u64,
        record: &Record<'_>,
        when_full: WhenFull,
    ) -> Result<Link, LedgerError> {
        self.may_append(record, when_full)?;
        if !self.is_full() {
            let rotated = self.journal.rotate_where_due(time_ms, &mut self.state, &self.options);
            // If a new segment finds no room, a record that ends or refuses something is appended
            // all the same.
            self.judged(rotated).or_else(|_| self.may_append(record, when_full))?;
        }
        let appended = self.journal.put(time_ms, record, &mut self.state);
        self.judged(appended)
    }

    /// Judges the spends of an intent, reserves for them on the disk, counts them and appends the
    /// intent. It does all of this or nothing.
    pub fn intend(&mut self, time_ms: u64, intent: Intent<'_>) -> Result<Link, ReserveError> {
        self.admit(time_ms, &intent.client, &intent.spends)?;
        let (client, before) = (intent.client.clone().into_owned(), self.journal.pending());
        let link = self.append(time_ms, &Record::Intent(Box::new(intent)))?;
        let bytes = self.journal.pending().saturating_sub(before) as u64;
        self.writers.wrote(&client, bytes + RESULT_BYTES, self.latest_ms());
        Ok(link)
    }

    /// Judges the spends of a request, reserves for them on the disk and holds them against their
    /// limits. [`LedgerWriter::append_held`] records the request once it ends. `text` is the length
    /// of the request as far as the record repeats it: so much counts as written from now on.
    pub fn hold(
        &mut self,
        time_ms: u64,
        client: &str,
        spends: &[Spend],
        text: usize,
    ) -> Result<(), ReserveError> {
        self.admit(time_ms, client, spends)?;
        self.state.windows.hold(spends);
        self.writers.wrote(client, expected(text), self.state.time_ms(time_ms));
        Ok(())
    }

    /// Appends the record of a request whose spends are held: its signature, or its intent if it
    /// got none. The spends are counted by the record, or free again if it finds no place. On a
    /// full disk it is kept like all that ends.
    ///
    /// `text` is that of [`LedgerWriter::hold`]. `following` is the number of records that the
    /// caller appends after an intent.
    pub fn append_held(
        &mut self,
        time_ms: u64,
        record: &Record<'_>,
        text: usize,
        following: u64,
    ) -> Result<Link, LedgerError> {
        let Some(held) = record.intent() else { return self.append(time_ms, record) };
        self.state.windows.release(&held.spends);
        let before = self.journal.pending();
        let link = self.append_when(time_ms, record, WhenFull::Keep)?;
        let bytes = self.journal.pending().saturating_sub(before) as u64;
        let unexpected = (bytes + following * RESULT_BYTES).saturating_sub(expected(text));
        if unexpected > 0 {
            self.writers.wrote(&held.client, unexpected, self.latest_ms());
        }
        Ok(link)
    }

    /// Refuses a request that its client may not write now, or whose spends would pass a limit.
    /// Reserves for the spends on the disk.
    fn admit(&mut self, time_ms: u64, client: &str, spends: &[Spend]) -> Result<(), ReserveError> {
        let now_ms = self.state.time_ms(time_ms);
        self.look_at_space(now_ms);
        self.writers.admit(client, now_ms)?;
        self.reserve(time_ms, spends)
    }

    /// The time that the next request of a client waits before anything is done for it. It waits if
    /// the disk is nearly full and the client writes more than its share.
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

    /// Judges `spends` and reserves for them on the disk. They are neither held nor counted yet.
    fn reserve(&mut self, now_ms: u64, spends: &[Spend]) -> Result<(), ReserveError> {
        self.available()?;
        let blocks = self.state.windows.admit(self.state.time_ms(now_ms), spends)?;
        Ok(self.set_aside(now_ms, blocks, Vec::new())?)
    }

    /// The next nonce of a key. No nonce is given out twice, not even after a crash.
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

    /// Records a refusal. In a flood of refusals the first ones are recorded singly. The rest are
    /// counted, and [`LedgerWriter::tick`] records the count.
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

    /// Call this every few seconds. It records counted refusals, looks at the free space, and tries
    /// to sign again after the disk was full.
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

    /// Hands all appended records to the kernel in one write. Call it before any reply leaves. With
    /// [`SyncMode::Synced`] it syncs too.
    pub fn flush(&mut self) -> Result<(), LedgerError> {
        if self.options.durability == SyncMode::Synced {
            return self.sync();
        }
        self.stand(AppendReach::Kernel)
    }

    /// Returns when all appended records are on the disk. Call it before a token is asked to
    /// transfer, withdraw or administer.
    pub fn sync(&mut self) -> Result<(), LedgerError> {
        self.stand(AppendReach::Disk)
    }

    pub fn durability(&self) -> SyncMode {
        self.options.durability
    }

    /// The time until [`LedgerWriter::sync`] is due. `None` if nothing waits for it, or if the
    /// thread does it.
    pub fn sync_due(&self) -> Option<Duration> {
        self.journal.sync_due()
    }

    /// Why the thread that syncs has failed, if it has. From then on everything is refused. This is
    /// cheap enough to call often.
    pub fn sync_failure(&self) -> Option<String> {
        self.journal.sync_failure().map(|failure| failure.reason)
    }

    /// The amount of a limit's window that is used.
    pub fn used(&self, now_ms: u64, window: &str) -> Amount {
        self.state.windows.used(self.state.time_ms(now_ms), window)
    }

    /// The latest time on record, in Unix milliseconds. Limits use it while the caller's time is
    /// earlier.
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

    /// True if records wait in memory for room on the disk.
    pub fn holds_records_back(&self) -> bool {
        self.is_full() && self.journal.pending() > 0
    }

    /// Ends the run in order: reserved amounts that were not used are free again. If a record does
    /// not fit, the others are still written.
    pub fn close(mut self, now_ms: u64) -> Result<(), LedgerError> {
        self.writable()?;
        let mut done = Ok(());
        for refusals in self.floods.all() {
            if self.holds_too_much() {
                // records that it could not write are tried again below
                let _ = self.write_out(AppendReach::Kernel);
            }
            done = done.and(self.append(now_ms, &Record::Refusals(refusals)).map(drop));
        }
        let closed = self.append(now_ms, &Record::Closed(Closed {})).map(drop);
        let written = self.write_out(AppendReach::Disk);
        written.and(done).and(closed)
    }
}

/// Makes the directories, syncs their names to the disk, and locks every other agent out.
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
