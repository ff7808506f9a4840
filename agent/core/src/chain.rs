//! The hash chain of the journal: each line carries the hash of the line before it.
//!
//! A line is `{"seq":…,"time_ms":…,"kind":"…",…,"prev":"…"}`; its hash is the SHA-256 of its bytes
//! without the newline.

use std::borrow::Cow;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::record::Record;
use crate::wire::RecordId;

/// Longest line a reader takes, in bytes. It is large because a segment's header carries every open
/// window.
pub const MAX_LINE: usize = 16 * 1024 * 1024;

/// SHA-256 of one line; written in lower-case hex.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash that the first line of a journal names as that of the line before it.
    pub const GENESIS: Self = Self([0; 32]);

    pub fn of(line: &[u8]) -> Self {
        Self(Sha256::digest(line).into())
    }

    pub fn parse(hex: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        (hex.len() == 64 && HEXLOWER.decode_mut(hex.as_bytes(), &mut bytes) == Ok(32))
            .then_some(Self(bytes))
    }

    fn hex(self) -> [u8; 64] {
        let mut text = [0; 64];
        HEXLOWER.encode_mut(&self.0, &mut text);
        text
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Hex digits are ASCII.
        f.write_str(std::str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'_, str>::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("a hash is 64 lower-case hex digits"))
    }
}

/// A place in the chain: a record's number and hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Link {
    pub seq: u64,
    pub hash: Hash,
}

impl From<Link> for RecordId {
    fn from(link: Link) -> Self {
        Self { seq: link.seq, hash: link.hash.to_string() }
    }
}

/// The end of a chain, where the next line goes. Records are numbered from 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Chain {
    next_seq: u64,
    last: Hash,
}

impl Chain {
    pub const GENESIS: Self = Self { next_seq: 1, last: Hash::GENESIS };

    /// The end of the chain after `link`. Nothing follows the highest number, which no agent ever
    /// writes.
    pub const fn after(link: Link) -> Self {
        Self { next_seq: link.seq.saturating_add(1), last: link.hash }
    }

    pub const fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The hash of the last line; [`Hash::GENESIS`] if there is none.
    pub const fn last_hash(&self) -> Hash {
        self.last
    }

    /// Writes the next line, newline included, to the end of `buffer`.
    ///
    /// An error leaves chain and buffer as they were.
    pub fn write(
        &mut self,
        buffer: &mut Vec<u8>,
        time_ms: u64,
        record: &Record<'_>,
    ) -> serde_json::Result<Link> {
        use std::io::Write as _;
        let start = buffer.len();
        // Writing to a vector cannot fail.
        let _ = write!(buffer, "{{\"seq\":{},\"time_ms\":{time_ms}", self.next_seq);
        let body = buffer.len();
        if let Err(error) = serde_json::to_writer(&mut *buffer, record) {
            buffer.truncate(start);
            return Err(error);
        }
        // The body is an object with at least its kind. Its braces are dropped, so that its fields
        // become part of the line.
        buffer[body] = b',';
        buffer.pop();
        buffer.extend_from_slice(b",\"prev\":\"");
        buffer.extend_from_slice(&self.last.hex());
        buffer.extend_from_slice(b"\"}");
        let link = Link { seq: self.next_seq, hash: Hash::of(&buffer[start..]) };
        buffer.push(b'\n');
        *self = Self::after(link);
        Ok(link)
    }

    /// Checks that `line` (without its newline) is the next one, and moves past it.
    pub fn check<'a>(&mut self, line: &'a [u8]) -> Result<Head<'a>, ChainError> {
        let head = Head::parse(line)?;
        if head.seq != self.next_seq {
            return Err(ChainError::Sequence { expected: self.next_seq, found: head.seq });
        }
        if head.prev != self.last {
            return Err(ChainError::Link { expected: self.last, found: head.prev });
        }
        *self = Self::after(Link { seq: head.seq, hash: Hash::of(line) });
        Ok(head)
    }
}

/// The fields that every line has, whatever its kind.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Head<'a> {
    pub seq: u64,
    pub time_ms: u64,
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    pub prev: Hash,
}

