//! Tests that a torn end is repaired and reported, and that damage anywhere else is refused.

use crate::ledger::ledger_tests::*;

/// A closed journal of two segments, and the bytes of its newest one.
fn journal() -> (SimulatedDisk, Vec<u8>) {
    let disk = SimulatedDisk::default();
    let options = Options { segment_bytes: 1_500, ..options("boot 1") };
    let (mut ledger, _) = open_with(&disk, options, NOW).expect("opens");
    for second in 0..6 {
        let now_ms = NOW + second * 1_000;
        ledger.intend(now_ms, intent(Scope::Trade, vec![spend(USDT, "10", "200")])).expect("fits");
        ledger.append(now_ms, &result()).expect("appends");
    }
    ledger.close(NOW + 10_000).expect("closes");
    assert!(names(&disk).len() >= 2);
    let bytes = disk.bytes(&newest(&disk));
    (disk, bytes)
}

/// The offsets at which the last three lines start, and the end of the last line.
fn last_lines(bytes: &[u8]) -> [usize; 4] {
    let ends: Vec<_> = bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .map(|(at, _)| at + 1)
        .collect();
    ends[ends.len() - 4..].try_into().expect("four lines at least")
}

fn reopen(bytes: Vec<u8>) -> Result<OpenReport, LedgerError> {
    let (disk, _) = journal();
    disk.replace(&newest(&disk), bytes);
    let (ledger, report) = open(&disk, "boot 2", NOW + 20_000)?;
    assert_sound(&disk);
    drop(ledger);
    Ok(report)
}

#[test]
fn a_journal_cut_at_any_byte_of_its_last_records_is_repaired_and_says_so() {
    let (_, bytes) = journal();
    let lines = last_lines(&bytes);
    for length in lines[0]..=lines[3] {
        let torn = reopen(bytes[..length].to_vec())
            .unwrap_or_else(|error| panic!("cut at {length}: {error}"))
            .torn;
        let line = lines.into_iter().rev().find(|start| *start <= length).expect("after the first");
        let expected = match length {
            whole if lines.contains(&whole) => None,
            nearly if lines.contains(&(nearly + 1)) => Some(Torn::Completed),
            _ => Some(Torn::Cut((length - line) as u64)),
        };
        assert_eq!(torn, expected, "cut at {length}");
    }
}

#[test]
fn what_was_cut_is_on_record() {
    let (disk, bytes) = journal();
    disk.replace(&newest(&disk), bytes[..bytes.len() - 5].to_vec());
    let (_, report) = open(&disk, "boot 2", NOW).expect("opens");
    let opened = entries(&disk).pop().expect("a record");
    let Some(Record::Opened(opened)) = opened.record() else {
        panic!("the last record is not opened")
    };
    assert_eq!(report.torn, Some(Torn::Cut(opened.cut_bytes)));
    assert_eq!(opened.carried, CarriedState::Reserved, "the close was cut off");
}

#[test]
fn any_flipped_byte_before_the_last_line_is_refused() {
    let (disk, bytes) = journal();
    let last_line = last_lines(&bytes)[2];
    for at in 0..last_line {
        for flip in [0x01, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            let Err(LedgerError::Damaged { segment, .. }) = reopen(changed) else {
                panic!("byte {at} ^ {flip}")
            };
            assert_eq!(Some(&segment), names(&disk).last());
        }
    }
}

/// No later line names the hash of the last line. So a flip that leaves a valid record cannot be
/// noticed.
#[test]
fn any_flipped_byte_of_the_last_line_is_refused_or_repaired_or_leaves_a_record() {
    let (_, bytes) = journal();
    let [.., start, end] = last_lines(&bytes);
    for at in start..end {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let is_record = changed[start..].strip_suffix(b"\n").is_some_and(|line| {
            let sequence = std::str::from_utf8(&bytes[start..end])
                .ok()
                .and_then(|line| line.split(',').next());
            sequence.is_some_and(|sequence| line.starts_with(sequence.as_bytes()))
                && countersign_core::chain::Head::parse(line).is_ok()
        });
        match reopen(changed) {
            Err(LedgerError::Damaged { .. }) => assert!(at + 1 < end),
            Err(error) => panic!("byte {at}: {error}"),
            Ok(report) if at + 1 == end => {
                assert_eq!(report.torn, Some(Torn::Cut((end - start) as u64)))
            }
            Ok(report) => assert!(report.torn.is_none() && is_record, "byte {at}"),
        }
    }
}

#[test]
fn damage_of_earlier_segments_is_refused_where_it_breaks_a_link() {
    type Damage = fn(&SimulatedDisk);
    let cases: [(&str, Damage); 4] = [
        ("a missing segment", |disk| {
            segments(disk)
                .storage
                .remove(&segments(disk).path(SegmentName::FIRST.next()))
                .expect("gone")
        }),
        ("a changed last line", |disk| {
            replace_in(disk, SegmentName::FIRST, |bytes| {
                let at = bytes.len() - 70;
                bytes[at] ^= 1;
            })
        }),
        ("a shortened segment", |disk| {
            replace_in(disk, SegmentName::FIRST, |bytes| bytes.truncate(bytes.len() - 1))
        }),
        ("another beginning", |disk| {
            replace_in(disk, SegmentName::FIRST, |bytes| {
                bytes.remove(0);
            })
        }),
    ];
    for (name, damage) in cases {
        let (disk, _) = journal();
        assert!(names(&disk).len() >= 3, "{name}");
        damage(&disk);
        let error = open(&disk, "boot 2", NOW).expect_err(name);
        let LedgerError::Damaged { .. } = &error else { panic!("{name}: {error}") };
        let text = error.to_string();
        assert!(
            text.contains("countersign audit verify") && text.contains("move /state/journal aside"),
            "{text}"
        );
    }
}

fn replace_in(disk: &SimulatedDisk, segment: SegmentName, change: impl FnOnce(&mut Vec<u8>)) {
    let path = segments(disk).path(segment);
    let mut bytes = disk.bytes(&path);
    change(&mut bytes);
    disk.replace(&path, bytes);
}

#[test]
fn damage_refuses_again_after_it_was_refused() {
    let (disk, mut bytes) = journal();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    disk.replace(&newest(&disk), bytes.clone());
    for _ in 0..2 {
        assert!(matches!(open(&disk, "boot 2", NOW), Err(LedgerError::Damaged { .. })));
        assert_eq!(disk.bytes(&newest(&disk)), bytes, "nothing of a damaged journal is touched");
    }
}
