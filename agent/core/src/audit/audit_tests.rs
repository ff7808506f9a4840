//! Tests that verify, follow and search sound and broken journals.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::*;
use crate::record::samples;

#[derive(Default)]
struct Memory(RefCell<BTreeMap<SegmentName, Vec<u8>>>);

impl Segments for Memory {
    fn list(&self) -> io::Result<Vec<SegmentFile>> {
        let file = |(name, bytes): (&SegmentName, &Vec<u8>)| SegmentFile {
            name: *name,
            length: bytes.len() as u64,
        };
        Ok(self.0.borrow().iter().map(file).collect())
    }

    fn open(&self, name: SegmentName, offset: u64) -> io::Result<Box<dyn Read>> {
        let bytes = self.0.borrow().get(&name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(io::Cursor::new(bytes.get(offset as usize..).unwrap_or_default().to_vec())))
    }
}

/// Number of records in a segment of [`journal`].
fn in_a_segment() -> u64 {
    1 + samples::all().len() as u64
}

/// Three segments, each a header and all the samples.
fn journal() -> (Memory, Chain) {
    let (memory, mut chain) = (Memory::default(), Chain::GENESIS);
    let header = samples::all()
        .into_iter()
        .find(|record| matches!(record, Record::Segment(_)))
        .expect("a sample");
    for number in 1..=3 {
        let mut bytes = Vec::new();
        for record in std::iter::once(&header).chain(&samples::all()) {
            chain.write(&mut bytes, 1, record).expect("serialises");
        }
        memory.0.borrow_mut().insert(SegmentName(number), bytes);
    }
    (memory, chain)
}

type Damage = fn(&mut BTreeMap<SegmentName, Vec<u8>>);

fn verified(memory: &Memory, from: Option<u64>) -> VerifyReport {
    verify(memory, from, &mut |done, total| assert!(done <= total)).expect("reads")
}

#[test]
fn a_sound_journal_has_no_problems() {
    let (memory, chain) = journal();
    let (each, all) = (in_a_segment(), 3 * in_a_segment());
    let report = verified(&memory, None);
    assert_eq!((report.problems, report.records, report.segments), (vec![], all, 3));
    assert_eq!((report.last_hash, report.anchor), (Some(chain.last_hash()), Some(Hash::GENESIS)));
    let late = verified(&memory, Some(2 * each + 5));
    assert_eq!((late.first_seq, late.last_seq, late.segments), (Some(2 * each + 1), Some(all), 1));
}

#[test]
fn every_break_is_named_with_its_place() {
    let cases: [(&str, Damage, (&str, u64)); 4] = [
        ("a changed text", |all| replace(all, 2, "rebalance", "REBALANCE"), ("000002.jsonl", 6)),
        ("a broken line", |all| replace(all, 1, "\"seq\":3,", "\"seq\":x,"), ("000001.jsonl", 3)),
        ("a missing segment", |all| drop(all.remove(&SegmentName(2))), ("000003.jsonl", 0)),
        (
            "an unfinished old segment",
            |all| all.get_mut(&SegmentName(1)).expect("a segment").truncate(1_000),
            ("000001.jsonl", 2),
        ),
    ];
    for (name, damage, (segment, line)) in cases {
        let (memory, _) = journal();
        damage(&mut memory.0.borrow_mut());
        let problems = verified(&memory, None).problems;
        let first = problems.first().unwrap_or_else(|| panic!("{name}: nothing found"));
        assert_eq!((first.segment.as_str(), first.line), (segment, line), "{name}: {}", first.what);
        assert!(problems.len() <= 2, "{name}: {problems:?}");
    }
}

fn replace(all: &mut BTreeMap<SegmentName, Vec<u8>>, segment: u32, from: &str, to: &str) {
    let bytes = all.get_mut(&SegmentName(segment)).expect("a segment");
    *bytes = String::from_utf8_lossy(bytes).replace(from, to).into_bytes();
}

