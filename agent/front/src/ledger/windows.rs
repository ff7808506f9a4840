//! Counts spend limits over the last 24 hours, so that neither a crash nor a clock frees any part
//! of a limit.
//!
//! A window counts in buckets of ten minutes. A bucket is dropped when even its newest spend is 24
//! hours old. Before a spend is counted, a block that covers it is reserved on the disk; the unused
//! rest of the blocks is the `headroom`. A power cut may lose the last intents, so after one the
//! headroom counts as spent.
//!
//! A spend whose record comes only with its signature is held until then: in memory it takes up the
//! limit and the headroom, and no segment carries it.

use std::collections::{BTreeMap, VecDeque};

use countersign_base::config::LONGEST_APPROVAL_S;
use countersign_core::calendar::DAY_MS;
use countersign_core::decimal::Amount;
use countersign_core::policy::Spend;
use countersign_core::policy::limits::TRANSFERS;
use countersign_core::record::{CarriedWindow, WindowBlock};

const BUCKET_MS: u64 = 10 * 60 * 1000;
/// A block is the cap divided by this: one sync for each twentieth of a day's limit.
const BLOCKS_PER_CAP: u32 = 20;

/// An amount that is given back was counted at most this long before: the longest time for an
/// approval, and the time that it takes to end.
const GIVEN_BACK_WITHIN_MS: u64 = LONGEST_APPROVAL_S as u64 * 1000 + BUCKET_MS;

/// Why a spend was not admitted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WindowError {
    #[error(
        "{window}: {asked} more would pass the limit of {cap} in 24 hours, of which {used} is used"
    )]
    Limit { window: String, cap: Amount, used: Amount, asked: Amount },
    #[error("{window}: {asked} cannot be added exactly to the {used} used")]
    Inexact { window: String, used: Amount, asked: Amount },
}

impl WindowError {
    /// The message for a client. A window of transfers is shared by all clients, so its message
    /// leaves out the amounts that other clients moved.
    pub fn for_a_client(&self) -> String {
        match self {
            Self::Limit { window, cap, asked, .. } if window.starts_with(TRANSFERS) => {
                format!("{window}: {asked} more would pass the limit of {cap} in 24 hours")
            }
            Self::Inexact { window, asked, .. } if window.starts_with(TRANSFERS) => {
                format!("{window}: {asked} cannot be added exactly to the amount that is used")
            }
            own => own.to_string(),
        }
    }
}

/// All windows, by name. The caller gives the time, and it must not go back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Windows {
    by_name: BTreeMap<String, LimitWindow>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct LimitWindow {
    /// Start of each bucket and the amount spent in it, oldest first.
    buckets: VecDeque<(u64, Amount)>,
    /// The sum of the buckets.
    spent: Amount,
    headroom: Amount,
    /// Amounts that were admitted and that no record counts yet. The headroom covers them, and
    /// stays exact in whatever order records count them.
    held: Vec<Amount>,
    /// The sum of the amounts held.
    held_sum: Amount,
}

impl Windows {
    /// The amount of a window that is used.
    pub fn used(&self, now_ms: u64, window: &str) -> Amount {
        let window = self.by_name.get(window);
        window.map_or(Amount::ZERO, |window| add(window.used(now_ms), window.held_sum))
    }

