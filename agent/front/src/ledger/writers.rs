//! Slows and then refuses the clients that write most to the journal, while its disk is nearly
//! full.
//!
//! The free space is shared out so that it lasts. A client that writes less than its share is not
//! slowed. The other clients have equal shares of the rest.

use std::collections::HashMap;
use std::time::Duration;

use super::storage::Space;

/// The shares are chosen as if the free space had to last this many seconds. It shrinks, and so do
/// the shares.
const LASTS_S: u64 = 15 * 60;
/// Bytes a second that every client may write as long as the disk is not full: a few requests.
const LEAST_SHARE: u64 = 4 * 1024;
/// A client may write its share of this many seconds at once.
const BURST_S: u64 = 2;
/// A client's rate is measured over about this many milliseconds.
const MEMORY_MS: u64 = 10_000;
/// A client that has not written for this many milliseconds is forgotten.
const FORGOTTEN_MS: u64 = 10 * MEMORY_MS;
/// Longest time that a request waits for room. It is refused then.
const LONGEST_WAIT_FOR_ROOM: Duration = Duration::from_millis(500);
/// A request waits until its client may write this many bytes: somewhat more than a usual request
/// writes.
const ROOM_TO_BEGIN: u64 = 1024;
/// Bytes of a record that follows an intent: the result, or a signature that was thrown away.
pub(super) const RESULT_BYTES: u64 = 280;
/// Bytes of the record of a usual request that is signed at once.
const USUAL_RECORD: u64 = 640;
/// Bytes of such a record beside the text of its request.
const RECORD_FRAME: u64 = 500;
/// The free space is looked at again after this many milliseconds or this many bytes.
const LOOK_AGAIN_MS: u64 = 1_000;
const LOOK_AGAIN_BYTES: u64 = 1024 * 1024;

/// Why a client may not write now.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the disk of the journal is nearly full: {free} KiB are free, {floor} KiB should be. Of late \
     this client wrote \
     {rate} KiB a second, and until there is room it may write {share} KiB a second; ask less often"
)]
pub struct Crowded {
    free: u64,
    floor: u64,
    rate: u64,
    share: u64,
}

/// The rate at which each client writes, and the share that each may write.
#[derive(Debug, Default)]
pub(super) struct Writers {
    by_client: HashMap<String, WriteAllowance>,
    /// `None` before the first look, or if the file system does not say.
    space: Option<Space>,
    looked_ms: Option<u64>,
    written: u64,
    /// Bytes a second for each client, while the disk is nearly full.
    share: Option<u64>,
}

/// Bytes that a request is counted with before it is recorded. `text` is the length of the request
/// as far as the record repeats it.
pub(super) fn expected(text: usize) -> u64 {
    USUAL_RECORD.max(text as u64 + RECORD_FRAME)
}

#[derive(Clone, Copy, Debug)]
struct WriteAllowance {
    /// Bytes written recently. They fade over [`MEMORY_MS`].
    recent: u64,
    /// Bytes that may be written now. Below 0 after a record that was longer than the rest.
    level: i64,
    seen_ms: u64,
}

impl Writers {
    pub(super) fn wants_look(&self, now_ms: u64) -> bool {
        let eighth = self.space.map_or(LOOK_AGAIN_BYTES, |space| space.floor() / 8);
        let often = self.share.unwrap_or(u64::MAX).min(eighth).min(LOOK_AGAIN_BYTES);
        self.looked_ms.is_none_or(|looked| now_ms.saturating_sub(looked) >= LOOK_AGAIN_MS)
            || self.written >= often
    }

    /// Takes note of the free space, and shares it out if it is little.
    pub(super) fn look(&mut self, space: Option<Space>, now_ms: u64) {
        (self.space, self.looked_ms, self.written) = (space, Some(now_ms), 0);
        self.by_client.retain(|_, writer| now_ms.saturating_sub(writer.seen_ms) < FORGOTTEN_MS);
        let short = space.filter(|space| space.is_below_floor());
        self.share = short.map(|space| {
            let mut rates: Vec<_> =
                self.by_client.values().map(|writer| writer.rate(now_ms)).collect();
            rates.sort_unstable();
            share(&rates, space.free / LASTS_S).max(LEAST_SHARE)
        });
    }

