//! The parts of a decision on a Binance order, in a loop, without a token or a journal.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::time::Instant;

use countersign_core::algorithm::Algorithm;
use countersign_core::decimal::Amount;
use countersign_core::exchange::classify::{Classified, check_managed, classify};
use countersign_core::exchange::{self, Exchange, Stamp};
use countersign_core::key::{Environment, Key, KeyName, NonceUnit, Tier};
use countersign_core::policy::{Client, Decision, Policy, RECEIVE_WINDOW_CAP_MS, Release, SpendLimit};
use countersign_core::scope::Scope;
use countersign_core::wire::SignRequest;
use serde::Serialize;

use crate::agent::ORDER;

/// One step, with few keys and with many.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) ns: f64,
    pub(crate) ns_with_1000_keys: f64,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:34} {:8.0} ns  {:8.0} ns with 1,000 keys", self.name, self.ns, self.ns_with_1000_keys)
    }
}

/// False where the order was refused.
type Work = fn(&Order) -> bool;

pub(crate) fn measure() -> Vec<Step> {
    let steps: [(&str, Work); 5] = [
        ("parse", |order| order.parse().is_some()),
        ("classify", |order| order.classify().is_some()),
        ("decide", Order::decide),
        ("draft", Order::draft),
        ("parse + classify + decide + draft", |order| {
            order.parse().is_some() && order.classify().is_some() && order.decide() && order.draft()
        }),
    ];
    let (few, many) = (Order::new(1), Order::new(1000));
    let measured = steps.iter().map(|(name, step)| Step {
        name,
        ns: nanoseconds(|| step(&few)),
        ns_with_1000_keys: nanoseconds(|| step(&many)),
    });
    measured.collect()
}

/// The fastest of many short loops: what is left when nothing disturbs.
fn nanoseconds(mut step: impl FnMut() -> bool) -> f64 {
    const LOOP: u32 = 500;
    let one_loop = |_| {
        let start = Instant::now();
        for _ in 0..LOOP {
            assert!(black_box(step()), "an order that is not signed was measured");
        }
        start.elapsed().as_nanos() as f64 / f64::from(LOOP)
    };
    (0..100).map(one_loop).fold(f64::INFINITY, f64::min)
}

struct Order {
    payload: Vec<u8>,
    asked: Option<SignRequest>,
    classified: Option<Classified>,
    exchange: &'static dyn Exchange,
    key: Key,
    client: Client,
    policy: Policy,
}

impl Order {
    fn new(keys: usize) -> Self {
        let name = |number| KeyName::parse(&format!("key-{number}")).ok();
        let names: BTreeSet<KeyName> = (0..keys).filter_map(name).collect();
        let amount = |text| Amount::parse(text).ok();
        let limit = SpendLimit { per_request: amount("5000"), per_day: amount("1000000") };
        let client = Client {
            name: "bot".to_owned(),
            uid: 1000,
            keys: names.clone(),
            scopes: [Scope::Read, Scope::Trade].into_iter().collect(),
            symbols: Some(["BTCUSDT".to_owned()].into()),
            max_quantity: amount("0.5").map(|most| ("BTCUSDT".to_owned(), most)).into_iter().collect(),
            limits: BTreeMap::from([("USDT".to_owned(), limit)]),
            rate: None,
            unbound: Release::Signature,
        };
        // One name at least, and the exchange is one of the list.
        #[allow(clippy::unwrap_used)]
        let (exchange, name) = (exchange::named("binance").unwrap(), names.first().cloned().unwrap());
        let key = Key {
            name,
            exchange: "binance",
            environment: Environment::Production,
            algorithm: Algorithm::HmacSha256,
            api_key: "k".repeat(64),
            scopes: [Scope::Read, Scope::Trade].into_iter().collect(),
            tier: Tier::Software,
            token: "hsm".to_owned(),
            nonce_unit: NonceUnit::Milliseconds,
        };
        let payload = ORDER.replace("KEY", "key-0").into_bytes();
        let mut order =
            Self { payload, asked: None, classified: None, exchange, key, client, policy: Policy::default() };
        order.asked = order.parse();
        order.classified = order.classify();
        order
    }

    fn parse(&self) -> Option<SignRequest> {
        let asked = SignRequest::parse(black_box(&self.payload)).ok()?;
        self.client.keys.contains(asked.key.as_str()).then_some(asked)
    }

    fn classify(&self) -> Option<Classified> {
        let asked = black_box(self.asked.as_ref()?);
        check_managed(self.exchange, &asked.request.params, RECEIVE_WINDOW_CAP_MS).ok()?;
        classify(self.exchange, &asked.request).ok()
    }

    fn decide(&self) -> bool {
        let Some(classified) = black_box(self.classified.as_ref()) else { return false };
        let verdict = self.policy.decide(&self.client, &self.key, self.exchange, classified);
        matches!(black_box(verdict).decision, Decision::Allow { .. })
    }

    fn draft(&self) -> bool {
        let Some(asked) = black_box(self.asked.as_ref()) else { return false };
        let stamp = Stamp { now_ms: 1_700_000_000_000, nonce: 0, random: [7; 16], receive_window_ms: Some(5000) };
        let Ok(host) = self.exchange.host(&asked.request, self.key.environment) else { return false };
        black_box(self.exchange.draft(&asked.request, &self.key, host, &stamp)).is_ok()
    }
}
