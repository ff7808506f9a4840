//! Gives the core its ledger: intents, results, refusals, limits and nonces. Each round of requests
//! is recorded in one write.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Poll;

use countersign_base::system::full_disk::is_full;
use countersign_core::audit::Tail;
use countersign_core::chain::Link;
use countersign_core::decimal::Amount;
use countersign_core::json::Value;
use countersign_core::key::{Key, KeyName};
use countersign_core::policy::Spend;
use countersign_core::ports::{self, Asked, Begun, Clock, Durability, SigningIntent};
use countersign_core::record::{
    self, Outcome, Record, RequestResult, Returned, SignedAtOnce, ThrownAway,
};
use countersign_core::refusal::{Code, Refusal};
use countersign_core::scope::{Scope, Scopes};
use countersign_core::wire::RecordId;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use super::{LedgerError, LedgerWriter, ReserveError, ballast_file, verify};
use crate::clock::SystemClock;
use crate::ledger;

/// The ledger of the running agent.
#[derive(Debug)]
pub struct Recorder {
    /// `None` once closed.
    ledger: RefCell<Option<LedgerWriter>>,
    state_dir: PathBuf,
    /// True if the operator wants every intent on the disk before a token is asked.
    synced_always: bool,
    clock: Rc<SystemClock>,
    /// True if the log's last line about the clock says that it is not trusted.
    clock_doubted: Cell<bool>,
    /// The state of the disk in the log's last line about it.
    disk_said: Cell<DiskState>,
    /// The last record.
    last: Cell<Option<Link>>,
    /// True if records were appended and not written yet.
    unwritten: Cell<bool>,
    written: Notify,
    last_used_ms: RefCell<BTreeMap<KeyName, u64>>,
    /// The ends of the last pages of records that were read.
    followed: RefCell<VecDeque<Tail>>,
}

/// The state of the journal's disk, as the log reports it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum DiskState {
    /// The clients that write most have to wait.
    Crowded,
    #[default]
    Roomy,
    /// Nothing is signed.
    Stopped,
}

/// The health of the ledger, for `status`.
#[derive(Debug)]
pub struct LedgerHealth {
    pub state: &'static str,
    pub last: Option<RecordId>,
    pub free_bytes: Option<u64>,
    pub warnings: Vec<String>,
}

/// Number of records in which a start looks for the last use of each key. It reads `PAGE` of them
/// at once.
const RECALLED: u64 = 50_000;
const PAGE: usize = 4096;
/// Most ends of pages that are remembered, so that a follower's next page is found at once.
const MOST_FOLLOWED: usize = 16;
/// Most records of one answer. A record of a refusal or intent is below 2 KiB unless its parameters
/// are long.
const MOST_RECORDS: usize = 64;
/// Most bytes of records in one answer, so that it fits a frame.
const MOST_BYTES: usize = 192 * 1024;

impl Recorder {
    pub fn new(ledger: LedgerWriter, state_dir: &Path) -> Self {
        let clock = Rc::new(SystemClock::start(ledger.latest_ms()));
        Self {
            synced_always: ledger.durability() == ledger::SyncMode::Synced,
            ledger: RefCell::new(Some(ledger)),
            state_dir: state_dir.to_owned(),
            clock,
            clock_doubted: Cell::new(false),
            disk_said: Cell::default(),
            last: Cell::new(None),
            unwritten: Cell::new(false),
            written: Notify::new(),
            last_used_ms: RefCell::default(),
            followed: RefCell::default(),
        }
    }

    /// The clock that the ledger uses.
    pub fn clock(&self) -> Rc<SystemClock> {
        Rc::clone(&self.clock)
    }

    /// Finds the last use of each key in the journal's last records before number `opened`.
    pub fn recall_uses(&self, opened: u64) -> io::Result<()> {
        let (journal, mut tail) =
            (verify::journal(&self.state_dir), Tail::after(opened.saturating_sub(RECALLED)));
        loop {
            let page = tail.read(&journal, PAGE)?;
            if page.is_empty() {
                return Ok(());
            }
            let requests =
                page.iter().filter(|entry| matches!(entry.kind.as_str(), "intent" | "signed"));
            for entry in requests {
                let record = entry.record();
                let Some(intent) = record.as_ref().and_then(Record::intent) else { continue };
                let Ok(key) = KeyName::parse(&intent.key) else { continue };
                self.last_used_ms.borrow_mut().insert(key, entry.time_ms);
            }
        }
    }

    /// The amount of a limit's window that is used.
    pub fn spent(&self, now_ms: u64, window: &str) -> Amount {
        self.ledger.borrow().as_ref().map_or(Amount::ZERO, |ledger| ledger.used(now_ms, window))
    }

