//! Handles a full disk: nothing more is signed, refusals and the end of the run are still recorded,
//! and signing comes back by itself.
//!
//! Records that could not be written stay in the buffer and stay counted. So no limit is reset, and
//! no record of a signature is lost. After any other error of the disk the agent has to
//! be restarted.

use std::io;
use std::time::{Duration, Instant};

use countersign_base::system::full_disk::is_full;
use countersign_core::record::Record;

use super::{LedgerError, LedgerWriter};

/// Most bytes that are appended and not written while the disk is full: refusals and the ends of
/// requests under way.
const MOST_PENDING: usize = 256 * 1024;

/// Why nothing is signed any more, and since when.
#[derive(Clone, Debug)]
pub(super) struct Stopped {
    pub(super) reason: String,
    pub(super) cause: Cause,
    /// The last time that writing failed.
    write_failed: Option<Instant>,
    /// The last time that coming back failed.
    still_full: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cause {
    /// A restart has to verify the journal.
    Broken,
    /// There was no room.
    Full,
}

impl Stopped {
    fn error(&self) -> LedgerError {
        match self.cause {
            Cause::Broken => LedgerError::Unavailable(self.reason.clone()),
            Cause::Full => LedgerError::Full(self.reason.clone()),
        }
    }
}

/// True if nothing failed, or if the failure was at least `after` ago: then it is tried again.
fn is_due(failed: Option<Instant>, after: Duration) -> bool {
    failed.is_none_or(|failed| failed.elapsed() >= after)
}

/// The place that appended records have to reach: the kernel or the disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AppendReach {
    Kernel,
    Disk,
}

/// The fate of a record while the disk is full.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum WhenFull {
    /// It refuses or ends something.
    Keep,
    /// It begins something.
    Refuse,
}

pub(super) fn when_full(record: &Record<'_>) -> WhenFull {
    match record {
        Record::Closed(_)
        | Record::ConfigLoaded(_)
        | Record::Locked(_)
        | Record::Opened(_)
        | Record::Refusals(_)
        | Record::Refused(_)
        | Record::Result(_)
        | Record::Returned(_)
        | Record::Rotated(_)
        | Record::Signed(_)
        | Record::ThrownAway(_)
        | Record::Token(_) => WhenFull::Keep,
        Record::Approval(_)
        | Record::Intent(_)
        | Record::KeyActivated(_)
        | Record::KeyAdded(_)
        | Record::KeyGenerated(_)
        | Record::KeyRemoved(_)
        | Record::Reserve(_)
        | Record::Segment(_)
        | Record::Unlocked(_) => WhenFull::Refuse,
    }
}

impl LedgerWriter {
    pub(super) fn is_full(&self) -> bool {
        self.stopped.as_ref().is_some_and(|stopped| stopped.cause == Cause::Full)
    }

    /// `Ok` if something may begin: the journal can be written. If the disk was full, this tries to
    /// come back.
    pub fn available(&mut self) -> Result<(), LedgerError> {
        self.writable()?;
        match &self.stopped {
            None => Ok(()),
            Some(stopped) if !is_due(stopped.still_full, self.options.try_again) => {
                Err(stopped.error())
            }
            Some(_) => self.come_back(),
        }
    }

    /// `Ok` if something may be appended: the journal is not broken.
    pub(super) fn writable(&mut self) -> Result<(), LedgerError> {
        if let Some(failure) = self.journal.sync_failure() {
            if failure.full {
                self.journal.sync_failed();
            }
            let cause = if failure.full { Cause::Full } else { Cause::Broken };
            self.stop(cause, failure.reason);
        }
        match &self.stopped {
            Some(stopped) if stopped.cause == Cause::Broken => Err(stopped.error()),
            _ => Ok(()),
        }
    }

    pub(super) fn may_append(
        &mut self,
        record: &Record<'_>,
        when_full: WhenFull,
    ) -> Result<(), LedgerError> {
        if when_full == WhenFull::Refuse {
            return self.available();
        }
        self.writable()?;
        match &self.stopped {
            Some(stopped) if self.has_no_place_for(record) => Err(stopped.error()),
            _ => Ok(()),
        }
    }

    /// The records of a lock and of the end always have a place: they come only once.
    fn has_no_place_for(&self, record: &Record<'_>) -> bool {
        self.holds_too_much() && !matches!(record, Record::Closed(_) | Record::Locked(_))
    }

    /// True if as many bytes wait in memory as may.
    pub(super) fn holds_too_much(&self) -> bool {
        self.journal.pending() >= MOST_PENDING
    }

