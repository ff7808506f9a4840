//! Tests of the rules of policy: one name for each rule, with the requests that it allows and those
//! that it refuses.

use super::*;
use crate::algorithm::Algorithm;
use crate::exchange::classify::classify;
use crate::exchange::fake::{Fake, key};
use crate::json::Value;
use crate::request::{Method, Params, Path, Request};

fn request(line: &str) -> Request {
    let mut words = line.splitn(3, ' ');
    let mut next = || words.next().unwrap_or("{}");
    Request {
        method: Method::parse(next()).expect("method"),
        path: Path::parse(next()).expect("path"),
        params: Params::new(Value::parse(next()).expect("JSON")).expect("params"),
        params_in: None,
        host: None,
    }
}

fn client(scopes: &[Scope]) -> Client {
    Client {
        name: "bot".to_owned(),
        uid: 1,
        keys: [KeyName::parse("fake-key").expect("name")].into(),
        scopes: scopes.iter().copied().collect(),
        symbols: None,
        max_quantity: BTreeMap::new(),
        limits: BTreeMap::new(),
        rate: None,
        unbound: Release::Signature,
    }
}

fn amount(text: &str) -> Amount {
    Amount::parse(text).expect("amount")
}

fn decide(policy: &Policy, client: &Client, line: &str) -> Result<Vec<Spend>, Code> {
    let request = request(line);
    let classified =
        classify(&Fake, Algorithm::HmacSha256, &request).map_err(|refusal| refusal.code)?;
    match policy.decide(client, &key(Scope::ALL), &Fake, &classified) {
        Decision::Allow { spends, .. } => Ok(spends),
        Decision::Ask { .. } => Err(Code::ApprovalRequired),
        Decision::Deny(denied) => Err(denied.refusal.code),
    }
}

const ORDER: &str = r#"POST /order {"symbol":"BTCUSDT","side":"BUY","type":"LIMIT",
    "quantity":"0.01","price":"30000"}"#;