#[test]
fn an_unfinished_last_line_is_in_progress() {
    let (memory, _) = journal();
    memory.0.borrow_mut().entry(SegmentName(3)).or_default().extend_from_slice(b"{\"seq\":99,");
    let report = verified(&memory, None);
    assert_eq!(
        (report.problems, report.unfinished_bytes, report.records),
        (vec![], 10, 3 * in_a_segment())
    );
}

#[test]
fn tail_follows_over_segments_and_waits_for_whole_lines() {
    let (memory, mut chain) = journal();
    let last = 3 * in_a_segment();
    let mut tail = Tail::after(last / 2);
    let mut seen: Vec<u64> = Vec::new();
    while let entries @ [_, ..] = tail.read(&memory, 5).expect("reads").as_slice() {
        seen.extend(entries.iter().map(|entry| entry.seq));
    }
    assert_eq!(seen, (last / 2 + 1..=last).collect::<Vec<_>>());
    let mut bytes = Vec::new();
    chain.write(&mut bytes, 1, &samples::all()[0]).expect("serialises");
    let (head, rest) = bytes.split_at(20);
    memory.0.borrow_mut().entry(SegmentName(3)).or_default().extend_from_slice(head);
    assert_eq!(tail.read(&memory, 5).expect("reads"), vec![]);
    memory.0.borrow_mut().entry(SegmentName(3)).or_default().extend_from_slice(rest);
    let new = tail.read(&memory, 5).expect("reads");
    assert_eq!(new.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [last + 1]);
    assert_eq!(new[0].record(), Some(samples::all().remove(0)));
}

#[test]
fn show_finds_one_record() {
    let (memory, _) = journal();
    assert_eq!(show(&memory, 20).expect("reads").map(|entry| entry.seq), Some(20));
    for seq in [0, 3 * in_a_segment() + 1] {
        assert_eq!(show(&memory, seq).expect("reads"), None);
    }
}

/// Counts the bytes that are read.
struct Counted {
    memory: Memory,
    read: Rc<Cell<u64>>,
}

struct Counting(Box<dyn Read>, Rc<Cell<u64>>);

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        self.1.set(self.1.get() + read as u64);
        Ok(read)
    }
}

impl Segments for Counted {
    fn list(&self) -> io::Result<Vec<SegmentFile>> {
        self.memory.list()
    }

    fn open(&self, name: SegmentName, offset: u64) -> io::Result<Box<dyn Read>> {
        Ok(Box::new(Counting(self.memory.open(name, offset)?, Rc::clone(&self.read))))
    }
}

#[test]
fn any_record_of_a_long_segment_is_found_without_reading_it_all() {
    let (memory, mut chain) = journal();
    let mut bytes = Vec::new();
    while bytes.len() < 4 << 20 {
        for record in samples::all() {
            chain.write(&mut bytes, 1, &record).expect("serialises");
        }
    }
    let last = chain.next_seq() - 1;
    memory.0.borrow_mut().entry(SegmentName(3)).or_default().extend(bytes);
    let counted = Counted { memory, read: Rc::default() };
    for seq in (1..last).step_by(997).chain([last - 1, last]) {
        counted.read.set(0);
        assert_eq!(show(&counted, seq).expect("reads").map(|entry| entry.seq), Some(seq));
        assert!(
            counted.read.get() < 300_000,
            "{} bytes for record {seq} of {last}",
            counted.read.get()
        );
    }
    for beyond in [last + 1, u64::MAX] {
        counted.read.set(0);
        assert_eq!(show(&counted, beyond).expect("reads"), None);
        assert!(
            counted.read.get() < 300_000,
            "{} bytes for record {beyond} of {last}",
            counted.read.get()
        );
    }
}

#[test]
fn segment_names_have_one_form() {
    assert_eq!(SegmentName::parse("000007.jsonl"), Some(SegmentName(7)));
    assert_eq!(SegmentName::parse("1000000.jsonl"), Some(SegmentName(1_000_000)));
    for name in
        ["7.jsonl", "000000.jsonl", "+00007.jsonl", "000007.jsonl.new", "x.jsonl", "0000007.jsonl"]
    {
        assert_eq!(SegmentName::parse(name), None, "{name}");
    }
}