    /// Admits all of `spends` or none. Returns the blocks that have to be reserved before the
    /// spends are counted.
    pub fn admit(&self, now_ms: u64, spends: &[Spend]) -> Result<Vec<WindowBlock>, WindowError> {
        let (mut blocks, unused) = (Vec::new(), LimitWindow::default());
        for (index, spend) in spends.iter().enumerate() {
            if spends[..index].iter().any(|earlier| earlier.window == spend.window) {
                continue;
            }
            let same = || spends.iter().filter(|other| other.window == spend.window);
            let used = self.used(now_ms, &spend.window);
            let asked = same().try_fold(Amount::ZERO, |sum, other| sum.checked_add(other.amount));
            let cap = same().map(|other| other.cap).min().unwrap_or(spend.cap);
            let total = asked.and_then(|asked| used.checked_add(asked));
            let inexact =
                || WindowError::Inexact { window: spend.window.clone(), used, asked: spend.amount };
            let (Some(asked), Some(total)) = (asked, total) else { return Err(inexact()) };
            if total > cap {
                return Err(WindowError::Limit { window: spend.window.clone(), cap, used, asked });
            }
            let window = self.by_name.get(&spend.window).unwrap_or(&unused);
            let amount = blocks_for(window.free_headroom(), asked, used, cap)
                .into_iter()
                .find(|block| window.stays_exact(*block, same().map(|other| other.amount)))
                .ok_or_else(inexact)?;
            if !amount.is_zero() {
                blocks.push(WindowBlock { window: spend.window.clone(), amount });
            }
        }
        Ok(blocks)
    }

    /// Takes note of a reservation that is on the disk.
    pub fn reserved(&mut self, block: &WindowBlock) {
        let window = self.by_name.entry(block.window.clone()).or_default();
        window.headroom = add(window.headroom, block.amount);
    }

    /// Holds spends that were admitted and reserved for, until [`Self::release`].
    pub fn hold(&mut self, spends: &[Spend]) {
        for spend in spends {
            if let Some(window) = self.by_name.get_mut(&spend.window) {
                window.held.push(spend.amount);
                window.held_sum = add(window.held_sum, spend.amount);
            }
        }
    }

    /// Ends the hold of spends: a record counts them now, or nobody spent them.
    pub fn release(&mut self, spends: &[Spend]) {
        for spend in spends {
            if let Some(window) = self.by_name.get_mut(&spend.window) {
                window.release(spend.amount);
            }
        }
    }

    /// Counts one spend of a recorded intent.
    pub fn count(&mut self, now_ms: u64, window: &str, amount: Amount) {
        match self.by_name.get_mut(window) {
            Some(window) => window.count(now_ms, amount),
            None => self.by_name.entry(window.to_owned()).or_default().count(now_ms, amount),
        }
    }

    /// Frees one spend that was counted and did not happen.
    pub fn give_back(&mut self, now_ms: u64, window: &str, amount: Amount) {
        if let Some(window) = self.by_name.get_mut(window) {
            window.give_back(now_ms, amount);
        }
    }

    /// Counts the headroom as spent after the machine stopped: lost intents may have spent it.
    pub fn spend_reserved(&mut self, now_ms: u64) {
        for window in self.by_name.values_mut() {
            let headroom = std::mem::take(&mut window.headroom);
            window.spend(now_ms, headroom);
        }
    }

    /// Frees the headroom after the agent stopped in order: no intent is lost.
    pub fn release_reserved(&mut self) {
        self.by_name.values_mut().for_each(|window| window.headroom = Amount::ZERO);
    }

    /// Drops all buckets and windows that are too old to count.
    pub fn expire(&mut self, now_ms: u64) {
        self.by_name.retain(|_, window| {
            window.expire(now_ms);
            !window.buckets.is_empty() || !window.headroom.is_zero()
        });
    }

    /// The open windows, sorted by name.
    pub fn carry(&self) -> Vec<CarriedWindow> {
        let carried = |(name, window): (&String, &LimitWindow)| CarriedWindow {
            window: name.clone(),
            headroom: window.headroom,
            buckets: window.buckets.iter().copied().collect(),
        };
        self.by_name.iter().map(carried).collect()
    }

    pub fn from_carried(carried: Vec<CarriedWindow>) -> Self {
        let window = |carried: CarriedWindow| {
            let spent = carried.buckets.iter().fold(Amount::ZERO, |sum, bucket| add(sum, bucket.1));
            (
                carried.window,
                LimitWindow {
                    buckets: carried.buckets.into(),
                    spent,
                    headroom: carried.headroom,
                    ..LimitWindow::default()
                },
            )
        };
        Self { by_name: carried.into_iter().map(window).collect() }
    }
}

impl LimitWindow {
    fn count(&mut self, now_ms: u64, amount: Amount) {
        self.headroom = self.headroom.checked_sub(amount).unwrap_or(Amount::ZERO);
        self.spend(now_ms, amount);
    }