    /// The time that this client's next request waits for room.
    pub(super) fn wait(&mut self, client: &str, now_ms: u64) -> Duration {
        let Some(share) = self.share else { return Duration::ZERO };
        let writer = self.writer(client, now_ms, share);
        let missing = (ROOM_TO_BEGIN as i64 - writer.level).max(0) as u64;
        LONGEST_WAIT_FOR_ROOM.min(Duration::from_millis(missing * 1000 / share.max(1)))
    }

    /// Refuses a client that has used up its share.
    pub(super) fn admit(&mut self, client: &str, now_ms: u64) -> Result<(), Crowded> {
        let (Some(share), Some(space)) = (self.share, self.space) else { return Ok(()) };
        let writer = self.writer(client, now_ms, share);
        if writer.level > 0 {
            return Ok(());
        }
        let kibibytes = |bytes: u64| bytes.div_ceil(1024);
        let rate = kibibytes(writer.rate(now_ms));
        Err(Crowded {
            free: kibibytes(space.free),
            floor: kibibytes(space.floor()),
            rate,
            share: kibibytes(share),
        })
    }

    /// Counts the records of a client's request.
    pub(super) fn wrote(&mut self, client: &str, bytes: u64, now_ms: u64) {
        self.written += bytes;
        let share = self.share.unwrap_or(u64::MAX / 4 / BURST_S);
        let writer = self.writer(client, now_ms, share);
        writer.recent += bytes;
        writer.level -= bytes as i64;
    }

    /// One sentence for the operator, while clients are slowed or refused.
    pub(super) fn warning(&self, now_ms: u64) -> Option<String> {
        let (share, space) = (self.share?, self.space?);
        let most = self.by_client.iter().max_by_key(|(_, writer)| writer.rate(now_ms));
        let most = most.filter(|(_, writer)| writer.rate(now_ms) > 0).map(|(name, writer)| {
            format!(
                "; the client {name} writes most, {} KiB a second",
                writer.rate(now_ms).div_ceil(1024)
            )
        });
        Some(format!(
            "the disk of the journal has {} MiB free, less than {}: clients that write more than \
             {} KiB a second are \
             slowed and refused{}",
            space.free >> 20,
            space.floor() >> 20,
            share / 1024,
            most.unwrap_or_default()
        ))
    }

    fn writer(&mut self, client: &str, now_ms: u64, share: u64) -> &mut WriteAllowance {
        let most = share.saturating_mul(BURST_S).min(i64::MAX as u64 / 4) as i64;
        let fresh = WriteAllowance { recent: 0, level: most, seen_ms: now_ms };
        let writer = self.by_client.entry(client.to_owned()).or_insert(fresh);
        writer.pass(now_ms, share, most);
        writer
    }
}

impl WriteAllowance {
    fn pass(&mut self, now_ms: u64, share: u64, most: i64) {
        let passed = now_ms.saturating_sub(self.seen_ms);
        self.recent = self.faded(now_ms);
        let gained = (share / 1000)
            .saturating_mul(passed)
            .saturating_add(share % 1000 * passed.min(1 << 32) / 1000);
        self.level = self.level.saturating_add(gained.min(i64::MAX as u64 / 4) as i64).min(most);
        self.seen_ms = self.seen_ms.max(now_ms);
    }

    fn faded(&self, now_ms: u64) -> u64 {
        let passed = now_ms.saturating_sub(self.seen_ms);
        // T / (T + t) is close to e^(-t/T) for small steps, and goes to zero for long ones.
        (u128::from(self.recent) * u128::from(MEMORY_MS) / u128::from(MEMORY_MS + passed)) as u64
    }

    /// Bytes a second.
    fn rate(&self, now_ms: u64) -> u64 {
        self.faded(now_ms) * 1000 / MEMORY_MS
    }
}