#[test]
fn scopes_are_a_set_and_all_effective_ones_are_needed() {
    use Scope::{Read, Trade, Transfer, Withdraw};
    let policy = Policy::default();
    let cases: &[(&[Scope], &str, Result<(), Code>)] = &[
        (&[Read], "GET /account", Ok(())),
        (&[Trade], "GET /account", Err(Code::PolicyScope)),
        (&[Read, Trade], ORDER, Ok(())),
        (&[Trade], ORDER, Ok(())),
        (&[Read], ORDER, Err(Code::PolicyScope)),
        // Reading and cancelling an order have the same signature.
        (&[Read], r#"GET /order {"symbol":"BTCUSDT"}"#, Err(Code::PolicyEffectiveScope)),
        (&[Read, Trade], r#"GET /order {"symbol":"BTCUSDT"}"#, Ok(())),
        (
            &[Read, Trade],
            r#"GET /account {"coin":"BTC","amount":"1","address":"x"}"#,
            Err(Code::PolicyEffectiveScope),
        ),
        (
            &[Read, Trade],
            r#"GET /account {"asset":"BTC","amount":"1"}"#,
            Err(Code::PolicyEffectiveScope),
        ),
        (
            &[Read, Trade, Withdraw],
            r#"POST /move {"asset":"BTC","amount":"1"}"#,
            Err(Code::PolicyScope),
        ),
        (
            &[Read, Transfer],
            r#"POST /withdraw {"coin":"BTC","amount":"1","address":"x"}"#,
            Err(Code::PolicyScope),
        ),
        (&[Read], "GET /unknown", Err(Code::RequestUnknownEndpoint)),
        (&[Read], r#"GET /account {"SYMBOL":"x"}"#, Err(Code::RequestAmbiguous)),
        (&[Read], r#"GET /account {"coin":{"address":"y"}}"#, Err(Code::RequestMalformed)),
        (&[Read], r#"GET /account {"x":{"address":"y"}}"#, Err(Code::RequestForbiddenParameter)),
        // Refused, whatever scopes the client holds.
        (
            &[Read, Trade, Transfer, Withdraw],
            r#"GET /order {"address":"y"}"#,
            Err(Code::RequestForbiddenParameter),
        ),
    ];
    for (scopes, line, expected) in cases {
        let found = decide(&policy, &client(scopes), line).map(|_| ());
        assert_eq!(found, *expected, "{scopes:?} {line}");
    }
}

#[test]
fn a_symbol_is_a_listed_one_byte_for_byte() {
    let policy = Policy::default();
    let listed = ["BTCUSDT", "币安人生USDT", "MØTHUSDT", "龙虾USDT"];
    let mut trader = client(&[Scope::Read, Scope::Trade]);
    trader.symbols = Some(listed.map(str::to_owned).into());
    trader.max_quantity = [("龙虾USDT".to_owned(), amount("1"))].into();
    let order = |symbol: &str, quantity| {
        let text = r#"POST /order {"symbol":"_","side":"BUY","type":"LIMIT","quantity":"QUANTITY",
            "price":"1"}"#;
        decide(&policy, &trader, &text.replace("QUANTITY", quantity).replace('_', symbol))
            .map(|_| ())
    };
    for symbol in listed {
        assert_eq!(order(symbol, "1"), Ok(()), "{symbol}");
    }
    assert_eq!(order("龙虾USDT", "1.1"), Err(Code::PolicyLimit));
    // Full-width, Cyrillic, another sign, a sign and its stroke apart, a character that is not
    // seen, another case.
    for alike in [
        "ＢＴＣＵＳＤＴ",
        "ВТСUSDT",
        "BTCUSDТ",
        "币安人牛USDT",
        "龍蝦USDT",
        "MO\u{338}THUSDT",
        "BTCUSDT\u{200b}",
        "\u{2066}BTCUSDT",
        "møthusdt",
        "MOTHUSDT",
    ] {
        assert_eq!(order(alike, "1"), Err(Code::PolicyLimit), "{alike:?}");
    }
}

#[test]
fn a_client_uses_its_own_keys_within_the_keys_scopes() {
    let policy = Policy::default();
    let request = request(ORDER);
    let classified = classify(&Fake, Algorithm::HmacSha256, &request).expect("classified");
    let mut bot = client(&[Scope::Trade]);
    let read_only = policy.decide(&bot, &key([Scope::Read]), &Fake, &classified);
    assert!(
        matches!(read_only, Decision::Deny(denied) if denied.refusal.code == Code::PolicyScope)
    );
    bot.keys.clear();
    let foreign = policy.decide(&bot, &key(Scope::ALL), &Fake, &classified);
    assert!(matches!(foreign, Decision::Deny(denied) if denied.refusal.code == Code::KeyUnknown));
}

#[test]
fn a_client_to_be_forwarded_gets_no_signature_of_an_unbound_exchange() {
    let mut bot = client(&[Scope::Read]);
    bot.unbound = Release::Forward;
    assert_eq!(decide(&Policy::default(), &bot, "GET /account"), Err(Code::PolicyEffectiveScope));
}

#[test]
fn symbols_and_quantities_are_judged() {
    let mut bot = client(&[Scope::Read, Scope::Trade]);
    bot.symbols = Some(["BTCUSDT".to_owned()].into());
    bot.max_quantity = [("BTCUSDT".to_owned(), amount("0.5"))].into();
    let order = |rest: &str| format!(r#"POST /order {{"side":"BUY","type":"LIMIT",{rest}}}"#);
    let cases = [
        (order(r#""symbol":"BTCUSDT","quantity":"0.5""#), true),
        (order(r#""symbol":"BTCUSDT","quantity":0.5"#), true),
        (order(r#""symbol":"BTCUSDT","quantity":"0.51""#), false),
        (order(r#""symbol":"ETHUSDT","quantity":"0.1""#), false),
        (order(r#""quantity":"0.1""#), false),
        (order(r#""symbol":"BTCUSDT""#), false),
        (order(r#""symbol":"BTCUSDT","quantity":"5e-1""#), false),
        (order(r#""symbol":"BTCUSDT","quantity":"+0.1""#), false),
        (order(r#""symbol":"BTCUSDT","quantity":"0.1 ""#), false),
        (r#"DELETE /order {"symbol":"BTCUSDT"}"#.to_owned(), true),
        (r#"DELETE /order {"symbol":"ETHUSDT"}"#.to_owned(), false),
        ("POST /opaque {}".to_owned(), false),
        (
            r#"POST /batch {"orders":[{"symbol":"BTCUSDT","quantity":"0.1"},{"symbol":"ETHUSDT",
                "quantity":"1"}]}"#
                .to_owned(),
            false,
        ),
        (
            r#"POST /batch {"orders":"[{\"symbol\":\"BTCUSDT\",\"quantity\":\"0.1\"}]"}"#
                .to_owned(),
            true,
        ),
        (r#"POST /batch {"orders":7}"#.to_owned(), false),
    ];
    for (line, allowed) in cases {
        let found = decide(&Policy::default(), &bot, &line);
        assert_eq!(found.is_ok(), allowed, "{line}: {found:?}");
        assert!(found.is_ok() || found == Err(Code::PolicyLimit), "{line}");
    }
    let twice = concat!(
        r#"POST /batch {"orders":"[{\"symbol\":\"BTCUSDT\",\"symbol\":\"X\","#,
        r#"\"quantity\":\"0.1\"}]"}"#,
    );
    assert_eq!(
        decide(&Policy::default(), &bot, twice),
        Err(Code::RequestMalformed),
        "a name twice in a text"
    );
}

#[test]
fn notional_is_limited_or_the_order_refused() {
    let mut bot = client(&[Scope::Trade]);
    let limit = SpendLimit { per_request: Some(amount("500")), per_day: Some(amount("1000")) };
    bot.limits = [("USDT".to_owned(), limit)].into();
    let order = |quantity: &str| {
        format!(
            r#"POST /order {{"symbol":"B","side":"BUY","type":"LIMIT","quantity":"{quantity}",
                "price":"100"}}"#
        )
    };
    let spend =
        Spend { window: "client/bot/USDT".to_owned(), amount: amount("500"), cap: amount("1000") };
    assert_eq!(decide(&Policy::default(), &bot, &order("5")), Ok(vec![spend]));
    for quantity in ["5.01", "1e1", "01", "", "0x5"] {
        assert_eq!(
            decide(&Policy::default(), &bot, &order(quantity)),
            Err(Code::PolicyLimit),
            "{quantity}"
        );
    }
    let market = r#"POST /order {"symbol":"B","side":"BUY","type":"MARKET","quantity":"1"}"#;
    assert_eq!(decide(&Policy::default(), &bot, market), Err(Code::PolicyLimit));
    let batch = r#"POST /batch {"orders":[{"symbol":"B","quantity":"3","price":"100"},{"symbol":"B",
        "quantity":"3","price":"100"}]}"#;
    assert_eq!(decide(&Policy::default(), &bot, batch), Err(Code::PolicyLimit), "the sum counts");
}

#[test]
fn transfers_need_a_rule_and_withdrawals_an_exact_destination() {
    let rule = TransferRule {
        per_request: Some(amount("1")),
        per_day: Some(amount("2")),
        approvers: vec![ApproverStep { above: amount("0.5"), count: 2 }],
    };
    let destination = Destination {
        label: "cold".to_owned(),
        asset: "BTC".to_owned(),
        network: "BTC".to_owned(),
        address: "bc1q".to_owned(),
        memo: None,
    };
    let nowhere_named = Destination {
        network: NO_NETWORK.to_owned(),
        address: "named".to_owned(),
        ..destination.clone()
    };
    let policy = Policy {
        destinations: vec![destination, nowhere_named],
        transfers: [("BTC".to_owned(), rule)].into(),
        ..Policy::default()
    };
    let bot = client(&Scope::ALL);
    let withdraw = |rest: &str| format!(r#"POST /withdraw {{"coin":"BTC","amount":"0.1",{rest}}}"#);
    let cases = [
        (r#"POST /move {"asset":"BTC","amount":"0.5"}"#.to_owned(), None),
        (r#"POST /move {"asset":"BTC","amount":"0.6"}"#.to_owned(), Some(Code::ApprovalRequired)),
        (r#"POST /move {"asset":"BTC","amount":"1.1"}"#.to_owned(), Some(Code::PolicyLimit)),
        (r#"POST /move {"asset":"BTC","amount":"1e-1"}"#.to_owned(), Some(Code::PolicyLimit)),
        (r#"POST /move {"asset":"ETH","amount":"0.1"}"#.to_owned(), Some(Code::PolicyLimit)),
        (withdraw(r#""address":"bc1q","network":"BTC""#), Some(Code::ApprovalRequired)),
        (withdraw(r#""address":"bc1q","network":"BSC""#), Some(Code::PolicyDestination)),
        (withdraw(r#""address":"bc1q""#), Some(Code::PolicyDestination)),
        (withdraw(r#""address":"named""#), Some(Code::ApprovalRequired)),
        (withdraw(r#""address":"named","network":"BTC""#), Some(Code::PolicyDestination)),
        (withdraw(r#""address":"bc1q","network":"BTC","tag":"7""#), Some(Code::PolicyDestination)),
        (withdraw(r#""address":"bc1Q","network":"BTC""#), Some(Code::PolicyDestination)),
    ];
    for (line, refused) in cases {
        assert_eq!(decide(&policy, &bot, &line).err(), refused, "{line}");
    }
}

#[test]
fn a_key_in_a_vault_signs_nothing_that_no_person_approved() {
    let request = request("GET /account");
    let classified = classify(&Fake, Algorithm::HmacSha256, &request).expect("known");
    let bot = client(&Scope::ALL);
    let vaulted = Key { in_vault: true, ..key(Scope::ALL) };
    let decided = |key: &Key| Policy::default().decide(&bot, key, &Fake, &classified);
    assert!(matches!(decided(&key(Scope::ALL)), Decision::Allow { .. }));
    assert!(matches!(decided(&vaulted), Decision::Ask { approvals: 1, .. }));
}