    /// False if refusals should go on being counted and their counts not be recorded yet.
    pub(super) fn has_place_for_counts(&self) -> bool {
        !self.is_full() || self.journal.pending() < MOST_PENDING / 2
    }

    /// Brings all appended records as far as `reach`. On a full disk it uses the room that was set
    /// aside, and soon after a failure it does not try again.
    pub(super) fn stand(&mut self, reach: AppendReach) -> Result<(), LedgerError> {
        self.writable()?;
        if let Some(stopped) = self.stopped.as_ref().filter(|_| self.journal.pending() > 0)
            && !is_due(stopped.write_failed, self.options.try_again)
        {
            return Err(stopped.error());
        }
        self.write_out(reach)
    }

    /// Does the same as [`Self::stand`], but tries even if it failed a moment ago.
    pub(super) fn write_out(&mut self, reach: AppendReach) -> Result<(), LedgerError> {
        let mut done = self.bring(reach);
        if let Err(error) = &done
            && is_full(error)
        {
            self.stop(Cause::Full, no_room(error));
            if self.ballast.throw_off() {
                done = self.bring(reach);
            }
        }
        let failed = done.is_err();
        let judged = self.judged(done);
        if let Some(stopped) = &mut self.stopped {
            stopped.write_failed = failed.then(Instant::now);
        }
        judged
    }

    fn bring(&mut self, reach: AppendReach) -> io::Result<()> {
        match reach {
            AppendReach::Kernel => self.journal.flush(),
            AppendReach::Disk => self.journal.sync(),
        }
    }

    /// Frees the room that was set aside, for a file that has to be written. True if there was
    /// some.
    pub fn make_room(&mut self) -> bool {
        let freed = self.ballast.throw_off();
        if freed {
            self.stop(Cause::Full, "the disk of the journal is full".to_owned());
        }
        freed
    }

    /// Turns an error of the disk into an error of the ledger, and stops the ledger.
    pub(super) fn judged<T>(&mut self, done: io::Result<T>) -> Result<T, LedgerError> {
        done.map_err(|error| {
            let (cause, reason) = match is_full(&error) {
                true => (Cause::Full, no_room(&error)),
                false => (Cause::Broken, format!("the journal could not be written: {error}")),
            };
            self.stop(cause, reason.clone());
            self.stopped.as_ref().map_or(LedgerError::Unavailable(reason), Stopped::error)
        })
    }

    /// Stops signing. A journal that is broken stays broken.
    pub(super) fn stop(&mut self, cause: Cause, reason: String) {
        let broken = self.stopped.as_ref().is_some_and(|stopped| stopped.cause == Cause::Broken);
        if !broken && (cause == Cause::Broken || self.stopped.is_none()) {
            self.stopped = Some(Stopped { reason, cause, write_failed: None, still_full: None });
        }
    }

    /// Tries to sign again. That needs everything on the disk, the room set aside again, and a
    /// journal that verifies.
    pub(super) fn come_back(&mut self) -> Result<(), LedgerError> {
        if !self.is_full() {
            return self.writable();
        }
        let back = self.try_to_come_back();
        if let Some(stopped) = &mut self.stopped {
            stopped.still_full = Some(Instant::now());
        }
        back
    }

    fn try_to_come_back(&mut self) -> Result<(), LedgerError> {
        if self.journal.verifies() {
            return Err(being_verified());
        }
        self.write_out(AppendReach::Disk)?;
        let now_ms = self.latest_ms();
        let removed = self.journal.remove_old(now_ms, &mut self.state, self.options.retention);
        self.judged(removed)?;
        let set_aside = self.set_room_aside();
        self.judged(set_aside)?;
        match self.journal.verify() {
            None => Err(being_verified()),
            Some(Err(reason)) => {
                self.stop(Cause::Broken, reason);
                self.writable()
            }
            Some(Ok(())) => {
                self.stopped = None;
                Ok(())
            }
        }
    }

    /// Sets the room aside if twice as much is free.
    pub(super) fn set_room_aside(&mut self) -> io::Result<()> {
        let missing = self.space().and_then(|space| self.ballast.missing(space));
        match missing {
            Some(wanted) => {
                let wanted = format!("{} KiB have to be free", wanted.div_ceil(1024));
                Err(io::Error::new(io::ErrorKind::StorageFull, wanted))
            }
            None => self.ballast.take_on(),
        }
    }
}

fn being_verified() -> LedgerError {
    LedgerError::Full("the journal is being verified after its disk was full".to_owned())
}

fn no_room(error: &io::Error) -> String {
    format!("there is no room for the journal: {error}")
}
