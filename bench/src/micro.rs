//! Measures the parts of a decision on a Binance order in a loop, without a token or a journal.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::sync::LazyLock;
use std::time::Instant;

use countersign_core::algorithm::Algorithm;
use countersign_core::chain::Chain;
use countersign_core::decimal::Amount;
use countersign_core::draft::Draft;
use countersign_core::exchange::binance::Binance;
use countersign_core::exchange::classify::{Classified, check_managed, classify};
use countersign_core::exchange::order;
use countersign_core::exchange::table::Table;
use countersign_core::exchange::{self, Exchange, Facts};
use countersign_core::key::{Environment, Key, KeyName, NonceUnit, Tier};
use countersign_core::policy::{
    Client, Decision, Policy, RECEIVE_WINDOW_CAP_MS, Release, SpendLimit,
};
use countersign_core::record::{self, Record, SignedAtOnce};
use countersign_core::refusal::Refusal;
use countersign_core::request::Request;
use countersign_core::scope::Scope;
use countersign_core::stamp::Stamp;
use countersign_core::wire::{RecordId, SignReply, SignRequest};
use serde::Serialize;

use crate::agent::ORDER;

/// The times of one step: as it is, with many keys, and with a table of one row.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) ns: f64,
    pub(crate) ns_with_1000_keys: f64,
    pub(crate) ns_with_1_row: f64,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, ns, ns_with_1000_keys, ns_with_1_row } = self;
        write!(f, "{name:34} {ns:8.0} ns  {ns_with_1000_keys:8.0} ns with 1,000 keys  ")?;
        write!(f, "{ns_with_1_row:8.0} ns with a table of one row")
    }
}

/// Does one step; false if the order was refused.
type Work<'a> = fn(&Order, &SignRequest, &Classified<'_>) -> bool;