    pub fn last_used_ms(&self, key: &KeyName) -> Option<u64> {
        self.last_used_ms.borrow().get(key).copied()
    }

    /// `Ok` if something may begin that has to be recorded once it is done. Then the disk is not
    /// full, as far as the journal knows, and the room that is set aside holds a record.
    pub fn may_begin(&self) -> Result<(), Refusal> {
        self.with(LedgerWriter::available)
    }

    /// Appends a record and syncs it: it must be on the disk before anything else happens.
    pub fn synced(&self, record: &Record<'_>) -> Result<RecordId, Refusal> {
        let link = self.append(record)?;
        self.sync()?;
        Ok(link.into())
    }

    /// Does the same as [`Self::synced`]. True if the record waits in memory for room on a full
    /// disk.
    pub fn synced_or_held_back(&self, record: &Record<'_>) -> Result<bool, Refusal> {
        self.append(record)?;
        match self.sync() {
            Ok(()) => Ok(false),
            Err(_)
                if self.ledger.borrow().as_ref().is_some_and(LedgerWriter::holds_records_back) =>
            {
                Ok(true)
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Slows a client that writes more than its share while the disk is nearly full. True if it
    /// waited.
    pub async fn slow(&self, client: &str) -> bool {
        let now_ms = self.clock.ledger_ms();
        let wait = self.ledger.borrow_mut().as_mut().map(|ledger| ledger.wait_of(client, now_ms));
        let wait = wait.filter(|wait| !wait.is_zero());
        if let Some(wait) = wait {
            tokio::time::sleep(wait).await;
        }
        wait.is_some()
    }

    /// Records something that happened. If it cannot be written, the ledger refuses everything that
    /// follows.
    pub fn note(&self, record: &Record<'_>) {
        if let Err(refusal) = self.append(record).and_then(|_| self.flush()) {
            tracing::error!("an event could not be recorded: {}", refusal.message);
        }
    }

    /// Records the counts of refusals, and looks at the clock and the disk. Call this every few
    /// seconds.
    pub fn tick(&self) {
        self.watch_clock();
        let now_ms = self.clock.ledger_ms();
        let ticked = self.with(|ledger| ledger.tick(now_ms));
        self.unwritten.set(true);
        match ticked.and_then(|()| self.flush()) {
            // The log said so when it began.
            Err(_) if self.disk_said.get() == DiskState::Stopped => {}
            Err(refusal) => tracing::error!("{}", refusal.message),
            Ok(()) => {}
        }
        self.watch_disk();
    }

    fn watch_disk(&self) {
        let health = self.ledger.borrow().as_ref().map(LedgerWriter::health);
        let Some(health) = health else { return };
        let (state, doubt) = match (health.unavailable, health.crowded) {
            (Some(reason), _) => (DiskState::Stopped, reason),
            (None, Some(reason)) => (DiskState::Crowded, reason),
            (None, None) => (DiskState::Roomy, String::new()),
        };
        match state {
            _ if self.disk_said.replace(state) == state => {}
            DiskState::Roomy => tracing::info!("the journal has room again"),
            DiskState::Crowded | DiskState::Stopped => tracing::warn!("{doubt}"),
        }
    }

    fn watch_clock(&self) {
        let doubt = self.clock.doubt();
        if self.clock_doubted.replace(doubt.is_some()) == doubt.is_some() {
            return;
        }
        match doubt {
            Some(doubt) => tracing::warn!("{doubt}"),
            None => tracing::info!("the clock is trusted again"),
        }
    }

    /// Ends the run in order.
    pub fn close(&self) -> Result<(), LedgerError> {
        self.ledger.take().map_or(Ok(()), |ledger| ledger.close(self.clock.ledger_ms()))
    }

    pub fn health(&self) -> LedgerHealth {
        let health = self.ledger.borrow().as_ref().map(LedgerWriter::health);
        let Some(health) = health else {
            return LedgerHealth {
                state: "closed",
                last: None,
                free_bytes: None,
                warnings: Vec::new(),
            };
        };
        let mut warnings: Vec<String> =
            health.unavailable.iter().chain(&health.crowded).cloned().collect();
        if health.is_space_low() {
            warnings.push(
                "the disk of the journal is nearly full; when it is full nothing more is signed"
                    .to_owned(),
            );
        }
        let meanwhile = "until then nothing that moves money or keys is signed, and limits free up \
                         by the time that passes";
        warnings.extend(self.clock.doubt().map(|doubt| format!("{doubt}; {meanwhile}")));
        LedgerHealth {
            state: if health.unavailable.is_some() { "unavailable" } else { "healthy" },
            last: self.last.get().map(RecordId::from),
            free_bytes: health.space.map(|space| space.free),
            warnings,
        }
    }

    /// Waits until a record is written after this call, or until the deadline. False if none was
    /// written.
    pub fn next_written(&self, deadline: tokio::time::Instant) -> impl Future<Output = bool> {
        let written = self.written.notified();
        async move { tokio::time::timeout_at(deadline, written).await.is_ok() }
    }

    /// The next records after number `after`, as they are in the journal, and the number of the
    /// last of them.
    pub fn records_after(&self, after: u64) -> Result<(Vec<Value>, u64), Refusal> {
        let mut tail = self.tail_after(after);
        let entries = tail.read(&verify::journal(&self.state_dir), MOST_RECORDS);
        let entries =
            entries.map_err(|error| unavailable(format!("the journal cannot be read: {error}")))?;
        let (mut records, mut bytes, mut last) = (Vec::new(), 0, after);
        for entry in entries {
            bytes += entry.line.len();
            if bytes > MOST_BYTES && !records.is_empty() {
                return Ok((records, last));
            }
            last = entry.seq;
            records.push(Value::parse_own(&entry.line)?);
        }
        let mut followed = self.followed.borrow_mut();
        followed.push_back(tail);
        if followed.len() > MOST_FOLLOWED {
            followed.pop_front();
        }
        Ok((records, last))
    }

    /// Finds the end of record `after`. A follower asks for the records after its last page, and
    /// that place is remembered.
    fn tail_after(&self, after: u64) -> Tail {
        let mut followed = self.followed.borrow_mut();
        let known = followed.iter().position(|tail| tail.last() == after);
        known.and_then(|index| followed.remove(index)).unwrap_or_else(|| Tail::after(after))
    }

    fn append(&self, record: &Record<'_>) -> Result<Link, Refusal> {
        let now_ms = self.clock.ledger_ms();
        let link = self.with(|ledger| ledger.append(now_ms, record))?;
        self.appended(link);
        Ok(link)
    }

    /// Appends the record of a request that ends and was not recorded so far. `record` makes it of
    /// the intent, and `following` records come after it.
    fn append_held(
        &self,
        intent: &SigningIntent<'_>,
        record: impl for<'r> FnOnce(record::Intent<'r>) -> Record<'r>,
        following: u64,
    ) -> Result<Link, Refusal> {
        let params = RecordedParams::of(intent);
        let record = record(intent_record(intent, &params));
        let (now_ms, text) = (self.clock.ledger_ms(), recorded_text(intent));
        let link = self.with(|ledger| ledger.append_held(now_ms, &record, text, following))?;
        self.appended(link);
        Ok(link)
    }

    /// Records the intent of a request that ends without its signature, if it is not on record.
    fn append_unrecorded(&self, begun: &Begun<'_>, following: u64) -> Result<(), Refusal> {
        let Some(intent) = begun.take_unrecorded() else { return Ok(()) };
        self.append_held(&intent, |intent| Record::Intent(Box::new(intent)), following)?;
        begun.now_recorded();
        Ok(())
    }

    fn appended(&self, link: Link) {
        self.last.set(Some(link));
        self.unwritten.set(true);
    }

    fn flush(&self) -> Result<(), Refusal> {
        self.stands(self.with(LedgerWriter::flush))
    }

    fn sync(&self) -> Result<(), Refusal> {
        self.stands(self.with(LedgerWriter::sync))
    }

    /// Wakes the callers that wait for records. It does so after a write, because only written
    /// records can be read.
    fn stands(&self, done: Result<(), Refusal>) -> Result<(), Refusal> {
        done?;
        if self.unwritten.take() {
            self.written.notify_waiters();
        }
        Ok(())
    }

    fn used(&self, key: &KeyName) {
        let (now_ms, mut uses) = (self.clock.ledger_ms(), self.last_used_ms.borrow_mut());
        match uses.get_mut(key) {
            Some(last) => *last = now_ms,
            None => drop(uses.insert(key.clone(), now_ms)),
        }
    }

    fn with<T, E: Into<Refusal>>(
        &self,
        act: impl FnOnce(&mut LedgerWriter) -> Result<T, E>,
    ) -> Result<T, Refusal> {
        let mut ledger = self.ledger.borrow_mut();
        let ledger = ledger.as_mut().ok_or_else(|| unavailable("the agent is stopping"))?;
        act(ledger).map_err(Into::into)
    }
}

fn unavailable(message: impl Into<String>) -> Refusal {
    Refusal::new(Code::LedgerUnavailable, message)
}

impl From<LedgerError> for Refusal {
    fn from(error: LedgerError) -> Self {
        unavailable(error.to_string())
    }
}

impl From<ReserveError> for Refusal {
    fn from(error: ReserveError) -> Self {
        match error {
            ReserveError::Crowded(error) => Self::new(Code::PolicyRate, error.to_string()),
            ReserveError::Ledger(error) => error.into(),
            ReserveError::Limit(error) => Self::new(Code::PolicyLimit, error.for_a_client()),
        }
    }
}

impl ports::Ledger for Recorder {
    fn intend<'a>(
        &self,
        intent: SigningIntent<'a>,
        durability: Durability,
    ) -> Result<Begun<'a>, Refusal> {
        let now_ms = self.clock.ledger_ms();
        if durability == Durability::WithSignature && !self.synced_always {
            let (client, text) = (&intent.caller.client, recorded_text(&intent));
            self.with(|ledger| ledger.hold(now_ms, client, intent.spends, text))?;
            return Ok(Begun::unrecorded(intent));
        }
        let params = RecordedParams::of(&intent);
        let record = intent_record(&intent, &params);
        let link = self.with(|ledger| ledger.intend(now_ms, record))?;
        self.appended(link);
        if durability == Durability::Synced {
            self.sync()?;
        }
        Ok(Begun::recorded(intent.request_id, intent.key))
    }

