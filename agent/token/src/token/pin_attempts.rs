//! Keeps the durable record of PIN attempts. Each PIN source causes at most one refused C_Login,
//! even if a host starts many times.
//!
//! The record on the disk says `pending` before C_Login is called, and the outcome after it. So a
//! host that is killed in between leaves a trace of its attempt. Nothing derived from a PIN is ever
//! written: four to eight digits can be guessed from any hash, salted or slow. A corrected file is
//! told from the old one by its inode, size and time. A file that is written again with the same
//! wrong PIN would pass as corrected. So two refusals in a row, from any sources, stop all attempts
//! until a person clears the record.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use countersign_base::system::full_disk::is_full;
use countersign_core::shell;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

const PIN_ATTEMPTS_DIRECTORY: &str = "pin-tries";
const MOST_REFUSALS_IN_A_ROW: u32 = 2;

/// Identifies the PIN source of an attempt. It holds no part of the PIN.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SourceIdentity {
    // A credential or descriptor is made anew at each start, so only its name or number stays the
    // same.
    Credential { name: String },
    Fd { number: i32 },
    File { path: PathBuf, device: u64, inode: u64, size: u64, modified_s: i64, modified_ns: i64 },
    Prompt,
}

impl SourceIdentity {
    /// The identity of an open PIN file.
    pub fn of_file(path: &Path, file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self::File {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
        })
    }
}

/// The token's report about wrong PINs so far (C_GetTokenInfo).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PinFlags {
    /// At least one attempt was spent since the last right PIN.
    pub count_low: bool,
    /// The next wrong PIN locks the token.
    pub final_try: bool,
    pub locked: bool,
    /// The token counts each attempt: if `count_low` is not set, none was spent.
    pub exact: bool,
}

/// The decision if a PIN may be tried now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Verdict {
    Attempt,
    Blocked(Reason),
}

/// Why a PIN is not tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Reason {
    #[error("the token counts a wrong PIN that is not on this record")]
    Elsewhere,
    #[error("the token is one wrong PIN from locking itself")]
    FinalTry,
    #[error("an attempt was cut off before and may have been refused")]
    Interrupted,
    #[error("the token has locked the PIN")]
    Locked,
    #[error("this PIN was refused before; correct it")]
    RefusedBefore,
    #[error("two PINs in a row were refused")]
    TooManyRefusals,
}

/// The outcome of a C_Login.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LoginOutcome {
    Accepted,
    /// The token did not look at the PIN.
    NotJudged,
    Refused,
    /// An error that does not say if the token looked at the PIN.
    Unclear,
}

/// Why the record could not be kept. Without it no attempt is made.
#[derive(Debug, thiserror::Error)]
pub enum PinAttemptsError {
    #[error(
        "another process is about to log in to {token}, or waits for a person: see to its end \
         (countersign vault, key add), \
         then ask again"
    )]
    Busy { token: String },
    #[error(
        "the record of PIN attempts in {path} is damaged; `countersign-agent pin-reset {token} \
         --state-dir {}` clears it",
        shell::path(state_dir)
    )]
    Damaged { path: PathBuf, token: String, state_dir: PathBuf },
    /// The disk was full before the PIN was tried. It may be tried once there is room.
    #[error(
        "there is no room for the record of PIN attempts in {path}, and without it no PIN is tried"
    )]
    Full { path: PathBuf, source: io::Error },
    #[error("the record of PIN attempts in {path} cannot be kept: {source}")]
    Storage { path: PathBuf, source: io::Error },
}

impl PinAttemptsError {
    /// The error of a record that could not be made or written before the PIN was tried.
    fn before(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if is_full(&source) { Self::Full { path, source } } else { Self::Storage { path, source } }
    }
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct RecordedAttempts {
    v: u8,
    pending: Option<SourceIdentity>,
    /// Number of attempts in a row whose outcome is not known.
    unclear: u32,
    refused: Vec<SourceIdentity>,
    refusals_in_a_row: u32,
    /// True if a person allowed the next attempt, even if the token counts a wrong PIN.
    #[serde(default)]
    cleared: bool,
}

impl RecordedAttempts {
    fn fresh() -> Self {
        Self { v: 1, ..Self::default() }
    }

    /// The record in which an attempt that was cut off is judged by the token's flags.
    fn with_pending_judged(&self, flags: PinFlags) -> Self {
        let mut record = self.clone();
        let Some(source) = record.pending.take() else { return record };
        record.unclear += 1;
        if flags.count_low || (record.unclear > 1 && !flags.exact) {
            record.refuse(source);
        }
        record
    }

    fn refuse(&mut self, source: SourceIdentity) {
        self.refusals_in_a_row += 1;
        if !self.refused.contains(&source) {
            self.refused.push(source);
        }
    }

    fn verdict(&self, source: &SourceIdentity, flags: PinFlags) -> Verdict {
        let interrupted = self.pending.is_some();
        let judged = self.with_pending_judged(flags);
        if flags.locked {
            Verdict::Blocked(Reason::Locked)
        } else if flags.final_try {
            Verdict::Blocked(Reason::FinalTry)
        } else if judged.refused.contains(source) {
            Verdict::Blocked(if interrupted { Reason::Interrupted } else { Reason::RefusedBefore })
        } else if judged.refusals_in_a_row >= MOST_REFUSALS_IN_A_ROW {
            Verdict::Blocked(Reason::TooManyRefusals)
        } else if flags.exact && flags.count_low && judged.refusals_in_a_row == 0 && !self.cleared {
            // Another process, with a record of its own, may have tried this very PIN.
            Verdict::Blocked(Reason::Elsewhere)
        } else {
            Verdict::Attempt
        }
    }

