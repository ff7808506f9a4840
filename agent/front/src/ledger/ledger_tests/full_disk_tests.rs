//! Tests the ledger on a disk that is full and later has room again.

use countersign_core::record::ThrownAway;

use crate::ledger::ledger_tests::*;
use crate::ledger::recovery::recover;

const MEBIBYTE: u64 = 1 << 20;

fn kraken() -> KeyName {
    KeyName::parse("kraken").expect("a name")
}

fn trade(ledger: &mut LedgerWriter, now_ms: u64) -> Result<(), ReserveError> {
    let spends = vec![spend(USDT, "1", "1000000")];
    ledger.hold(now_ms, "bot", &spends, 0)?;
    ledger.append_held(now_ms, &signed(spends), 0, 0)?;
    Ok(ledger.flush()?)
}

fn refused() -> Refused<'static> {
    Refused {
        request_id: "0193".into(),
        client: "bot".into(),
        uid: 1001,
        key: None,
        method: None,
        path: None,
        code: "ledger.unavailable".into(),
        message: "no".into(),
    }
}

/// A ledger on a disk of four mebibytes, with room set aside.
fn small(options: Options) -> (SimulatedDisk, LedgerWriter) {
    let disk = SimulatedDisk::default();
    disk.set_capacity(4 * MEBIBYTE);
    let options = Options { ballast_bytes: 4 << 20, ..options };
    let (ledger, _) = open_with(&disk, options, NOW).expect("opens");
    (disk, ledger)
}

/// Asks until the ledger signs again, a few times.
fn comes_back(ledger: &mut LedgerWriter, now_ms: u64) -> bool {
    (0..50).any(|_| {
        std::thread::sleep(Duration::from_millis(3));
        trade(ledger, now_ms).is_ok()
    })
}

#[test]
fn a_full_disk_ends_signing_and_room_brings_it_back_again_and_again() {
    let (disk, mut ledger) = small(options("boot 1"));
    let mut signed = 0;
    for cycle in 0..5 {
        let now_ms = NOW + cycle * 60_000;
        disk.leave_free(3_000 + cycle * 137);
        while trade(&mut ledger, now_ms).is_ok() {
            signed += 1;
            assert!(signed < 10_000, "the disk is full");
        }
        assert!(matches!(
            trade(&mut ledger, now_ms),
            Err(ReserveError::Ledger(LedgerError::Full(_)))
        ));
        assert!(ledger.nonce(&kraken(), NonceUnit::Milliseconds, now_ms).is_err());
        assert!(
            ledger
                .append(now_ms, &Record::Unlocked(countersign_core::record::Locking { uid: 0 }))
                .is_err()
        );
        assert!(ledger.health().unavailable.is_some());
        disk.others_go();
        assert!(comes_back(&mut ledger, now_ms), "cycle {cycle}: {:?}", ledger.health());
        assert_eq!(ledger.health().unavailable, None);
        signed += 1;
        assert_sound(&disk);
        let on_record = kinds(&disk).iter().filter(|kind| *kind == "signed").count();
        assert!(
            on_record >= signed && on_record <= signed + 5,
            "cycle {cycle}: {on_record} of {signed}"
        );
        let used = ledger.used(now_ms, USDT);
        assert_eq!(
            used,
            amount(&on_record.to_string()),
            "what is on record counts, and nothing else"
        );
        let mut restarted = recover(&segments(&disk.after_kill()), now_ms).expect("sound").state;
        assert_eq!(restarted.carry().windows, ledger.state.carry().windows);
    }
}

/// Its intent was never appended: it is recorded with the end.
#[test]
fn a_request_under_way_is_recorded_and_counted_once_though_the_disk_fills_up() {
    let held = vec![spend(USDT, "1", "200")];
    let failed = Record::Intent(Box::new(intent(Scope::Trade, held.clone())));
    for record in [signed(held.clone()), failed] {
        let (disk, mut ledger) = small(options("boot 1"));
        ledger.hold(NOW, "bot", &held, 0).expect("fits");
        disk.leave_free(0);
        while trade(&mut ledger, NOW).is_ok() {}
        let used = ledger.used(NOW, USDT);
        ledger.append_held(NOW, &record, 0, 0).expect("kept");
        assert_eq!(ledger.used(NOW, USDT), used, "it was counted already");
        disk.others_go();
        assert!(comes_back(&mut ledger, NOW), "{:?}", ledger.health());
        assert_sound(&disk);
        let mut restarted = recover(&segments(&disk.after_kill()), NOW).expect("sound").state;
        assert_eq!(restarted.carry().windows, ledger.state.carry().windows);
    }
}