    fn nonce(&self, key: &Key) -> Result<u64, Refusal> {
        let now_ms = self.clock.ledger_ms();
        self.with(|ledger| ledger.nonce(&key.name, key.nonce_unit, now_ms))
    }

    fn signed(&self, begun: &Begun<'_>, message: &[u8]) -> Result<RecordId, Refusal> {
        self.used(&begun.key.name);
        let message_sha256 = sha256(message).into();
        let link = match begun.take_unrecorded() {
            Some(intent) => self.append_held(
                &intent,
                |intent| Record::Signed(Box::new(SignedAtOnce { intent, message_sha256 })),
                0,
            ),
            None => self.append(&Record::Result(RequestResult {
                request_id: begun.request_id.into(),
                outcome: Outcome::Signed,
                message_sha256: Some(message_sha256),
                error: None,
            })),
        };
        link.map(RecordId::from)
    }

    fn thrown_away(&self, begun: &Begun<'_>, message: &[u8]) -> Result<(), Refusal> {
        self.used(&begun.key.name);
        // The result comes after this.
        self.append_unrecorded(begun, 2)?;
        let (request_id, message_sha256) = (begun.request_id.into(), sha256(message).into());
        self.append(&Record::ThrownAway(ThrownAway { request_id, message_sha256 })).map(drop)
    }

