//! Tests the ledger at work: limits, clocks, failing disks, rotation, retention, floods, the thread
//! that syncs.

use std::time::{Duration, Instant};

use crate::ledger::ledger_tests::*;
use crate::ledger::recovery::recover;
use crate::ledger::simulated_disk::Loss;
use crate::ledger::storage::Disk;

const HOUR_MS: u64 = 60 * 60 * 1000;

fn trade(ledger: &mut LedgerWriter, now_ms: u64, asked: &str) -> Result<Link, ReserveError> {
    let spends = vec![spend(USDT, asked, "200")];
    ledger.hold(now_ms, "bot", &spends, 0)?;
    Ok(ledger.append_held(now_ms, &signed(spends), 0, 0)?)
}

#[test]
fn twice_half_the_limit_passes_and_one_more_is_refused_over_restarts() {
    let disk = SimulatedDisk::default();
    for round in 0..3 {
        let (mut ledger, _) = open(&disk, "boot 1", NOW).expect("opens");
        let refused = (0..2).map(|_| trade(&mut ledger, NOW, "100")).filter(Result::is_err).count();
        assert_eq!(refused, if round == 0 { 0 } else { 2 });
        assert!(matches!(
            trade(&mut ledger, NOW, "0.01"),
            Err(ReserveError::Limit(WindowError::Limit { .. }))
        ));
        ledger.flush().expect("written");
    }
    assert_eq!(
        kinds(&disk).iter().filter(|kind| *kind == "signed").count(),
        2,
        "a refused spend is not signed"
    );
}

#[test]
fn a_clock_set_back_and_midnight_free_nothing() {
    let disk = SimulatedDisk::default();
    let (mut ledger, _) = open(&disk, "boot 1", NOW).expect("opens");
    trade(&mut ledger, NOW, "200").expect("fits");
    for now_ms in [NOW - 48 * HOUR_MS, 0, NOW + 3 * HOUR_MS, NOW + 23 * HOUR_MS, NOW - HOUR_MS] {
        assert!(trade(&mut ledger, now_ms, "1").is_err(), "{now_ms}");
    }
    ledger.append(NOW + 23 * HOUR_MS, &result()).expect("appends");
    assert_eq!(ledger.latest_ms(), NOW + 23 * HOUR_MS);
    ledger.close(NOW - 48 * HOUR_MS).expect("closes");
    let (mut ledger, _) = open(&disk, "boot 2", NOW - 48 * HOUR_MS).expect("opens");
    assert_eq!(ledger.latest_ms(), NOW + 23 * HOUR_MS);
    assert!(trade(&mut ledger, NOW - 48 * HOUR_MS, "1").is_err());
    assert!(trade(&mut ledger, NOW + 25 * HOUR_MS, "1").is_ok());
}

#[test]
fn after_a_broken_write_or_sync_everything_is_refused_until_a_restart() {
    type Call = fn(&mut LedgerWriter) -> bool;
    let calls: [(&str, Call); 4] = [
        ("flush", |ledger| ledger.append(NOW, &result()).is_ok() && ledger.flush().is_err()),
        ("sync", |ledger| ledger.append(NOW, &result()).is_ok() && ledger.sync().is_err()),
        ("reserve", |ledger| matches!(trade(ledger, NOW, "1"), Err(ReserveError::Ledger(_)))),
        ("nonce", |ledger| ledger.nonce(&kraken(), NonceUnit::Milliseconds, NOW).is_err()),
    ];
    for error in [io::ErrorKind::PermissionDenied, io::ErrorKind::Other] {
        for (name, call) in calls {
            let disk = SimulatedDisk::default();
            let (mut ledger, _) = open(&disk, "boot 1", NOW).expect("opens");
            disk.fail_with(error);
            assert!(call(&mut ledger), "{name}");
            disk.fail_after(u64::MAX / 2);
            let unavailable =
                |done: Result<(), LedgerError>| matches!(done, Err(LedgerError::Unavailable(_)));
            assert!(unavailable(ledger.append(NOW, &result()).map(drop)), "{name}");
            assert!(unavailable(ledger.flush()) && unavailable(ledger.sync()), "{name}");
            assert!(
                unavailable(ledger.nonce(&kraken(), NonceUnit::Milliseconds, NOW).map(drop)),
                "{name}"
            );
            assert!(matches!(trade(&mut ledger, NOW, "1"), Err(ReserveError::Ledger(_))), "{name}");
            assert!(ledger.health().unavailable.is_some(), "{name}");
            assert!(ledger.close(NOW).is_err(), "{name}");
            let (mut ledger, _) =
                open(&disk, "boot 1", NOW).expect("a restart verifies and goes on");
            assert!(trade(&mut ledger, NOW, "1").is_ok(), "{name}");
            assert_sound(&disk);
        }
    }
}