/// Two requests hold the same amount, and one of them finds no place for its record.
#[test]
fn a_held_request_that_cannot_be_recorded_frees_its_amount_once() {
    let disk = SimulatedDisk::default();
    let (mut ledger, _) = open(&disk, "boot 1", NOW).expect("opens");
    let held = vec![spend(USDT, "1", "200")];
    for _ in 0..2 {
        ledger.hold(NOW, "bot", &held, 0).expect("fits");
    }
    disk.set_capacity(disk.used());
    let _ = ledger.append(NOW, &result()).map(|_| ledger.flush());
    while ledger.append(NOW, &result()).is_ok() {}
    assert!(ledger.append_held(NOW, &signed(held.clone()), 0, 0).is_err(), "no place is left");
    assert_eq!(ledger.used(NOW, USDT), amount("1"), "the other one holds its own");
    disk.set_capacity(MEBIBYTE);
    assert!(comes_back(&mut ledger, NOW), "{:?}", ledger.health());
    ledger.append_held(NOW, &signed(held), 0, 0).expect("there is room");
    assert_eq!(ledger.used(NOW, USDT), amount("2"), "the one and the trade that came back");
    let mut restarted = recover(&segments(&disk.after_kill()), NOW).expect("sound").state;
    ledger.flush().expect("written");
    assert_ne!(restarted.carry().windows, ledger.state.carry().windows, "not written yet");
    restarted = recover(&segments(&disk.after_kill()), NOW).expect("sound").state;
    assert_eq!(restarted.carry().windows, ledger.state.carry().windows);
}

/// Bytes of a long request.
const LONG: usize = 60 * 1024;

fn long_intent() -> Intent<'static> {
    Intent { params: Some("p".repeat(LONG).into()), ..intent(Scope::Trade, vec![]) }
}

#[test]
fn on_a_nearly_full_disk_a_long_request_under_way_counts_like_one_on_record() {
    type Begin = fn(&mut LedgerWriter) -> Result<(), ReserveError>;
    let ways: [(&str, Begin); 2] = [
        ("intended", |ledger| ledger.intend(NOW, long_intent()).map(drop)),
        ("held", |ledger| ledger.hold(NOW, "bot", &[], LONG)),
    ];
    for (way, begin) in ways {
        let (disk, mut ledger) = small(options("boot 1"));
        disk.leave_free(200 * 1024);
        begin(&mut ledger).unwrap_or_else(|error| panic!("{way}: {error}"));
        assert!(ledger.writers.wants_look(NOW), "{way}: it takes much of the room");
        assert!(matches!(begin(&mut ledger), Err(ReserveError::Crowded(_))), "{way}");
    }
}

/// The records of a request of usual length: its signature, or its intent and `following` records.
fn ending(following: u64) -> Vec<Record<'static>> {
    let request_id = || "01928f5c-7b1e-7c3a-9d51-000000000000".into();
    let message_sha256: String = "ab".repeat(32);
    let params = Some("p".repeat(180).into());
    let intent = Intent { request_id: request_id(), params, ..intent(Scope::Trade, vec![]) };
    if following == 0 {
        let message_sha256 = message_sha256.into();
        return vec![Record::Signed(Box::new(SignedAtOnce { intent, message_sha256 }))];
    }
    let (outcome, error) = (Outcome::Failed, Some("token.unavailable".into()));
    let result = RequestResult { request_id: request_id(), outcome, message_sha256: None, error };
    let thrown_away =
        ThrownAway { request_id: request_id(), message_sha256: message_sha256.into() };
    let intent = Record::Intent(Box::new(intent));
    match following {
        1 => vec![intent, Record::Result(result)],
        _ => vec![intent, Record::ThrownAway(thrown_away), Record::Result(result)],
    }
}