    fn failed(
        &self,
        begun: &Begun<'_>,
        refusal: &Refusal,
        returned: &[Spend],
    ) -> Result<(), Refusal> {
        self.append_unrecorded(begun, 1)?;
        if !begun.is_recorded() {
            // The ledger refused the intent, and the client hears of that.
            return Ok(());
        }
        if !returned.is_empty() {
            self.append(&Record::Returned(Returned {
                request_id: begun.request_id.into(),
                spends: returned.into(),
            }))?;
        }
        let error = Some(refusal.code.name().into());
        let request_id = begun.request_id.into();
        let result =
            RequestResult { request_id, outcome: Outcome::Failed, message_sha256: None, error };
        self.append(&Record::Result(result)).map(drop)
    }

    fn refused(&self, refused: &ports::RefusedRequest<'_>) -> Result<(), Refusal> {
        let now_ms = self.clock.ledger_ms();
        let (method, path) = refused.endpoint.split_once(' ').unwrap_or(("", refused.endpoint));
        let present = |text: &'_ str| (!text.is_empty()).then(|| text.to_owned().into());
        let record = record::Refused {
            request_id: refused.request_id.into(),
            client: refused.caller.client.as_str().into(),
            uid: refused.caller.uid,
            key: present(refused.key),
            method: present(method),
            path: present(path),
            code: refused.refusal.code.name().into(),
            message: refused.refusal.message.as_str().into(),
        };
        self.with(|ledger| ledger.refuse(now_ms, &record))?;
        self.unwritten.set(true);
        Ok(())
    }

    async fn may_ask(&self) -> Result<(), Refusal> {
        if self.synced_always { self.written().await } else { Ok(()) }
    }

    /// The first caller that goes on from here writes the records of all. Requests that were read
    /// together all reach this point before any of them goes on.
    async fn written(&self) -> Result<(), Refusal> {
        after_the_others().await;
        self.flush()
    }
}

