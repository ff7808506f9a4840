//! Computes the state from the records: limits, nonces, the latest time seen. The running agent and
//! a restart apply the same records in the same way, so that both have the same state.

use countersign_core::record::{Carried, CarriedState, Record};

use super::nonces::Nonces;
use super::windows::Windows;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LedgerState {
    /// The latest time in any record. A clock that is set back therefore frees nothing.
    time_ms: u64,
    boot_id: Option<String>,
    closed: bool,
    pub(super) windows: Windows,
    pub(super) nonces: Nonces,
}

impl LedgerState {
    /// The ledger's own time: the clock's time, but it never goes back.
    pub(super) fn time_ms(&self, now_ms: u64) -> u64 {
        self.time_ms.max(now_ms)
    }

    /// True for the kinds of records that change the state. A restart need not read the others.
    pub(super) fn concerns(kind: &str) -> bool {
        matches!(
            kind,
            "closed" | "intent" | "opened" | "reserve" | "returned" | "segment" | "signed"
        )
    }

    /// Notes the time of a record.
    pub(super) fn see(&mut self, time_ms: u64) {
        self.time_ms = self.time_ms(time_ms);
    }

    pub(super) fn apply(&mut self, time_ms: u64, record: &Record<'_>) {
        self.see(time_ms);
        for spend in record.intent().iter().flat_map(|intent| intent.spends.iter()) {
            self.windows.count(self.time_ms, &spend.window, spend.amount);
        }
        match record {
            Record::Closed(_) => {
                self.closed = true;
                self.windows.release_reserved();
            }
            Record::Opened(opened) => {
                if opened.carried == CarriedState::Reserved {
                    self.windows.spend_reserved(self.time_ms);
                }
                self.nonces.skip_reserved();
                self.boot_id = Some(opened.boot_id.clone().into_owned());
                self.closed = false;
            }
            Record::Reserve(reserve) => {
                reserve.windows.iter().for_each(|block| self.windows.reserved(block));
                reserve.nonces.iter().for_each(|block| self.nonces.reserved(block));
            }
            Record::Returned(returned) => {
                for spend in returned.spends.iter() {
                    self.windows.give_back(self.time_ms, &spend.window, spend.amount);
                }
            }
            _ => {}
        }
    }

    /// The assumption that a run in the boot `boot_id` has to make about the run before it.
    pub(super) fn carried_into(&self, boot_id: &str) -> CarriedState {
        match &self.boot_id {
            None => CarriedState::New,
            Some(_) if self.closed => CarriedState::Clean,
            Some(last) if last == boot_id && !boot_id.is_empty() => CarriedState::Exact,
            Some(_) => CarriedState::Reserved,
        }
    }

    /// The state as a segment's header carries it.
    pub(super) fn carry(&mut self) -> Carried<'static> {
        self.windows.expire(self.time_ms);
        Carried {
            time_ms: self.time_ms,
            boot_id: self.boot_id.clone(),
            closed: self.closed,
            windows: self.windows.carry(),
            nonces: self.nonces.carry(),
        }
    }

    pub(super) fn from_carried(carried: Carried<'_>) -> Self {
        Self {
            time_ms: carried.time_ms,
            boot_id: carried.boot_id,
            closed: carried.closed,
            nonces: Nonces::from_carried(&carried.nonces),
            windows: Windows::from_carried(carried.windows),
        }
    }
}