#[test]
fn on_a_nearly_full_disk_a_client_writes_its_share_however_its_requests_end() {
    for following in 0..3 {
        let (disk, mut ledger) = small(options("boot 1"));
        disk.leave_free(200 * 1024);
        let before = disk.used();
        while ledger.hold(NOW, "bot", &[], 0).is_ok() {
            let records = ending(following);
            ledger.append_held(NOW, &records[0], 0, following).expect("appends");
            for record in &records[1..] {
                ledger.append(NOW, record).expect("appends");
            }
            ledger.flush().expect("written");
        }
        let (written, burst) = (disk.used() - before, 2 * 4 * 1024);
        assert!((burst - 1_200..burst + 1_200).contains(&written), "{following}: {written}");
    }
}

#[test]
fn refusals_a_lock_and_the_end_are_recorded_on_a_full_disk() {
    let (disk, mut ledger) = small(options("boot 1"));
    disk.leave_free(100);
    let _ = trade(&mut ledger, NOW);
    assert!(trade(&mut ledger, NOW).is_err(), "full");
    for second in 0..100 {
        ledger.refuse(NOW + second * 1_000, &refused()).expect("recorded or counted");
        ledger.flush().expect("room was set aside");
    }
    ledger
        .append(NOW, &Record::Locked(countersign_core::record::Locking { uid: 0 }))
        .expect("taken");
    ledger.sync().expect("room was set aside");
    ledger.close(NOW + 100_000).expect("closes");
    let kinds = kinds(&disk);
    let count = |wanted: &str| kinds.iter().filter(|kind| *kind == wanted).count();
    assert_eq!(
        (count("refused"), count("locked"), count("closed")),
        (10, 1, 1),
        "one in each period"
    );
    assert!(count("refusals") >= 10);
    assert_sound(&disk);
    disk.leave_free(50_000);
    // The next start cannot set room aside again: the agent starts all the same, and signs once
    // there is room.
    let full = Options { ballast_bytes: 4 << 20, ..options("boot 1") };
    let (mut ledger, report) = open_with(&disk, full, NOW + 200_000).expect("starts");
    assert_eq!(report.carried, CarriedState::Clean);
    assert!(matches!(
        trade(&mut ledger, NOW + 200_000),
        Err(ReserveError::Ledger(LedgerError::Full(_)))
    ));
    disk.others_go();
    assert!(comes_back(&mut ledger, NOW + 200_000));
    assert_sound(&disk);
}

#[test]
fn without_any_room_records_wait_in_memory_and_none_is_lost() {
    let disk = SimulatedDisk::default();
    let (mut ledger, _) = open(&disk, "boot 1", NOW).expect("opens");
    disk.set_capacity(disk.used() + 400);
    ledger.intend(NOW, intent(Scope::Trade, vec![])).expect("appended");
    ledger.append(NOW, &result()).expect("appended");
    assert!(ledger.flush().is_err(), "half a line");
    ledger.append(NOW, &result()).expect("a request under way ends");
    ledger
        .append(NOW, &Record::Locked(countersign_core::record::Locking { uid: 0 }))
        .expect("taken");
    assert!(ledger.flush().is_err() && ledger.sync().is_err() && ledger.holds_records_back());
    disk.set_capacity(MEBIBYTE);
    ledger.close(NOW).expect("there is room");
    let kinds = kinds(&disk);
    let last: Vec<_> = kinds.iter().rev().take(5).rev().map(String::as_str).collect();
    assert_eq!(last, ["intent", "result", "result", "locked", "closed"]);
    assert_sound(&disk);
}

#[test]
fn what_waits_in_memory_is_bounded() {
    let disk = SimulatedDisk::default();
    let (mut ledger, _) = open(&disk, "boot 1", NOW).expect("opens");
    disk.set_capacity(disk.used());
    let _ = ledger.append(NOW, &result()).map(|_| ledger.flush());
    let taken = (0..100_000).take_while(|_| ledger.append(NOW, &result()).is_ok()).count();
    assert!((100..10_000).contains(&taken), "{taken}");
    ledger
        .append(NOW, &Record::Locked(countersign_core::record::Locking { uid: 0 }))
        .expect("comes once");
}