fn kraken() -> KeyName {
    KeyName::parse("kraken").expect("a name")
}

#[test]
fn a_restart_knows_what_the_running_ledger_knew() {
    let disk = SimulatedDisk::default();
    let options = Options { segment_bytes: 3_000, ..options("boot 1") };
    let (mut ledger, _) = open_with(&disk, options, NOW).expect("opens");
    for minute in 0..200 {
        let now_ms = NOW + minute * 10 * 60_000;
        let spends = vec![spend(USDT, "3.5", "100000"), spend(BTC, "0.01", "5")];
        ledger.intend(now_ms, intent(Scope::Withdraw, spends)).expect("fits");
        ledger.nonce(&kraken(), NonceUnit::Microseconds, now_ms).expect("given");
        let held = [spend(USDT, "1.5", "100000"), spend(BTC, "0.01", "5")];
        ledger.hold(now_ms, "bot", &held, 0).expect("fits");
        ledger.flush().expect("written");
        let before = recover(&segments(&disk.after_kill()), now_ms).expect("sound").state.carry();
        assert_eq!(before, ledger.state.carry(), "minute {minute}: a kill forgets what is held");
        let record = match minute % 2 {
            0 => signed(held.to_vec()),
            _ => Record::Intent(Box::new(intent(Scope::Trade, held.to_vec()))),
        };
        ledger.append_held(now_ms, &record, 0, 0).expect("appends");
        ledger.flush().expect("written");
        let mut recovered = recover(&segments(&disk.after_kill()), now_ms).expect("sound").state;
        assert_eq!(recovered.carry(), ledger.state.carry(), "minute {minute}");
    }
    assert!(names(&disk).len() > 10);
}

#[test]
fn retention_removes_the_oldest_and_says_so_and_forgets_no_limit() {
    let by_bytes = Retention { bytes: 8_000, age_ms: u64::MAX };
    let by_age = Retention { bytes: u64::MAX, age_ms: 20 * 60_000 };
    for retention in [by_bytes, by_age] {
        let disk = SimulatedDisk::default();
        let options = Options { segment_bytes: 2_000, retention, ..options("boot 1") };
        let (mut ledger, _) = open_with(&disk, options.clone(), NOW).expect("opens");
        for minute in 0..90 {
            trade(&mut ledger, NOW + minute * 60_000, "1").expect("fits");
        }
        ledger.flush().expect("written");
        let left = names(&disk);
        assert!(left.len() > 1 && left.len() < 12 && left[0] != "000001.jsonl", "{left:?}");
        assert_eq!(ledger.used(NOW + 90 * 60_000, USDT), amount("90"));
        let rotated = entries(&disk)
            .into_iter()
            .rev()
            .find(|entry| entry.kind == "rotated")
            .expect("on record");
        let Some(Record::Rotated(rotated)) = rotated.record() else { panic!("a rotated record") };
        assert!(rotated.removed.iter().all(|name| *name < left[0]), "{rotated:?}");
        assert_sound(&disk);
        drop(ledger);
        let (ledger, _) = open_with(&disk, options, NOW).expect("opens without its beginning");
        assert_eq!(ledger.used(NOW + 90 * 60_000, USDT), amount("90"));
    }
}

#[test]
fn a_day_old_segment_is_followed_by_a_new_one() {
    let disk = SimulatedDisk::default();
    let (mut ledger, _) = open(&disk, "boot 1", NOW).expect("opens");
    ledger.append(NOW + 23 * HOUR_MS, &result()).expect("appends");
    assert_eq!(names(&disk).len(), 1);
    ledger.append(NOW + 24 * HOUR_MS, &result()).expect("appends");
    ledger.flush().expect("written");
    assert_eq!(names(&disk), ["000001.jsonl", "000002.jsonl"]);
    assert_sound(&disk);
}

