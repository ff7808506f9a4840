//! Segments of a journal, as `audit` reads them. A blank line in the input begins another segment.

use std::borrow::Cow;
use std::io::{self, Cursor, Read};

use countersign_core::audit::{self, SegmentFile, SegmentName, Segments, Tail};
use countersign_core::chain::{Chain, Hash, Head};
use countersign_core::record::{
    Carried, CarriedState, Closed, Locking, Opened, Record, Refused, SegmentHeader,
};

pub fn seeds() -> Vec<Vec<u8>> {
    let mut chain = Chain::GENESIS;
    let mut segments = Vec::new();
    for name in ["000001.jsonl", "000002.jsonl"] {
        let mut bytes = Vec::new();
        for record in records(name) {
            chain.write(&mut bytes, 1_700_000_000_000, &record).expect("can be written");
        }
        segments.push(bytes);
    }
    let line = |seq: &str, kind: &str| {
        format!(r#"{{"seq":{seq},"time_ms":1,"kind":"{kind}","prev":"{}"}}"#, Hash::GENESIS)
    };
    let last = [line(&u64::MAX.to_string(), "closed"), line("1", "future")].join("\n") + "\n";
    vec![segments[0].clone(), segments.join(&b'\n'), last.into_bytes()]
}

fn records(segment: &str) -> Vec<Record<'_>> {
    let refused = Refused {
        request_id: "0192".into(),
        client: "mm-bot".into(),
        uid: 1001,
        key: Some("binance-mm".into()),
        method: None,
        path: None,
        code: "policy.scope".into(),
        message: "\"withdraw\" \u{1f4b8}\n".into(),
    };
    let opened = Opened {
        version: "0.1.0".into(),
        boot_id: "b".into(),
        pid: 7,
        carried: CarriedState::New,
        cut_bytes: 0,
    };
    vec![
        Record::Segment(Box::new(SegmentHeader {
            segment: segment.into(),
            previous: None,
            carried: Carried::default(),
        })),
        Record::Opened(opened),
        Record::Refused(refused),
        Record::Locked(Locking { uid: 0 }),
        Record::Closed(Closed {}),
    ]
}

/// Checks that every line of a journal without problems is read back byte for byte, and found by
/// its number.
pub fn check(bytes: &[u8]) {
    let memory = Memory::of(bytes);
    let report = audit::verify(&memory, None, &mut |done, all| assert!(done <= all))
        .expect("memory can be read");
    let entries = Tail::after(0).read(&memory, usize::MAX).expect("memory can be read");
    for entry in &entries {
        assert_eq!(Hash::of(entry.line.as_bytes()), entry.hash, "{}", entry.line);
        let head = Head::parse(entry.line.as_bytes()).expect("it was read before");
        assert_eq!(
            (head.seq, head.time_ms, head.kind),
            (entry.seq, entry.time_ms, Cow::from(entry.kind.as_str()))
        );
        entry.record();
    }
    assert!(entries.is_sorted_by(|one, next| one.seq < next.seq));
    Tail::after(u64::MAX).read(&memory, 1).expect("memory can be read");
    if report.problems.is_empty() {
        let lines =
            memory.0.iter().flat_map(|segment| segment.split_inclusive(|byte| *byte == b'\n'));
        let whole: Vec<_> = lines.filter_map(|line| line.strip_suffix(b"\n")).collect();
        assert!(whole.iter().copied().eq(entries.iter().map(|entry| entry.line.as_bytes())));
        assert_eq!(report.records, entries.len() as u64);
        assert_eq!(report.last_hash, entries.last().map(|entry| entry.hash));
        for entry in &entries {
            assert_eq!(
                audit::show(&memory, entry.seq).expect("memory can be read").as_ref(),
                Some(entry)
            );
        }
    }
}

struct Memory(Vec<Vec<u8>>);

impl Memory {
    fn of(bytes: &[u8]) -> Self {
        let mut segments = vec![Vec::new()];
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match segments.last_mut() {
                Some(segment) if line != b"\n" => segment.extend_from_slice(line),
                _ => segments.push(Vec::new()),
            }
        }
        segments.truncate(20);
        Self(segments)
    }

    fn names(&self) -> impl Iterator<Item = SegmentName> {
        std::iter::successors(Some(SegmentName::FIRST), |name| Some(name.next())).take(self.0.len())
    }
}

impl Segments for Memory {
    fn list(&self) -> io::Result<Vec<SegmentFile>> {
        let files = self.names().zip(&self.0);
        Ok(files.map(|(name, bytes)| SegmentFile { name, length: bytes.len() as u64 }).collect())
    }

    fn open(&self, name: SegmentName, offset: u64) -> io::Result<Box<dyn Read>> {
        let mut segments = self.names().zip(&self.0);
        let (_, bytes) =
            segments.find(|(candidate, _)| *candidate == name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Cursor::new(bytes.get(offset as usize..).unwrap_or_default().to_vec())))
    }
}