/// True if retention has removed the first segment.
fn retained(disk: &SimulatedDisk) -> bool {
    names(disk)[0] != "000001.jsonl"
}

/// Each change to the disk fails for lack of room, one after the other. Then there is room again.
#[test]
fn whichever_change_finds_no_room_the_ledger_comes_back_and_nothing_is_lost() {
    for durability in [SyncMode::Group, SyncMode::Synced] {
        for failing in 0.. {
            let disk = SimulatedDisk::default();
            let options = Options {
                durability,
                segment_bytes: 3_000,
                ballast_bytes: 4 << 10,
                ..options("boot 1")
            };
            let retention = Retention { bytes: 9_000, ..Retention::default() };
            let (mut ledger, _) =
                open_with(&disk, Options { retention, ..options }, NOW).expect("opens");
            let before = disk.operations();
            disk.fail_with(io::ErrorKind::StorageFull);
            disk.fail_after(failing);
            let mut released = 0;
            for step in 0..30 {
                let now_ms = NOW + step * 60_000;
                let nonce = ledger.nonce(&kraken(), NonceUnit::Milliseconds, now_ms);
                released += u64::from(nonce.is_ok() && trade(&mut ledger, now_ms).is_ok());
            }
            let finished = disk.operations() - before < failing;
            let end = NOW + 30 * 60_000;
            let what = format!("change {failing}, {durability:?}");
            // The agent is killed on the full disk: each request that left it is on record and
            // counts.
            let killed = disk.after_kill();
            let (after, _) =
                open(&killed, "boot 1", end).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(after.used(end, USDT) >= amount(&released.to_string()), "{what}");
            let signed = kinds(&killed).iter().filter(|kind| *kind == "signed").count() as u64;
            assert!(retained(&killed) || signed >= released, "{what}: {signed} of {released}");
            disk.works_again();
            assert!(finished || comes_back(&mut ledger, end), "{what}: {:?}", ledger.health());
            released += u64::from(!finished);
            assert_sound(&disk);
            let used = ledger.used(end, USDT);
            assert!(
                used >= amount(&released.to_string()),
                "{what}: {used} counts, {released} left"
            );
            let mut restarted = recover(&segments(&disk.after_kill()), end).expect("sound").state;
            assert_eq!(restarted.carry().windows, ledger.state.carry().windows, "{what}");
            let lost_power = disk.after_power_cut(crate::ledger::simulated_disk::Loss::Nothing);
            assert_sound(&lost_power);
            if finished {
                assert!(failing > 60, "the script is too short to say anything");
                break;
            }
        }
    }
}

/// A sync that fails may have lost bytes. They are written again, so that a later power cut loses
/// none of them.
#[test]
fn after_a_sync_without_room_the_bytes_are_written_again() {
    let disk = SimulatedDisk::default();
    let options = Options { durability: SyncMode::Synced, ..options("boot 1") };
    let (mut ledger, _) = open_with(&disk, options, NOW).expect("opens");
    trade(&mut ledger, NOW).expect("signed, and the limit is reserved for");
    disk.fail_with(io::ErrorKind::StorageFull);
    disk.fail_after(1);
    assert!(trade(&mut ledger, NOW).is_err(), "written, and not synced");
    disk.works_again();
    assert!(comes_back(&mut ledger, NOW));
    let disk = disk.after_power_cut(crate::ledger::simulated_disk::Loss::All);
    assert_eq!(kinds(&disk).iter().filter(|kind| *kind == "signed").count(), 3);
    assert_sound(&disk);
}