    fn settle(&mut self, outcome: LoginOutcome) {
        let Some(source) = self.pending.take() else { return };
        match outcome {
            LoginOutcome::Accepted => (self.unclear, self.refusals_in_a_row) = (0, 0),
            LoginOutcome::NotJudged => {}
            LoginOutcome::Refused => self.refuse(source),
            LoginOutcome::Unclear => self.pending = Some(source),
        }
    }
}

/// The record of one token. Only one process at a time can hold it and log in.
#[derive(Debug)]
pub struct PinAttempts {
    path: PathBuf,
    record: RecordedAttempts,
    _lock: File,
}

impl PinAttempts {
    /// Opens the record. It waits for another process that logs in to the same token, but not for
    /// one that waits for a person.
    pub fn open(state_dir: &Path, token: &str) -> Result<Self, PinAttemptsError> {
        Self::open_within(RECORD_LOCK_DEADLINE, state_dir, token)
    }

    fn open_within(
        patience: Duration,
        state_dir: &Path,
        token: &str,
    ) -> Result<Self, PinAttemptsError> {
        let directory = directory(state_dir);
        let path = directory.join(format!("{token}.json"));
        let storage = |source| PinAttemptsError::before(&path, source);
        DirBuilder::new().mode(0o700).recursive(true).create(&directory).map_err(storage)?;
        let lock = private_file(&directory.join(format!("{token}.lock"))).map_err(storage)?;
        if !locked_within(patience, &lock).map_err(storage)? {
            return Err(PinAttemptsError::Busy { token: token.to_owned() });
        }
        let record = match fs::read(&path) {
            Ok(bytes) => {
                let (token, state_dir) = (token.to_owned(), state_dir.to_owned());
                let damaged =
                    |_| PinAttemptsError::Damaged { path: path.clone(), token, state_dir };
                serde_json::from_slice(&bytes).map_err(damaged)?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => RecordedAttempts::fresh(),
            Err(error) => return Err(storage(error)),
        };
        Ok(Self { path, record, _lock: lock })
    }

    /// Says if a PIN of this source may be tried.
    pub fn verdict(&self, source: &SourceIdentity, flags: PinFlags) -> Verdict {
        self.record.verdict(source, flags)
    }

    /// Records that C_Login is about to be called. If this fails, C_Login must not be called.
    pub fn begin(
        &mut self,
        source: &SourceIdentity,
        flags: PinFlags,
    ) -> Result<(), PinAttemptsError> {
        self.record = self.record.with_pending_judged(flags);
        self.record.cleared = false;
        self.record.pending = Some(source.clone());
        self.write_durably().map_err(|source| PinAttemptsError::before(&self.path, source))
    }

    /// Records the outcome of the C_Login that was begun.
    pub fn settle(&mut self, outcome: LoginOutcome) -> Result<(), PinAttemptsError> {
        self.record.settle(outcome);
        self.write()
    }

    fn write(&self) -> Result<(), PinAttemptsError> {
        self.write_durably()
            .map_err(|source| PinAttemptsError::Storage { path: self.path.clone(), source })
    }

    fn write_durably(&self) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = private_file(&new)?;
        file.set_len(0)?;
        file.write_all(&serde_json::to_vec(&self.record)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        sync_parent(&self.path)
    }
}

/// The directory of the records.
pub fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join(PIN_ATTEMPTS_DIRECTORY)
}

/// Forgets every attempt on this token and allows one more. True if there was a record.
pub fn reset(state_dir: &Path, token: &str) -> Result<bool, PinAttemptsError> {
    let directory = directory(state_dir);
    let path = directory.join(format!("{token}.json"));
    let lock = path.with_extension("lock");
    let storage = |source| PinAttemptsError::Storage { path: path.clone(), source };
    if !lock.try_exists().map_err(storage)? && !path.try_exists().map_err(storage)? {
        return Ok(false);
    }
    let lock = private_file(&lock).map_err(storage)?;
    if !locked_within(RECORD_LOCK_DEADLINE, &lock).map_err(storage)? {
        return Err(PinAttemptsError::Busy { token: token.to_owned() });
    }
    let cleared = RecordedAttempts { cleared: true, ..RecordedAttempts::fresh() };
    let known = fs::read(&path)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<RecordedAttempts>(&bytes).ok());
    if known.as_ref() == Some(&cleared) {
        return Ok(false);
    }
    PinAttempts { path: path.clone(), record: cleared, _lock: lock }.write()?;
    // If root does this, the file must still belong to the agent's user.
    let (owner, made) =
        (fs::metadata(&directory).map_err(storage)?, fs::metadata(&path).map_err(storage)?);
    if made.uid() != owner.uid() {
        std::os::unix::fs::lchown(&path, Some(owner.uid()), Some(owner.gid())).map_err(storage)?;
    }
    Ok(true)
}

/// Longest wait for another process's login. It is longer than any login takes, and shorter than
/// the time that a host has for its start.
const RECORD_LOCK_DEADLINE: Duration = Duration::from_secs(5);

fn locked_within(patience: Duration, lock: &File) -> io::Result<bool> {
    let until = Instant::now() + patience;
    loop {
        match rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                sleep(Duration::from_millis(10))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

fn private_file(path: &Path) -> io::Result<File> {
    // A link that somebody put here would lead the record to another place.
    let no_link = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(no_link)
        .open(path)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

#[cfg(test)]
mod pin_attempts_tests;