/// Lets every task that is ready now have its turn, without a system call in between.
async fn after_the_others() {
    let mut waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The parameters as they are recorded: their hash for a request that only reads, their text for
/// all others.
#[derive(Default)]
struct RecordedParams {
    text: Option<String>,
    sha256: Option<String>,
}

impl RecordedParams {
    fn of(intent: &SigningIntent<'_>) -> Self {
        let Asked::Request { request, .. } = intent.asked else { return Self::default() };
        if request.request.params.is_empty() {
            return Self::default();
        }
        let text = request.request.params.value().to_json();
        if only_reads(intent) {
            return Self { text: None, sha256: Some(sha256(text.as_bytes())) };
        }
        Self { text: Some(text), sha256: None }
    }
}

/// The length of a request as far as its record repeats it.
fn recorded_text(intent: &SigningIntent<'_>) -> usize {
    if only_reads(intent) { 0 } else { intent.payload }
}

fn only_reads(intent: &SigningIntent<'_>) -> bool {
    intent.effective == Scopes::only(Scope::Read)
}

fn intent_record<'a>(
    intent: &'a SigningIntent<'a>,
    params: &'a RecordedParams,
) -> record::Intent<'a> {
    let (method, path, host, scope, reason, transfers) = match intent.asked {
        Asked::Request { request, classified } => (
            request.request.method.name(),
            request.request.path.as_str(),
            request.request.host.as_deref(),
            classified.scope,
            request.reason.as_deref(),
            classified.transfers.as_slice(),
        ),
        Asked::Session { purpose } => ("SESSION", purpose, None, Scope::Session, None, &[][..]),
    };
    record::Intent {
        request_id: intent.request_id.into(),
        client: intent.caller.client.as_str().into(),
        uid: intent.caller.uid,
        key: intent.key.name.as_str().into(),
        exchange: intent.key.exchange.into(),
        method: method.into(),
        path: path.into(),
        host: host.map(Into::into),
        scope,
        effective_scopes: intent.effective,
        params: params.text.as_deref().map(Into::into),
        params_sha256: params.sha256.as_deref().map(Into::into),
        reason: reason.map(Into::into),
        transfers: transfers.into(),
        spends: intent.spends.into(),
    }
}

fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

/// The file that says that the operator locked the agent. It outlives restarts.
pub fn lock_file(state_dir: &Path) -> PathBuf {
    state_dir.join("locked")
}

impl Recorder {
    /// Makes or removes the lock file, so that the lock survives a restart.
    pub fn keep_locked(&self, locked: bool) -> io::Result<()> {
        let path = lock_file(&self.state_dir);
        if !locked {
            if path.exists() {
                std::fs::remove_file(&path)?;
            }
            return self.sync_state_dir();
        }
        match self.make_lock_file(&path) {
            Err(error) if is_full(&error) => self.make_lock_file_of_ballast(&path),
            made => made,
        }
    }

    /// Frees the room that was set aside. True if there was some.
    fn make_room(&self) -> bool {
        self.ledger.borrow_mut().as_mut().is_some_and(LedgerWriter::make_room)
    }

    /// Makes an attempt that needs room on the disk. If there is none, it frees the room that was
    /// set aside and tries once more.
    pub fn with_room<T, E>(
        &self,
        is_full: impl Fn(&E) -> bool,
        attempt: impl Fn() -> Result<T, E>,
    ) -> Result<T, E> {
        match attempt() {
            Err(error) if is_full(&error) && self.make_room() => attempt(),
            done => done,
        }
    }

    fn make_lock_file(&self, path: &Path) -> io::Result<()> {
        std::fs::File::create(path)?.sync_all()?;
        self.sync_state_dir()
    }

    /// Frees the room that was set aside. If even that is not enough, renames its file to the lock
    /// file.
    fn make_lock_file_of_ballast(&self, path: &Path) -> io::Result<()> {
        self.make_room();
        if self.make_lock_file(path).is_ok() {
            return Ok(());
        }
        std::fs::rename(ballast_file(&self.state_dir), path)?;
        self.sync_state_dir()
    }

    fn sync_state_dir(&self) -> io::Result<()> {
        std::fs::File::open(&self.state_dir)?.sync_all()
    }
}

/// The part of a record that names the key.
pub fn key_change<'a>(file: &'a super::keys::KeyFile, uid: u32) -> record::KeyChange<'a> {
    let name: &KeyName = &file.name;
    record::KeyChange {
        key: name.as_str().into(),
        exchange: file.exchange.as_str().into(),
        token: file.token.as_str().into(),
        scopes: file.scopes,
        tier: file.tier,
        uid,
    }
}