#[test]
fn a_sync_of_the_thread_without_room_ends_signing_until_there_is_some() {
    let disk = SimulatedDisk::default();
    let options = Options { background_sync: true, ..options("boot 1") };
    let (mut ledger, _) = open_with(&disk, options, NOW).expect("opens");
    trade(&mut ledger, NOW).expect("signed, and the limit is reserved for");
    ledger.sync().expect("synced");
    std::thread::sleep(Duration::from_millis(100)); // the thread's own sync is over
    disk.fail_with(io::ErrorKind::StorageFull);
    disk.fail_after(1);
    trade(&mut ledger, NOW).expect("written");
    let start = std::time::Instant::now();
    while ledger.sync_failure().is_none() {
        assert!(start.elapsed() < Duration::from_secs(10), "the thread syncs");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(matches!(trade(&mut ledger, NOW), Err(ReserveError::Ledger(LedgerError::Full(_)))));
    disk.works_again();
    assert!(comes_back(&mut ledger, NOW));
    assert_eq!((ledger.sync_failure(), ledger.health().unavailable), (None, None));
    let disk = disk.after_power_cut(crate::ledger::simulated_disk::Loss::All);
    let signed = kinds(&disk).iter().filter(|kind| *kind == "signed").count();
    assert!(signed >= 2, "what the failed sync had to bring is on the disk");
}

/// A segment is long, and a lock does not wait until the segment was read.
#[test]
fn while_the_journal_is_verified_nobody_waits_and_nothing_is_signed() {
    let disk = SimulatedDisk::default();
    let options = Options { background_sync: true, ..options("boot 1") };
    let (mut ledger, _) = open_with(&disk, options, NOW).expect("opens");
    trade(&mut ledger, NOW).expect("signed");
    disk.set_capacity(disk.used() + 5);
    assert!(trade(&mut ledger, NOW).is_err(), "full");
    disk.set_capacity(MEBIBYTE);
    let reading = disk.reading();
    let held = reading.lock().expect("nobody panics");
    let (done, waits) = std::sync::mpsc::channel();
    let front = std::thread::spawn(move || {
        let mut full = 0;
        for second in 0..20 {
            std::thread::sleep(Duration::from_millis(3));
            full += usize::from(matches!(
                trade(&mut ledger, NOW),
                Err(ReserveError::Ledger(LedgerError::Full(_)))
            ));
            ledger.refuse(NOW + second, &refused()).expect("recorded");
            ledger
                .append(NOW, &Record::Locked(countersign_core::record::Locking { uid: 0 }))
                .expect("recorded");
            ledger.sync().expect("there is room");
        }
        done.send(full).expect("the test waits");
        ledger
    });
    assert_eq!(
        waits.recv_timeout(Duration::from_secs(10)),
        Ok(20),
        "the front went on, and signed nothing"
    );
    drop(held);
    let mut ledger = front.join().expect("no panic");
    assert!(comes_back(&mut ledger, NOW), "{:?}", ledger.health());
    assert_sound(&disk);
}

#[test]
fn at_the_end_all_that_was_counted_is_recorded_however_much_waits_in_memory() {
    let disk = SimulatedDisk::default();
    let (mut ledger, _) = open(&disk, "boot 1", NOW).expect("opens");
    ledger.refuse(NOW, &refused()).expect("recorded");
    disk.set_capacity(disk.used());
    let _ = ledger.append(NOW, &result()).map(|_| ledger.flush());
    for number in 0..100 {
        let _ = ledger.refuse(
            NOW + number,
            &Refused { code: format!("code.{}", number % 7).into(), ..refused() },
        );
    }
    while ledger.append(NOW, &result()).is_ok() {}
    disk.set_capacity(4 * MEBIBYTE);
    ledger.close(NOW + 1).expect("there is room again");
    let kinds = kinds(&disk);
    assert_eq!(kinds.last().map(String::as_str), Some("closed"));
    assert!(kinds.iter().any(|kind| kind == "refusals"), "what was counted is on record");
    assert_sound(&disk);
}

/// A change that somebody makes to the journal while the disk is full is noticed.
#[test]
fn a_journal_that_was_changed_meanwhile_does_not_come_back() {
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 3] = [
        ("a byte of an earlier record", |bytes| {
            let place = bytes.len() / 2;
            bytes[place] ^= 1;
        }),
        ("a byte of the last record gone", |bytes| bytes.truncate(bytes.len() - 6)),
        ("a line more", |bytes| bytes.extend_from_slice(b"{}\n")),
    ];
    for (name, change) in changes {
        let disk = SimulatedDisk::default();
        let (mut ledger, _) = open(&disk, "boot 1", NOW).expect("opens");
        for _ in 0..10 {
            trade(&mut ledger, NOW).expect("signed");
        }
        disk.set_capacity(disk.used() + 5);
        assert!(trade(&mut ledger, NOW).is_err(), "full");
        let mut bytes = disk.bytes(&newest(&disk));
        change(&mut bytes);
        disk.replace(&newest(&disk), bytes);
        disk.set_capacity(MEBIBYTE);
        assert!(!comes_back(&mut ledger, NOW), "{name}");
        assert!(
            matches!(ledger.append(NOW, &result()), Err(LedgerError::Unavailable(_))),
            "{name}"
        );
    }
}