/// The most that each client may have, so that all together get `budget` and clients that want more
/// get equal parts. `rates` must be sorted.
fn share(rates: &[u64], budget: u64) -> u64 {
    let mut left = budget;
    for (index, rate) in rates.iter().enumerate() {
        let each = left / (rates.len() - index) as u64;
        if *rate > each {
            return each;
        }
        left -= rate;
    }
    rates.last().copied().unwrap_or(0) + left
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: u64 = 1024 * 1024;
    const DISK: u64 = 16 * 1024 * MEBIBYTE;

    fn space(free: u64) -> Option<Space> {
        Some(Space { free, total: DISK })
    }

    /// Lets each client ask at its rate a second for `seconds`. Returns the number of requests of
    /// each client that were admitted in the last ten seconds.
    fn run(writers: &mut Writers, free: u64, clients: &[(&str, u64)], seconds: u64) -> Vec<u64> {
        let mut admitted = vec![0; clients.len()];
        for now_ms in 0..seconds * 1000 {
            if writers.wants_look(now_ms) {
                writers.look(space(free), now_ms);
            }
            for (index, (client, rate)) in clients.iter().enumerate() {
                let asks = (now_ms + 1) * rate / 1000 - now_ms * rate / 1000;
                for _ in 0..asks {
                    if writers.admit(client, now_ms).is_ok() {
                        writers.wrote(client, 880, now_ms);
                        admitted[index] += u64::from(now_ms >= (seconds - 10) * 1000);
                    }
                }
            }
        }
        admitted
    }

    #[test]
    fn with_room_nobody_waits_and_nobody_is_refused() {
        let mut writers = Writers::default();
        assert_eq!(
            run(&mut writers, DISK / 2, &[("flood", 20_000), ("quiet", 10)], 20),
            [200_000, 100]
        );
        assert_eq!(writers.wait("flood", 20_000), Duration::ZERO);
        assert_eq!(writers.warning(20_000), None);
    }

    #[test]
    fn those_that_write_most_have_equal_parts_and_the_others_all_they_ask_for() {
        let mut writers = Writers::default();
        let clients = [("flood", 20_000), ("quiet", 10), ("second flood", 5_000)];
        let admitted = run(&mut writers, 128 * MEBIBYTE, &clients, 60);
        assert_eq!(admitted[1], 100, "the quiet one feels nothing");
        // The free space without the part of the quiet client, in two parts, for ten of 900
        // seconds.
        let each = (128 * MEBIBYTE / 900 - 10 * 880) / 2 * 10 / 880;
        for part in [admitted[0], admitted[2]] {
            assert!(part.abs_diff(each) < each / 5, "{admitted:?}, and {each} is a part");
        }
        let refused = writers.admit("flood", 60_000).expect_err("used up").to_string();
        assert!(refused.contains("nearly full") && refused.contains("KiB a second"), "{refused}");
        let warning = writers.warning(60_000).expect("a warning");
        assert!(warning.contains("128 MiB free, less than 256"), "{warning}");
        assert!(warning.contains("flood writes most"), "{warning}");
    }

    #[test]
    fn a_request_waits_before_one_is_refused() {
        let mut writers = Writers::default();
        writers.look(space(128 * MEBIBYTE), 0);
        let mut waits = Vec::new();
        while writers.admit("flood", 0).is_ok() {
            waits.push(writers.wait("flood", 0));
            writers.wrote("flood", 880, 0);
        }
        assert_eq!(waits[0], Duration::ZERO, "a burst passes");
        let last = writers.wait("flood", 0);
        assert!(last > Duration::ZERO && last <= LONGEST_WAIT_FOR_ROOM, "{last:?}");
        let after = u64::try_from(last.as_millis()).expect("small") + 1;
        assert!(writers.admit("flood", after).is_ok(), "whoever waits that long may write");
    }

    #[test]
    fn with_hardly_any_room_every_client_may_still_ask_now_and_then() {
        let mut writers = Writers::default();
        let admitted = run(&mut writers, 1, &[("flood", 1_000), ("quiet", 2)], 30);
        assert_eq!(admitted[1], 20);
        assert!((30..=70).contains(&admitted[0]), "{admitted:?}");
    }

    #[test]
    fn shares_add_up_to_what_there_is() {
        for (rates, budget, each) in [
            (&[][..], 100, 100),
            (&[200], 100, 100),
            (&[10, 200], 100, 90),
            (&[10, 60, 70], 100, 45),
            (&[1, 2], 9, 8),
        ] {
            assert_eq!(share(rates, budget), each, "{rates:?} of {budget}");
        }
    }
}