impl<'a> Head<'a> {
    /// Checks that the whole line is UTF-8 and an object. serde alone would check neither the texts
    /// of unknown fields nor the braces.
    pub fn parse(line: &'a [u8]) -> Result<Self, ChainError> {
        let not_a_record =
            |what: &dyn std::fmt::Display| ChainError::NotARecord(serde::de::Error::custom(what));
        let text = std::str::from_utf8(line).map_err(|error| not_a_record(&error))?;
        if !text.starts_with('{') {
            return Err(not_a_record(&"it does not start with {"));
        }
        serde_json::from_str(text).map_err(ChainError::NotARecord)
    }

    /// The chain as it was before this line, so that a reader can start in the middle.
    pub const fn chain_before(&self) -> Chain {
        Chain { next_seq: self.seq, last: self.prev }
    }
}

/// Why a line is not the next one of its chain.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error("it names {found} as the hash of the line before, which is {expected}")]
    Link { expected: Hash, found: Hash },
    #[error("it is not a record: {0}")]
    NotARecord(serde_json::Error),
    #[error("its number is {found}, but the next one is {expected}")]
    Sequence { expected: u64, found: u64 },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::samples;

    fn written() -> Vec<u8> {
        let (mut chain, mut buffer) = (Chain::GENESIS, Vec::new());
        for (index, record) in samples::all().iter().enumerate() {
            chain.write(&mut buffer, 1_000 + index as u64, record).expect("serialises");
        }
        buffer
    }

    #[test]
    fn what_is_written_checks_and_reads_back() {
        let (buffer, mut chain) = (written(), Chain::GENESIS);
        let lines: Vec<_> = buffer.split_inclusive(|byte| *byte == b'\n').collect();
        assert_eq!(lines.len(), samples::all().len(), "no text breaks a line in two");
        for (line, record) in lines.into_iter().zip(samples::all()) {
            let line = line.strip_suffix(b"\n").expect("ends with a newline");
            let head = chain.check(line).expect("next of its chain");
            let text = std::str::from_utf8(line).expect("UTF-8");
            assert_eq!(Record::parse(&head.kind, text).expect("parses"), Some(record));
        }
    }

    #[test]
    fn any_changed_bit_breaks_the_chain() {
        let buffer = written();
        let whole = |bytes: &[u8]| {
            let mut chain = Chain::GENESIS;
            let lines = bytes.strip_suffix(b"\n")?.split(|byte| *byte == b'\n');
            lines.into_iter().try_for_each(|line| chain.check(line).map(drop)).ok()?;
            Some(chain)
        };
        let sound = whole(&buffer);
        assert!(sound.is_some());
        for index in 0..buffer.len() {
            let mut changed = buffer.clone();
            changed[index] ^= 1;
            // A change in the last line breaks no line. It shows in the hash that the next record
            // would carry.
            assert_ne!(whole(&changed), sound, "byte {index}");
        }
    }

    #[test]
    fn a_line_is_one_object_in_utf8() {
        let fields = format!(r#"1,2,"closed","{}""#, Hash::GENESIS);
        assert!(Head::parse(format!("[{fields}]").as_bytes()).is_err());
        let object = format!(
            r#"{{"seq":1,"time_ms":2,"kind":"closed","later":"é","prev":"{}"}}"#,
            Hash::GENESIS
        );
        assert!(Head::parse(object.as_bytes()).is_ok());
        let other = object
            .as_bytes()
            .iter()
            .map(|byte| if *byte == 0xa9 { 0xff } else { *byte })
            .collect::<Vec<_>>();
        assert!(Head::parse(&other).is_err());
    }

    #[test]
    fn nothing_follows_the_highest_number() {
        assert_eq!(Chain::after(Link { seq: u64::MAX, hash: Hash::GENESIS }).next_seq(), u64::MAX);
    }

    #[test]
    fn hashes_are_64_lower_case_hex_digits() {
        let hash = Hash::of(b"x");
        assert_eq!(Hash::parse(&hash.to_string()), Some(hash));
        for text in ["", "00", &hash.to_string().to_uppercase(), &"g".repeat(64), &"0".repeat(66)] {
            assert_eq!(Hash::parse(text), None, "{text}");
        }
    }
}