#[test]
fn retention_keeps_up_with_a_writer_on_a_small_disk() {
    let (disk, mut ledger) = small(options("boot 1"));
    let mut least = u64::MAX;
    for number in 0..40_000u64 {
        trade(&mut ledger, NOW + number)
            .unwrap_or_else(|error| panic!("request {number}: {error}"));
        least = least.min(4 * MEBIBYTE - disk.used());
    }
    assert!(least > MEBIBYTE, "{least} bytes were free");
    assert_eq!(ledger.used(NOW + 40_000, USDT), amount("40000"));
    assert_sound(&disk);
}

#[test]
fn what_others_keep_on_the_disk_takes_no_more_than_three_quarters_from_the_journal() {
    let (disk, mut ledger) = small(options("boot 1"));
    for number in 0..20_000u64 {
        trade(&mut ledger, NOW + number).expect("signed");
    }
    let journal = |disk: &SimulatedDisk| {
        segments(disk).list().expect("lists").iter().map(|file| file.length).sum::<u64>()
    };
    assert!(journal(&disk) > 3 * MEBIBYTE / 2);
    // The file system is as large as before, and another program takes the free space.
    disk.leave_free(100 * 1024);
    ledger.tick(NOW + 30_000).expect("retention makes room");
    let left = journal(&disk);
    assert!((MEBIBYTE - 128 * 1024..=MEBIBYTE).contains(&left), "{left}");
    assert_sound(&disk);
}

/// A ledger whose next record begins a segment and removes an old one.
fn before_rotation() -> (SimulatedDisk, LedgerWriter) {
    let disk = SimulatedDisk::default();
    let retention = Retention { bytes: 9_000, ..Retention::default() };
    let options = Options { segment_bytes: 3_000, retention, ..options("boot 1") };
    let (mut ledger, _) = open_with(&disk, options, NOW).expect("opens");
    while names(&disk).len() < 3 || ledger.journal.length < 3_000 {
        ledger.append(NOW, &result()).expect("there is room");
    }
    (disk, ledger)
}

/// Each change of a rotation fails for lack of room, one after the other.
#[test]
fn where_a_rotation_finds_no_room_a_lock_and_what_ends_are_recorded_all_the_same() {
    let locked = Record::Locked(countersign_core::record::Locking { uid: 0 });
    let refused = Record::Refused(refused());
    for (kind, record) in
        [("locked", locked), ("refused", refused), ("result", result()), ("signed", signed(vec![]))]
    {
        let changes = {
            let (disk, mut ledger) = before_rotation();
            let before = disk.operations();
            ledger.append(NOW, &record).expect("there is room");
            disk.operations() - before
        };
        assert!(changes > 5, "a new segment is made and an old one removed: {changes}");
        for failing in 0..changes {
            let what = format!("{kind}, change {failing}");
            let (disk, mut ledger) = before_rotation();
            disk.fail_with(io::ErrorKind::StorageFull);
            disk.fail_after(failing);
            ledger.append(NOW, &record).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(ledger.flush().is_ok() || ledger.holds_records_back(), "{what}");
            disk.works_again();
            assert!(comes_back(&mut ledger, NOW), "{what}: {:?}", ledger.health());
            assert_sound(&disk);
            assert!(entries(&disk).iter().any(|entry| entry.kind == kind), "{what}");
        }
    }
}
