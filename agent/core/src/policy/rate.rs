//! Limits the rate of a client's requests: a bucket fills at the client's rate and empties by one
//! for each request that is judged. All other messages have a bucket of their own.

use std::collections::HashMap;

use super::{Client, Rate};
use crate::refusal::{Code, Refusal};

/// The rate of messages that are not judged (`keys`, `status`, `result` …). It is more than any
/// program needs, and little work for the agent.
pub const UNJUDGED: Rate = Rate { count: 200, per_ms: 1_000 };

/// The buckets of all clients. Time is an argument. A time before the last one adds nothing to a
/// bucket.
#[derive(Debug, Default)]
pub struct Rates {
    judged: Buckets,
    unjudged: Buckets,
}

#[derive(Debug, Default)]
struct Buckets(HashMap<String, Bucket>);

#[derive(Debug)]
struct Bucket {
    rate: Rate,
    /// Requests still allowed, times `rate.per_ms`, so that no fraction is lost.
    level: u64,
    seen_ms: u64,
}

impl Rates {
    /// Takes one request from the client's bucket, or refuses it.
    pub fn take(&mut self, client: &Client, now_ms: u64) -> Result<(), Refusal> {
        client.rate.map_or(Ok(()), |rate| self.judged.take(&client.name, rate, now_ms))
    }

    /// The same for a message that is not judged. Every client has a bucket for these.
    pub fn take_unjudged(&mut self, client: &Client, now_ms: u64) -> Result<(), Refusal> {
        self.unjudged.take(&client.name, UNJUDGED, now_ms)
    }
}

impl Buckets {
    fn take(&mut self, client: &str, rate: Rate, now_ms: u64) -> Result<(), Refusal> {
        if !self.0.contains_key(client) {
            self.0.insert(client.to_owned(), Bucket::full(rate, now_ms));
        }
        let bucket = self.0.get_mut(client).filter(|bucket| bucket.rate == rate);
        let allowed = match bucket {
            Some(bucket) => bucket.take(now_ms),
            None => {
                // The rate changed at a reload: start with an empty bucket, so that a reload cannot
                // be used to get around the rate.
                self.0.insert(client.to_owned(), Bucket { rate, level: 0, seen_ms: now_ms });
                false
            }
        };
        if allowed {
            return Ok(());
        }
        let message = format!("more than {} requests in {} ms", rate.count, rate.per_ms);
        Err(Refusal::new(Code::PolicyRate, message))
    }
}

impl Bucket {
    fn full(rate: Rate, now_ms: u64) -> Self {
        Self { rate, level: u64::from(rate.count) * rate.per_ms, seen_ms: now_ms }
    }

    fn take(&mut self, now_ms: u64) -> bool {
        let passed = now_ms.saturating_sub(self.seen_ms);
        self.seen_ms = self.seen_ms.max(now_ms);
        let capacity = u64::from(self.rate.count) * self.rate.per_ms;
        self.level = passed
            .saturating_mul(u64::from(self.rate.count))
            .saturating_add(self.level)
            .min(capacity);
        let Some(left) = self.level.checked_sub(self.rate.per_ms) else { return false };
        self.level = left;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(count: u32) -> Client {
        Client {
            name: "bot".to_owned(),
            uid: 1,
            keys: Default::default(),
            scopes: Default::default(),
            symbols: None,
            max_quantity: Default::default(),
            limits: Default::default(),
            rate: Some(Rate { count, per_ms: 1_000 }),
            unbound: Default::default(),
        }
    }

    #[test]
    fn a_burst_is_bounded_and_the_rate_is_kept() {
        let (mut rates, bot) = (Rates::default(), client(2));
        let take = |rates: &mut Rates, now| rates.take(&bot, now).is_ok();
        assert!(take(&mut rates, 0) && take(&mut rates, 0) && !take(&mut rates, 0));
        assert!(!take(&mut rates, 499) && take(&mut rates, 500) && !take(&mut rates, 500));
        assert!(take(&mut rates, 10_000) && take(&mut rates, 10_000) && !take(&mut rates, 10_000));
    }

    #[test]
    fn what_is_not_judged_has_a_budget_of_its_own() {
        let (mut rates, bot) = (Rates::default(), client(1));
        assert!(rates.take(&bot, 0).is_ok() && rates.take(&bot, 0).is_err());
        let taken = (0..1_000).take_while(|_| rates.take_unjudged(&bot, 0).is_ok()).count();
        assert_eq!(taken, UNJUDGED.count as usize);
        assert!(rates.take(&bot, 1_000).is_ok(), "and takes nothing from the other");
        let unlimited = Client { rate: None, ..client(1) };
        assert!(rates.take(&unlimited, 1_000).is_ok());
        assert!(
            (0..1_000).any(|_| rates.take_unjudged(&unlimited, 1_000).is_err()),
            "every client has one"
        );
    }

    #[test]
    fn a_clock_set_back_or_a_changed_rate_gives_nothing() {
        let mut rates = Rates::default();
        let bot = client(1);
        assert!(rates.take(&bot, 5_000).is_ok());
        assert!(rates.take(&bot, 0).is_err());
        assert!(rates.take(&bot, 1_000).is_err(), "time that was counted already");
        assert!(rates.take(&client(100), 5_000).is_err());
    }
}
