//! Gives out nonces that only grow: one series for each key, reserved ahead on the disk so that no
//! crash repeats a nonce.

use std::collections::HashMap;

use countersign_core::key::NonceUnit;
use countersign_core::record::NonceBlock;

/// A block covers this much time …
const BLOCK_SECONDS: u64 = 30;
/// … and at least this many nonces.
const BLOCK_STEPS: u64 = 10_000;

/// The series of all keys. The series of a removed key is kept: a key that is enrolled later under
/// the same name continues it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nonces {
    by_key: HashMap<String, Series>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Series {
    /// The smallest nonce that was never given out.
    next: u64,
    /// All nonces below this may be given out: a record on the disk says so.
    until: u64,
}

/// The next nonce of a key, and the block that has to be reserved on the disk before it may be
/// used.
#[derive(Debug, Eq, PartialEq)]
pub struct NextNonce<'a> {
    pub nonce: u64,
    pub reserve: Option<NonceBlock<'a>>,
}

impl Nonces {
    /// The next nonce: the time, or the last nonce plus one if that is larger. `None` at the end of
    /// the numbers.
    pub fn next<'a>(&self, key: &'a str, unit: NonceUnit, now_ms: u64) -> Option<NextNonce<'a>> {
        let per_ms = steps_per_ms(unit);
        let series = self.by_key.get(key);
        let nonce = now_ms.checked_mul(per_ms)?.max(series.map_or(0, |series| series.next));
        if series.is_some_and(|series| nonce < series.until) {
            return Some(NextNonce { nonce, reserve: None });
        }
        let until = nonce.checked_add(BLOCK_STEPS.max(BLOCK_SECONDS * 1000 * per_ms))?;
        Some(NextNonce { nonce, reserve: Some(NonceBlock { key: key.into(), until }) })
    }

    /// Takes note of a reservation that is on the disk.
    pub fn reserved(&mut self, block: &NonceBlock<'_>) {
        let fresh = Series { next: 0, until: 0 };
        let series = self.by_key.entry(block.key.clone().into_owned()).or_insert(fresh);
        series.until = series.until.max(block.until);
    }

    /// Remembers that `nonce` was given out.
    pub fn used(&mut self, key: &str, nonce: u64) {
        if let Some(series) = self.by_key.get_mut(key) {
            series.next = series.next.max(nonce + 1);
        }
    }

    /// Skips all reserved nonces when a new run starts: no record says which of them the last run
    /// used.
    pub fn skip_reserved(&mut self) {
        self.by_key.values_mut().for_each(|series| series.next = series.until);
    }

    /// All blocks, sorted by key.
    pub fn carry(&self) -> Vec<NonceBlock<'static>> {
        let block = |(key, series): (&String, &Series)| NonceBlock {
            key: key.clone().into(),
            until: series.until,
        };
        let mut blocks: Vec<_> = self.by_key.iter().map(block).collect();
        blocks.sort_by(|one, other| one.key.cmp(&other.key));
        blocks
    }

    pub fn from_carried(carried: &[NonceBlock<'_>]) -> Self {
        let mut nonces = Self::default();
        carried.iter().for_each(|block| nonces.reserved(block));
        nonces
    }
}

const fn steps_per_ms(unit: NonceUnit) -> u64 {
    match unit {
        NonceUnit::Microseconds => 1_000,
        NonceUnit::Milliseconds => 1,
        NonceUnit::Nanoseconds => 1_000_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;
    const UNITS: [NonceUnit; 3] =
        [NonceUnit::Microseconds, NonceUnit::Milliseconds, NonceUnit::Nanoseconds];

    fn give(nonces: &mut Nonces, unit: NonceUnit, now_ms: u64) -> (u64, bool) {
        let next = nonces.next("kraken", unit, now_ms).expect("numbers left");
        let reserved = next.reserve.inspect(|block| nonces.reserved(block)).is_some();
        nonces.used("kraken", next.nonce);
        (next.nonce, reserved)
    }

    #[test]
    fn grows_within_a_millisecond_and_with_a_clock_set_back() {
        for unit in UNITS {
            let (mut nonces, mut last) = (Nonces::default(), 0);
            for now_ms in [NOW, NOW, NOW, NOW + 1, NOW - 60_000, 0, NOW + 100_000, NOW] {
                let (nonce, _) = give(&mut nonces, unit, now_ms);
                assert!(nonce > last, "{unit:?} {now_ms}: {nonce} after {last}");
                last = nonce;
            }
        }
    }

    #[test]
    fn a_block_lasts_thirty_seconds_or_ten_thousand_nonces() {
        let mut nonces = Nonces::default();
        let reservations =
            (0..9_000).filter(|_| give(&mut nonces, NonceUnit::Milliseconds, NOW).1).count();
        assert_eq!(reservations, 1);
        assert!(!give(&mut nonces, NonceUnit::Milliseconds, NOW + 29_000).1);
        assert!(give(&mut nonces, NonceUnit::Milliseconds, NOW + 30_000).1);
    }

    #[test]
    fn a_new_run_starts_above_all_that_was_reserved() {
        for unit in UNITS {
            let mut nonces = Nonces::default();
            let (first, _) = give(&mut nonces, unit, NOW);
            let until = nonces.carry()[0].until;
            let mut restarted = Nonces::from_carried(&nonces.carry());
            restarted.skip_reserved();
            let (next, reserved) = give(&mut restarted, unit, NOW);
            assert!(next >= until && until > first && reserved, "{unit:?}");
        }
    }

    #[test]
    fn the_end_of_the_numbers_is_no_nonce() {
        let mut nonces = Nonces::default();
        nonces.reserved(&NonceBlock { key: "kraken".into(), until: u64::MAX });
        nonces.skip_reserved();
        assert_eq!(nonces.next("kraken", NonceUnit::Milliseconds, NOW), None);
        assert_eq!(nonces.next("other", NonceUnit::Nanoseconds, u64::MAX / 2), None);
    }
}
