//! The durable record of PIN attempts: at most one refused C_Login for each PIN source, however
//! often a host starts.
//!
//! The record says `pending` on disk before C_Login is called and the outcome after it, so that a
//! host killed in between cannot forget that it tried. Nothing derived from a PIN is ever written:
//! four to eight digits fall to any hash, salted or slow. A corrected file is told from the old one
//! by what the file system says of it; a file that is merely rewritten with the same wrong PIN
//! would pass as corrected, so two refusals in a row, from whatever sources, stop all attempts
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

const DIRECTORY: &str = "pin-tries";
const MOST_REFUSALS_IN_A_ROW: u32 = 2;

/// Which PIN source an attempt was made with; holds nothing of the PIN.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SourceIdentity {
    // A credential or descriptor is made anew at each start, so its name is all that stays the
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

/// What the token says about wrong PINs so far (C_GetTokenInfo).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PinFlags {
    /// At least one try was spent since the last good one.
    pub count_low: bool,
    /// The next wrong PIN locks the token.
    pub final_try: bool,
    pub locked: bool,
    /// The token counts each try: where `count_low` is not set, none was spent.
    pub exact: bool,
}

/// Whether a PIN may be tried now.
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

/// How a C_Login ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    Accepted,
    /// The token never looked at the PIN.
    NotJudged,
    Refused,
    /// An error that does not say whether the PIN was looked at.
    Unclear,
}

/// Why the record could not be kept; no attempt is made without it.
#[derive(Debug, thiserror::Error)]
pub enum TryError {
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
    /// Before a PIN was tried: it may be tried once there is room.
    #[error(
        "there is no room for the record of PIN attempts in {path}, and without it no PIN is tried"
    )]
    Full { path: PathBuf, source: io::Error },
    #[error("the record of PIN attempts in {path} cannot be kept: {source}")]
    Storage { path: PathBuf, source: io::Error },
}

impl TryError {
    /// Of a record that could not be made or written before the PIN was tried.
    fn before(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if is_full(&source) { Self::Full { path, source } } else { Self::Storage { path, source } }
    }
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct Record {
    v: u8,
    pending: Option<SourceIdentity>,
    /// Attempts in a row whose outcome is not known.
    unclear: u32,
    refused: Vec<SourceIdentity>,
    refusals_in_a_row: u32,
    /// A person allowed the next attempt, whatever the token counts.
    #[serde(default)]
    cleared: bool,
}

impl Record {
    fn fresh() -> Self {
        Self { v: 1, ..Self::default() }
    }

    /// What a C_Login cut off before it was recorded must be taken for, seen with the token's
    /// flags.
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

    fn settle(&mut self, outcome: Outcome) {
        let Some(source) = self.pending.take() else { return };
        match outcome {
            Outcome::Accepted => (self.unclear, self.refusals_in_a_row) = (0, 0),
            Outcome::NotJudged => {}
            Outcome::Refused => self.refuse(source),
            Outcome::Unclear => self.pending = Some(source),
        }
    }
}

/// The record of one token, held alone: one process at a time logs in.
#[derive(Debug)]
pub struct TryRecord {
    path: PathBuf,
    record: Record,
    _lock: File,
}

impl TryRecord {
    /// Waits for other processes that log in to the same token, but not for a person whom they ask.
    pub fn open(state_dir: &Path, token: &str) -> Result<Self, TryError> {
        Self::open_within(PATIENCE, state_dir, token)
    }

    fn open_within(patience: Duration, state_dir: &Path, token: &str) -> Result<Self, TryError> {
        let directory = directory(state_dir);
        let path = directory.join(format!("{token}.json"));
        let storage = |source| TryError::before(&path, source);
        DirBuilder::new().mode(0o700).recursive(true).create(&directory).map_err(storage)?;
        let lock = private_file(&directory.join(format!("{token}.lock"))).map_err(storage)?;
        if !locked_within(patience, &lock).map_err(storage)? {
            return Err(TryError::Busy { token: token.to_owned() });
        }
        let record = match fs::read(&path) {
            Ok(bytes) => {
                let (token, state_dir) = (token.to_owned(), state_dir.to_owned());
                let damaged = |_| TryError::Damaged { path: path.clone(), token, state_dir };
                serde_json::from_slice(&bytes).map_err(damaged)?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Record::fresh(),
            Err(error) => return Err(storage(error)),
        };
        Ok(Self { path, record, _lock: lock })
    }

    /// Whether a PIN of this source may be tried.
    pub fn verdict(&self, source: &SourceIdentity, flags: PinFlags) -> Verdict {
        self.record.verdict(source, flags)
    }

    /// Records that C_Login is about to be called; it must not be called if this fails.
    pub fn begin(&mut self, source: &SourceIdentity, flags: PinFlags) -> Result<(), TryError> {
        self.record = self.record.with_pending_judged(flags);
        self.record.cleared = false;
        self.record.pending = Some(source.clone());
        self.write_durably().map_err(|source| TryError::before(&self.path, source))
    }

    /// Records how the C_Login that was begun has ended.
    pub fn settle(&mut self, outcome: Outcome) -> Result<(), TryError> {
        self.record.settle(outcome);
        self.write()
    }

    fn write(&self) -> Result<(), TryError> {
        self.write_durably().map_err(|source| TryError::Storage { path: self.path.clone(), source })
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

/// Where the records are.
pub fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join(DIRECTORY)
}

/// Forgets every attempt made on this token and allows one more; true if there was anything to
/// forget.
pub fn reset(state_dir: &Path, token: &str) -> Result<bool, TryError> {
    let directory = directory(state_dir);
    let path = directory.join(format!("{token}.json"));
    let lock = path.with_extension("lock");
    let storage = |source| TryError::Storage { path: path.clone(), source };
    if !lock.try_exists().map_err(storage)? && !path.try_exists().map_err(storage)? {
        return Ok(false);
    }
    let lock = private_file(&lock).map_err(storage)?;
    if !locked_within(PATIENCE, &lock).map_err(storage)? {
        return Err(TryError::Busy { token: token.to_owned() });
    }
    let cleared = Record { cleared: true, ..Record::fresh() };
    let known =
        fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
    if known.as_ref() == Some(&cleared) {
        return Ok(false);
    }
    TryRecord { path: path.clone(), record: cleared, _lock: lock }.write()?;
    // The agent's, where root does this for it.
    let (owner, made) =
        (fs::metadata(&directory).map_err(storage)?, fs::metadata(&path).map_err(storage)?);
    if made.uid() != owner.uid() {
        std::os::unix::fs::lchown(&path, Some(owner.uid()), Some(owner.gid())).map_err(storage)?;
    }
    Ok(true)
}

/// Longer than any login of another process takes, and shorter than a host has for its start.
const PATIENCE: Duration = Duration::from_secs(5);

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
    // A link planted here would have the record written elsewhere.
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
