//! Counts the allocations that each step of a Binance order costs, so that none comes back
//! unnoticed.

mod asked;

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;

use allocation_counter::measure;
use asked::{STAMP, key};
use countersign_core::algorithm::Algorithm;
use countersign_core::decimal::Amount;
use countersign_core::draft::Draft;
use countersign_core::exchange::Exchange;
use countersign_core::exchange::binance::Binance;
use countersign_core::exchange::classify::{Classified, check_managed, classify};
use countersign_core::key::Key;
use countersign_core::policy::{
    Client, Decision, Policy, RECEIVE_WINDOW_CAP_MS, Release, SpendLimit,
};
use countersign_core::refusal::Refusal;
use countersign_core::scope::Scope;
use countersign_core::wire::{RecordId, SignReply, SignRequest};

/// The most allocations of each step. A change that saves some lowers the number.
const MOST_ALLOCATIONS: [(&str, u64); 5] =
    [("parse", 20), ("classify", 3), ("decide", 2), ("draft", 5), ("reply", 8)];

const ORDER: &[u8] = br#"{"v":1,"key":"key","method":"POST","path":"/api/v3/order","params":{
    "symbol":"BTCUSDT","side":"BUY","type":"LIMIT","timeInForce":"GTC","quantity":"0.001",
    "price":"60000.00","newClientOrderId":"x-0123456789"}}"#;

/// A client with every kind of limit on orders.
fn client() -> Client {
    let amount = |text| Amount::parse(text).expect("a plain decimal");
    let limit = SpendLimit { per_request: Some(amount("5000")), per_day: Some(amount("1000000")) };
    Client {
        name: "bot".to_owned(),
        uid: 1000,
        keys: BTreeSet::from([key(&Binance, Algorithm::HmacSha256).name]),
        scopes: [Scope::Read, Scope::Trade].into_iter().collect(),
        symbols: Some(["BTCUSDT".to_owned()].into()),
        max_quantity: BTreeMap::from([("BTCUSDT".to_owned(), amount("0.5"))]),
        limits: BTreeMap::from([("USDT".to_owned(), limit)]),
        rate: None,
        unbound: Release::Signature,
    }
}

fn classified(asked: &SignRequest) -> Result<Classified<'_>, Refusal> {
    check_managed(&Binance, &asked.request.params, RECEIVE_WINDOW_CAP_MS)?;
    classify(&Binance, Algorithm::HmacSha256, &asked.request)
}

fn drafted(asked: &SignRequest, key: &Key) -> Draft {
    let binance: &dyn Exchange = &Binance;
    let host = binance.host(&asked.request, key.environment).expect("a host serves the path");
    binance.draft(&asked.request, key, host, &STAMP).expect("the recipe takes the order")
}

fn reply(draft: Draft, classified: &Classified<'_>) -> SignReply {
    let finished = draft.finish(&[0xa5; 32], None).expect("no passphrase is needed");
    let record = RecordId { seq: 17, hash: "b94d27b9".repeat(8) };
    let request_id = "01920000-0000-7000-8000-000000000000".to_owned();
    SignReply::new(request_id, classified.scope, classified.effective, finished, record)
}

#[test]
fn an_order_costs_no_more_allocations() {
    let (client, policy) = (client(), Policy::default());
    let key = key(&Binance, Algorithm::HmacSha256);
    let asked = SignRequest::parse(ORDER).expect("an order");
    // The first call parses the table.
    let classified = classified(&asked).expect("an order of the table");
    let decide = || policy.decide(&client, &key, &Binance, &classified);
    assert!(matches!(decide(), Decision::Allow { spends, .. } if spends.len() == 1));
    let ready = drafted(&asked, &key);

    let mut written = Vec::with_capacity(2048);
    let counts = [
        measure(|| drop(black_box(SignRequest::parse(ORDER)))),
        measure(|| drop(black_box(self::classified(&asked)))),
        measure(|| drop(black_box(decide()))),
        measure(|| drop(black_box(drafted(&asked, &key)))),
        measure(|| reply(ready, &classified).write_json(&mut written)),
    ]
    .map(|counted| counted.count_total);
    let counts: Vec<_> = MOST_ALLOCATIONS.iter().map(|(step, _)| *step).zip(counts).collect();
    let grown = counts.iter().zip(MOST_ALLOCATIONS).any(|(now, most)| now.1 > most.1);
    assert!(!grown, "{counts:?}, at most {MOST_ALLOCATIONS:?}");
    eprintln!("{counts:?}");
}