    fn release(&mut self, amount: Amount) {
        if let Some(index) = self.held.iter().position(|held| *held == amount) {
            self.held.swap_remove(index);
            let rest = || self.held.iter().copied().fold(Amount::ZERO, add);
            self.held_sum = self.held_sum.checked_sub(amount).unwrap_or_else(rest);
        }
    }

    fn free_headroom(&self) -> Amount {
        self.headroom.checked_sub(self.held_sum).unwrap_or(Amount::ZERO)
    }

    /// True if the headroom, with `block` more, loses no digit in whatever order records count the
    /// spends that are held and those that are `asked`. It is enough that each of them can be
    /// subtracted from the whole: of several, the one with the most digits after the point needs
    /// the most room, and the rest only makes the number smaller.
    fn stays_exact(&self, block: Amount, mut asked: impl Iterator<Item = Amount>) -> bool {
        let Some(headroom) = self.headroom.checked_add(block) else { return false };
        let exact = |amount| headroom.checked_sub(amount).is_some();
        // Without a new block, the amounts held were judged when they were admitted.
        asked.all(exact) && (block.is_zero() || self.held.iter().copied().all(exact))
    }

    fn used(&self, now_ms: u64) -> Amount {
        if self.buckets.front().is_none_or(|oldest| is_open(oldest.0, now_ms)) {
            return self.spent;
        }
        let open = self.buckets.iter().filter(|bucket| is_open(bucket.0, now_ms));
        open.fold(Amount::ZERO, |sum, bucket| add(sum, bucket.1))
    }

    fn spend(&mut self, now_ms: u64, amount: Amount) {
        self.expire(now_ms);
        let start = now_ms - now_ms % BUCKET_MS;
        match self.buckets.back_mut() {
            _ if amount.is_zero() => {}
            Some(newest) if newest.0 >= start => newest.1 = add(newest.1, amount),
            _ => self.buckets.push_back((start, amount)),
        }
        self.spent = add(self.spent, amount);
    }

    /// Takes the amount from the oldest buckets in which it can have been counted. So later spends
    /// of others are not freed before their time.
    fn give_back(&mut self, now_ms: u64, amount: Amount) {
        self.expire(now_ms);
        let mut left = amount;
        let since = now_ms.saturating_sub(GIVEN_BACK_WITHIN_MS + BUCKET_MS);
        for (_, counted) in self.buckets.iter_mut().filter(|bucket| bucket.0 >= since) {
            let part = left.min(*counted);
            *counted = counted.checked_sub(part).unwrap_or(*counted);
            left = left.checked_sub(part).unwrap_or(Amount::ZERO);
        }
        self.buckets.retain(|(_, counted)| !counted.is_zero());
        self.spent = self.buckets.iter().fold(Amount::ZERO, |sum, bucket| add(sum, bucket.1));
    }

    fn expire(&mut self, now_ms: u64) {
        let spent = self.used(now_ms);
        while self.buckets.front().is_some_and(|bucket| !is_open(bucket.0, now_ms)) {
            self.buckets.pop_front();
        }
        self.spent = spent;
    }
}

const fn is_open(bucket_start: u64, now_ms: u64) -> bool {
    now_ms < bucket_start.saturating_add(BUCKET_MS + DAY_MS)
}

/// The amounts to reserve so that `asked` is covered, the better one first: a twentieth of the cap,
/// but never beyond the cap and never less than is missing; or exactly the missing amount, which
/// loses fewer digits. Both are zero if nothing is missing.
fn blocks_for(headroom: Amount, asked: Amount, used: Amount, cap: Amount) -> [Amount; 2] {
    if asked <= headroom {
        return [Amount::ZERO; 2];
    }
    let missing = asked.checked_sub(headroom).unwrap_or(asked);
    let free = cap.checked_sub(used).and_then(|free| free.checked_sub(headroom)).unwrap_or(missing);
    let usual = cap.fraction_up(BLOCKS_PER_CAP).unwrap_or(missing);
    [usual.min(free).max(missing), missing]
}

