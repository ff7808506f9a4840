//! Tests the ledger against crashes, power cuts, damage, failing disks and clocks.

mod crashes;
mod damage;
mod full_disk_tests;
mod running_ledger;
mod unrecorded_intents;

use std::path::Path;
use std::sync::Arc;

use countersign_core::audit::{self, JournalEntry, Segments, Tail};
use countersign_core::record::{Outcome, RequestResult, SignedAtOnce};
use countersign_core::scope::{Scope, Scopes};

use super::simulated_disk::SimulatedDisk;
use crate::ledger::*;

const STATE_DIR: &str = "/state";
const NOW: u64 = 1_700_000_000_000;
const USDT: &str = "client/bot/USDT";
const BTC: &str = "transfer/BTC";

fn amount(text: &str) -> Amount {
    Amount::parse(text).expect(text)
}

fn spend(window: &str, asked: &str, cap: &str) -> Spend {
    Spend { window: window.to_owned(), amount: amount(asked), cap: amount(cap) }
}

fn options(boot_id: &str) -> Options {
    Options {
        version: "0.1.0".to_owned(),
        pid: 7,
        boot_id: boot_id.to_owned(),
        durability: SyncMode::Group,
        retention: Retention::default(),
        segment_bytes: 64 << 20,
        segment_age_ms: DAY_MS,
        ballast_bytes: 0,
        try_again: Duration::from_millis(2),
        background_sync: false,
    }
}

fn open_with(
    disk: &SimulatedDisk,
    options: Options,
    now_ms: u64,
) -> Result<(LedgerWriter, OpenReport), LedgerError> {
    LedgerWriter::open(Path::new(STATE_DIR), Arc::new(disk.clone()), options, now_ms)
}

fn open(
    disk: &SimulatedDisk,
    boot_id: &str,
    now_ms: u64,
) -> Result<(LedgerWriter, OpenReport), LedgerError> {
    open_with(disk, options(boot_id), now_ms)
}

fn intent(scope: Scope, spends: Vec<Spend>) -> Intent<'static> {
    Intent {
        request_id: "0192".into(),
        client: "bot".into(),
        uid: 1001,
        key: "binance-mm".into(),
        exchange: "binance".into(),
        method: "POST".into(),
        path: "/api/v3/order".into(),
        host: None,
        scope,
        effective_scopes: Scopes::only(scope),
        params: Some("{\"symbol\":\"BTCUSDT\"}".into()),
        params_sha256: None,
        reason: None,
        transfers: Vec::new().into(),
        spends: spends.into(),
    }
}

fn signed(spends: Vec<Spend>) -> Record<'static> {
    let (intent, message_sha256) = (intent(Scope::Trade, spends), "ab".into());
    Record::Signed(Box::new(SignedAtOnce { intent, message_sha256 }))
}

fn result() -> Record<'static> {
    let (request_id, outcome) = ("0192".into(), Outcome::Signed);
    Record::Result(RequestResult {
        request_id,
        outcome,
        message_sha256: Some("ab".into()),
        error: None,
    })
}

fn segments(disk: &SimulatedDisk) -> SegmentDir {
    SegmentDir::new(Arc::new(disk.clone()), Path::new(STATE_DIR))
}

fn names(disk: &SimulatedDisk) -> Vec<String> {
    segments(disk).list().expect("lists").iter().map(|file| file.name.to_string()).collect()
}

fn newest(disk: &SimulatedDisk) -> std::path::PathBuf {
    Path::new(STATE_DIR).join("journal").join(names(disk).pop().expect("a segment"))
}

fn entries(disk: &SimulatedDisk) -> Vec<JournalEntry> {
    Tail::after(0).read(&segments(disk), usize::MAX).expect("reads")
}

fn kinds(disk: &SimulatedDisk) -> Vec<String> {
    entries(disk).into_iter().map(|entry| entry.kind).collect()
}

#[track_caller]
fn assert_sound(disk: &SimulatedDisk) {
    let report = audit::verify(&segments(disk), None, &mut |_, _| ()).expect("reads");
    assert_eq!((report.problems, report.unfinished_bytes), (vec![], 0));
}