pub(crate) fn measure() -> Vec<Step> {
    let steps: [(&str, Work<'_>); 7] = [
        ("signed request as a line", Order::record),
        ("draft + finish + reply as JSON", Order::reply),
        ("parse", |order, _, _| order.parse().is_some()),
        ("classify", |order, asked, _| order.classify(asked).is_some()),
        ("decide", |order, _, classified| order.decide(classified)),
        ("draft", |order, asked, _| order.draft(asked)),
        ("parse + classify + decide + draft", |order, _, _| order.all()),
    ];
    // Binance is in the list of exchanges.
    #[allow(clippy::unwrap_used)]
    let binance = exchange::named("binance").unwrap();
    let subjects = [Order::new(1, binance), Order::new(1000, binance), Order::new(1, &OneRow)];
    let measured = steps.iter().map(|(name, step)| {
        let [ns, ns_with_1000_keys, ns_with_1_row] =
            subjects.each_ref().map(|order| order.measure(*step));
        Step { name, ns, ns_with_1000_keys, ns_with_1_row }
    });
    measured.collect()
}

/// Milliseconds that the tables of all exchanges take at their first use, in a process that has not
/// used any of them before.
pub(crate) fn tables_ms() -> f64 {
    let start = Instant::now();
    for exchange in exchange::ALL {
        black_box(exchange.table());
    }
    start.elapsed().as_secs_f64() * 1e3
}

/// Nanoseconds of one step in the fastest of many short loops, which is the least disturbed one.
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

const REQUEST_ID: &str = "01920000-0000-7000-8000-000000000000";
const HASH: &str = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";

struct Order {
    payload: Vec<u8>,
    exchange: &'static dyn Exchange,
    key: Key,
    client: Client,
    policy: Policy,
}

impl Order {
    fn new(keys: usize, exchange: &'static dyn Exchange) -> Self {
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
            max_quantity: amount("0.5")
                .map(|most| ("BTCUSDT".to_owned(), most))
                .into_iter()
                .collect(),
            limits: BTreeMap::from([("USDT".to_owned(), limit)]),
            rate: None,
            unbound: Release::Signature,
        };
        // There is at least one name.
        #[allow(clippy::unwrap_used)]
        let name = names.first().cloned().unwrap();
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
            in_vault: false,
        };
        let payload = ORDER.replace("KEY", "key-0").into_bytes();
        Self { payload, exchange, key, client, policy: Policy::default() }
    }

    /// Nanoseconds of one step.
    fn measure(&self, step: Work<'_>) -> f64 {
        let Some(asked) = self.parse() else { return f64::NAN };
        let Some(classified) = self.classify(&asked) else { return f64::NAN };
        nanoseconds(|| step(self, black_box(&asked), black_box(&classified)))
    }

    fn parse(&self) -> Option<SignRequest> {
        let asked = SignRequest::parse(black_box(&self.payload)).ok()?;
        self.client.keys.contains(asked.key.as_str()).then_some(asked)
    }

    fn classify<'a>(&self, asked: &'a SignRequest) -> Option<Classified<'a>> {
        check_managed(self.exchange, &asked.request.params, RECEIVE_WINDOW_CAP_MS).ok()?;
        classify(self.exchange, self.key.algorithm, &asked.request).ok()
    }

    fn decide(&self, classified: &Classified<'_>) -> bool {
        let decision = self.policy.decide(&self.client, &self.key, self.exchange, classified);
        matches!(black_box(decision), Decision::Allow { .. })
    }

    fn draft(&self, asked: &SignRequest) -> bool {
        black_box(self.drafted(asked)).is_some()
    }

    fn drafted(&self, asked: &SignRequest) -> Option<Draft> {
        let stamp = Stamp {
            now_ms: 1_700_000_000_000,
            nonce: 0,
            random: [7; 16],
            receive_window_ms: Some(5000),
        };
        let host = self.exchange.host(&asked.request, self.key.environment).ok()?;
        self.exchange.draft(&asked.request, &self.key, host, &stamp).ok()
    }

    /// Writes the line of the journal, hashes included.
    fn record(&self, asked: &SignRequest, classified: &Classified<'_>) -> bool {
        let request = &asked.request;
        let intent = record::Intent {
            request_id: REQUEST_ID.into(),
            client: self.client.name.as_str().into(),
            uid: self.client.uid,
            key: self.key.name.as_str().into(),
            exchange: self.key.exchange.into(),
            method: request.method.name().into(),
            path: request.path.as_str().into(),
            host: None,
            scope: classified.scope,
            effective_scopes: classified.effective,
            params: Some(request.params.value().to_json().into()),
            params_sha256: None,
            reason: None,
            transfers: classified.transfers.as_slice().into(),
            spends: Vec::new().into(),
        };
        let record = Record::Signed(Box::new(SignedAtOnce { intent, message_sha256: HASH.into() }));
        let (mut chain, mut line) = (Chain::GENESIS, Vec::with_capacity(1024));
        chain.write(&mut line, 1_700_000_000_000, &record).is_ok()
    }

    fn reply(&self, asked: &SignRequest, classified: &Classified<'_>) -> bool {
        let Some(draft) = self.drafted(asked) else { return false };
        let Ok(finished) = draft.finish(&[0xa5; 32], None) else { return false };
        let record = RecordId { seq: 17, hash: HASH.to_owned() };
        let reply = SignReply::new(
            REQUEST_ID.to_owned(),
            classified.scope,
            classified.effective,
            finished,
            record,
        );
        let mut written = Vec::with_capacity(1024);
        reply.write_json(&mut written);
        !black_box(written).is_empty()
    }

    /// All steps of the agent for an order, one after the other.
    fn all(&self) -> bool {
        let Some(asked) = self.parse() else { return false };
        let Some(classified) = self.classify(&asked) else { return false };
        self.decide(&classified) && self.draft(&asked)
    }
}

/// Binance with a table of one row, to show the cost of a long table.
#[derive(Debug)]
struct OneRow;

static ONE_ROW: LazyLock<Table> = LazyLock::new(|| {
    let order = "POST /api/v3/order symbol=symbol side=side type=type quantity=quantity? \
                 price=price? timeInForce? newClientOrderId?";
    Table::parse(Binance.facts(), "POST /api/v3/order trade", order)
});

impl Exchange for OneRow {
    fn facts(&self) -> &'static Facts {
        Binance.facts()
    }

    fn table(&self) -> &'static Table {
        &ONE_ROW
    }

    fn draft(
        &self,
        request: &Request,
        key: &Key,
        host: &str,
        stamp: &Stamp,
    ) -> Result<Draft, Refusal> {
        Binance.draft(request, key, host, stamp)
    }

    fn quote_asset<'a>(&self, order: &'a order::Order<'_>) -> Result<&'a str, &'static str> {
        Binance.quote_asset(order)
    }
}