/// A sum that is never smaller than either part. Admitted spends add up exactly, and an amount that
/// is uncertain after a power cut is rounded up.
fn add(one: Amount, other: Amount) -> Amount {
    one.checked_add(other).unwrap_or(Amount::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR_MS: u64 = 60 * 60 * 1000;
    /// 2023-11-14 22:00 UTC: two hours before a day boundary.
    const EVENING: u64 = 1_699_999_200_000;

    fn amount(text: &str) -> Amount {
        Amount::parse(text).expect(text)
    }

    fn spend(window: &str, asked: &str, cap: &str) -> Spend {
        Spend { window: window.to_owned(), amount: amount(asked), cap: amount(cap) }
    }

    /// Admits, reserves and counts, as the ledger does.
    fn take(windows: &mut Windows, now_ms: u64, spends: &[Spend]) -> Result<(), WindowError> {
        for block in windows.admit(now_ms, spends)? {
            windows.reserved(&block);
        }
        for spend in spends {
            windows.count(now_ms, &spend.window, spend.amount);
        }
        Ok(())
    }

    #[test]
    fn twice_half_the_cap_passes_and_one_more_does_not() {
        let mut windows = Windows::default();
        for _ in 0..2 {
            take(&mut windows, EVENING, &[spend("w", "100", "200")]).expect("within the cap");
        }
        let refused = take(&mut windows, EVENING, &[spend("w", "0.00000001", "200")]);
        let (cap, used, asked) = (amount("200"), amount("200"), amount("0.00000001"));
        assert_eq!(refused, Err(WindowError::Limit { window: "w".to_owned(), cap, used, asked }));
    }

    #[test]
    fn one_request_with_two_spends_of_one_window_is_judged_by_their_sum() {
        let mut windows = Windows::default();
        let twice = [spend("w", "60", "100"), spend("w", "60", "100")];
        assert!(take(&mut windows, EVENING, &twice).is_err());
        assert_eq!(windows.used(EVENING, "w"), Amount::ZERO);
    }

    #[test]
    fn all_or_nothing() {
        let mut windows = Windows::default();
        let both = [spend("fits", "1", "100"), spend("full", "101", "100")];
        assert!(take(&mut windows, EVENING, &both).is_err());
        assert_eq!(windows, Windows::default());
    }

    #[test]
    fn midnight_frees_nothing_and_a_whole_day_does() {
        let mut windows = Windows::default();
        take(&mut windows, EVENING, &[spend("w", "100", "100")]).expect("fits");
        for hours in [1, 2, 3, 23, 24] {
            assert_eq!(
                windows.used(EVENING + hours * HOUR_MS, "w"),
                amount("100"),
                "after {hours} hours"
            );
        }
        assert_eq!(windows.used(EVENING + 24 * HOUR_MS + BUCKET_MS, "w"), Amount::ZERO);
    }

    #[test]
    fn what_is_given_back_frees_nothing_of_what_was_spent_since() {
        let (mut windows, minute) = (Windows::default(), 60 * 1000);
        take(&mut windows, EVENING, &[spend("w", "1", "2")]).expect("fits, and waits for a person");
        take(&mut windows, EVENING + 55 * minute, &[spend("w", "1", "2")])
            .expect("fits, and is signed");
        windows.give_back(EVENING + 60 * minute, "w", amount("1"));
        for minutes in [60, 24 * 60 + 30, 24 * 60 + 54] {
            assert_eq!(
                windows.used(EVENING + minutes * minute, "w"),
                amount("1"),
                "after {minutes} minutes"
            );
        }
        assert_eq!(windows.used(EVENING + (25 * 60 + 10) * minute, "w"), Amount::ZERO);
    }

    #[test]
    fn no_client_is_told_what_others_moved() {
        let mut windows = Windows::default();
        for (window, told) in [("transfer/BTC", false), ("client/bot/USDT", true)] {
            take(&mut windows, EVENING, &[spend(window, "77", "100")]).expect("fits");
            let refused =
                take(&mut windows, EVENING, &[spend(window, "50", "100")]).expect_err("too much");
            assert_eq!(refused.for_a_client().contains("77"), told, "{window}");
        }
    }

    #[test]
    fn blocks_are_a_twentieth_and_stay_below_the_cap() {
        let cases = [
            // headroom, asked, used, cap → usual block, missing amount
            ("0", "1", "0", "200", ["11", "1"]),
            ("5", "1", "0", "200", ["0", "0"]),
            ("5", "6", "0", "200", ["11", "1"]),
            ("0", "150", "0", "200", ["150", "150"]),
            ("0", "1", "195", "200", ["5", "1"]),
            ("4", "5", "195", "200", ["1", "1"]),
            ("0", "0", "0", "200", ["0", "0"]),
            // The difference would have 29 digits.
            ("0.0000000000000000000000001", "10000", "0", "400000", ["10000", "10000"]),
        ];
        for (headroom, asked, used, cap, expected) in cases {
            let blocks = blocks_for(amount(headroom), amount(asked), amount(used), amount(cap));
            assert_eq!(blocks, expected.map(amount), "{headroom} {asked} {used} {cap}");
        }
    }

    #[test]
    fn a_power_cut_spends_what_was_reserved_and_a_close_frees_it() {
        let mut windows = Windows::default();
        take(&mut windows, EVENING, &[spend("w", "1", "200")]).expect("fits");
        let mut closed = windows.clone();
        windows.spend_reserved(EVENING + HOUR_MS);
        assert_eq!(windows.used(EVENING + HOUR_MS, "w"), amount("11"));
        closed.release_reserved();
        assert_eq!(closed.used(EVENING, "w"), amount("1"));
    }

    #[test]
    fn held_spends_take_up_limit_and_headroom_until_a_record_counts_them() {
        let mut windows = Windows::default();
        take(&mut windows, EVENING, &[spend("w", "1", "20")]).expect("fits");
        let held = [spend("w", "12", "20")];
        for block in windows.admit(EVENING, &held).expect("fits") {
            windows.reserved(&block);
        }
        let carried = windows.carry();
        windows.hold(&held);
        assert_eq!((windows.used(EVENING, "w"), windows.carry()), (amount("13"), carried));
        assert!(windows.admit(EVENING, &[spend("w", "7.5", "20")]).is_err());
        let blocks = windows.admit(EVENING, &[spend("w", "7", "20")]).expect("fits");
        assert_eq!(blocks, [WindowBlock { window: "w".to_owned(), amount: amount("7") }]);
        windows.release(&held);
        assert_eq!(windows.used(EVENING, "w"), amount("1"));
        windows.count(EVENING, "w", amount("12"));
        assert_eq!(windows.used(EVENING, "w"), amount("13"));
    }

    /// Admits, reserves and holds, as the ledger does for a request that is signed at once.
    fn begin(windows: &mut Windows, spends: &[Spend]) -> Result<(), WindowError> {
        for block in windows.admit(EVENING, spends)? {
            windows.reserved(&block);
        }
        windows.hold(spends);
        Ok(())
    }

    fn end(windows: &mut Windows, spends: &[Spend]) {
        windows.release(spends);
        for spend in spends {
            windows.count(EVENING, &spend.window, spend.amount);
        }
    }

    const LAST_DIGIT: &str = "0.0000000000000000000000001";

    #[test]
    fn a_spend_that_would_make_the_headroom_inexact_is_refused() {
        let [large, tiny] = ["900", LAST_DIGIT].map(|asked| [spend("w", asked, "200000")]);
        let mut windows = Windows::default();
        begin(&mut windows, &large).expect("fits");
        assert_eq!(windows.by_name["w"].headroom, amount("10001"));
        let refused = begin(&mut windows, &tiny);
        assert!(matches!(refused, Err(WindowError::Inexact { .. })), "{refused:?}");
    }

    /// The headroom stays exact, so it never falls below the amounts held.
    #[test]
    fn the_headroom_covers_what_is_held_in_whatever_order_requests_end() {
        let nines = format!("0.{}", "9".repeat(25));
        let cases: [(&[&str], &str); 6] = [
            (&[LAST_DIGIT, "900"], "200000"),
            (&[LAST_DIGIT, "900"], "1600000"),
            (&[&nines, LAST_DIGIT, "900"], "200000"),
            // Decimal gives up zeros at the end of the sum, and with them the last digit's place.
            (&[&nines, LAST_DIGIT, "8000"], "200000"),
            (&["900.5", "3", "20"], "200000"),
            (&["1"; 9], "20"),
        ];
        for (asked, cap) in cases {
            for turn in 0..asked.len() {
                let mut windows = Windows::default();
                let begun = asked.iter().map(|asked| [spend("w", asked, cap)]);
                let mut begun: Vec<_> =
                    begun.filter(|spends| begin(&mut windows, spends).is_ok()).collect();
                assert!(begun.len() >= 2, "{asked:?}");
                let turn = turn % begun.len();
                begun.rotate_left(turn);
                for ended in &begun {
                    let before = windows.by_name["w"].headroom;
                    end(&mut windows, ended);
                    let window = &windows.by_name["w"];
                    let left = before.checked_sub(ended[0].amount);
                    assert_eq!(left, Some(window.headroom), "{asked:?}, {cap}, {turn}: {before}");
                    assert!(window.headroom >= window.held_sum, "{asked:?}, {turn}: {window:?}");
                }
                assert_eq!(windows.by_name["w"].held_sum, Amount::ZERO);
            }
        }
    }

    #[test]
    fn a_block_that_would_lose_digits_is_as_small_as_it_can_be() {
        let windows = Windows::default();
        let blocks = windows.admit(EVENING, &[spend("w", LAST_DIGIT, "200000")]).expect("fits");
        assert_eq!(blocks, [WindowBlock { window: "w".to_owned(), amount: amount(LAST_DIGIT) }]);
    }

    #[test]
    fn carried_windows_are_the_same_windows() {
        let mut windows = Windows::default();
        for hour in 0..30 {
            take(
                &mut windows,
                EVENING + hour * HOUR_MS,
                &[spend("w", "0.1", "200"), spend("v", "3", "100")],
            )
            .expect("fits");
        }
        assert_eq!(Windows::from_carried(windows.carry()), windows);
        windows.release_reserved();
        windows.expire(EVENING + 60 * HOUR_MS);
        assert_eq!(windows, Windows::default());
    }

    proptest! {
        /// Compares the windows with a list of all spends. No 24 hours may hold more than the cap.
        /// A spend must not be refused if the cap would hold even for 24 hours and one bucket.
        #[test]
        fn agrees_with_a_naive_model(
            steps in prop::collection::vec((0u64..3 * HOUR_MS, 1u64..400), 1..200),
        ) {
            let (mut windows, mut spent, mut now) = (Windows::default(), Vec::new(), EVENING);
            for (pause, tenths) in steps {
                now += pause;
                let asked = format!("{}.{}", tenths / 10, tenths % 10);
                let since = |age: u64| {
                    spent
                        .iter()
                        .filter(|(at, _)| now - at < age)
                        .map(|(_, tenths)| tenths)
                        .sum::<u64>()
                };
                let (least, most) = (since(DAY_MS), since(DAY_MS + BUCKET_MS));
                let admitted = take(&mut windows, now, &[spend("w", &asked, "100")]).is_ok();
                prop_assert!(
                    !admitted || least + tenths <= 1000,
                    "{least} + {tenths} was admitted"
                );
                prop_assert!(admitted || most + tenths > 1000, "{most} + {tenths} was refused");
                if admitted {
                    spent.push((now, tenths));
                }
                windows.expire(now);
                let window = windows.by_name.get("w").cloned().unwrap_or_default();
                let sum =
                    window.buckets.iter().fold(Amount::ZERO, |sum, bucket| add(sum, bucket.1));
                prop_assert_eq!(window.spent, sum);
                prop_assert!(window.buckets.len() <= 146);
            }
        }
    }
}