#[test]
fn floods_of_refusals_are_counted_and_none_is_lost() {
    let disk = SimulatedDisk::default();
    let (mut ledger, _) = open(&disk, "boot 1", NOW).expect("opens");
    let path = "/".repeat(60_000);
    let refused = Refused {
        request_id: "0193".into(),
        client: "bot".into(),
        uid: 1001,
        key: None,
        method: Some("GET".into()),
        path: Some(path.into()),
        code: "request.unknown_endpoint".into(),
        message: "no".into(),
    };
    for index in 0..5_000 {
        ledger.refuse(NOW + index * 10, &refused).expect("recorded");
    }
    ledger.close(NOW + 60_000).expect("closes");
    let of_kind = |kind| entries(&disk).into_iter().filter(move |entry| entry.kind == kind);
    let counted: u64 = of_kind("refusals")
        .map(|entry| match entry.record() {
            Some(Record::Refusals(refusals)) => refusals.count,
            other => panic!("{other:?}"),
        })
        .sum();
    let singly =
        of_kind("refused").inspect(|entry| assert!(entry.line.len() < 1_000)).count() as u64;
    assert_eq!((counted + singly, singly), (5_000, 100));
}

#[test]
fn synced_durability_loses_nothing_that_was_flushed() {
    let disk = SimulatedDisk::default();
    let options = Options { durability: SyncMode::Synced, ..options("boot 1") };
    let (mut ledger, _) = open_with(&disk, options, NOW).expect("opens");
    let link = ledger.append(NOW, &result()).expect("appends");
    ledger.flush().expect("synced");
    let disk = disk.after_power_cut(Loss::All);
    assert_eq!(
        entries(&disk).last().map(|entry| (entry.seq, entry.hash)),
        Some((link.seq, link.hash))
    );
}

#[test]
fn without_a_thread_a_sync_is_due_after_a_flush() {
    let disk = SimulatedDisk::default();
    let (mut ledger, _) = open(&disk, "boot 1", NOW).expect("opens");
    assert_eq!(ledger.sync_due(), None);
    ledger.append(NOW, &result()).expect("appends");
    ledger.flush().expect("written");
    assert!(ledger.sync_due().is_some_and(|due| due <= Duration::from_millis(50)));
    ledger.sync().expect("synced");
    assert_eq!(ledger.sync_due(), None);
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn the_thread_syncs_what_was_flushed_also_in_the_next_segment() {
    let disk = SimulatedDisk::default();
    let options = Options { background_sync: true, segment_bytes: 1_500, ..options("boot 1") };
    let (mut ledger, _) = open_with(&disk, options, NOW).expect("opens");
    for _ in 0..20 {
        let link = ledger.append(NOW, &result()).expect("appends");
        ledger.flush().expect("written");
        eventually("synced", || {
            entries(&disk.after_power_cut(Loss::All)).iter().any(|entry| entry.seq == link.seq)
        });
    }
    assert!(names(&disk).len() > 2);
}

#[test]
fn a_failure_of_the_thread_stops_the_ledger() {
    let disk = SimulatedDisk::default();
    let options = Options { background_sync: true, ..options("boot 1") };
    let (mut ledger, _) = open_with(&disk, options, NOW).expect("opens");
    ledger.append(NOW, &result()).expect("appends");
    disk.fail_after(1);
    ledger.flush().expect("written");
    eventually("the failure is seen", || ledger.sync_failure().is_some());
    assert!(matches!(ledger.append(NOW, &result()), Err(LedgerError::Unavailable(_))));
    assert!(matches!(
        trade(&mut ledger, NOW, "1"),
        Err(ReserveError::Ledger(LedgerError::Unavailable(_)))
    ));
    assert!(ledger.health().unavailable.is_some());
}

#[test]
fn a_second_agent_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || LedgerWriter::open(dir.path(), Arc::new(Disk), Options::for_this_run(), NOW);
    let (mut ledger, report) = open().expect("opens");
    assert_eq!(report.carried, CarriedState::New);
    assert!(matches!(open(), Err(LedgerError::InUse(_))));
    trade(&mut ledger, NOW, "1").expect("fits");
    ledger.close(NOW).expect("closes");
    let (ledger, report) = open().expect("opens once the first has ended");
    assert_eq!((report.carried, ledger.used(NOW, USDT)), (CarriedState::Clean, amount("1")));
    let verified = verify::verify(Arc::new(Disk), dir.path(), None, &mut |_, _| ()).expect("reads");
    assert_eq!((verified.problems, verified.last_seq), (vec![], Some(report.opened.seq)));
    let shown = audit::show(&verify::journal(dir.path()), report.opened.seq)
        .expect("reads")
        .expect("is there");
    assert_eq!((shown.kind.as_str(), shown.hash), ("opened", report.opened.hash));
}
