//! Tests which values an exchange signs unescaped, and how they are sent.

mod asked;

use asked::{draft, request};
use countersign_core::draft::Draft;
use countersign_core::exchange::named;
use countersign_core::json::Value;
use countersign_core::refusal::{Code, Refusal};
use countersign_core::request::Method;
use secrecy::SecretString;

fn drafted(exchange: &str, path: &str, params: &str) -> Result<Draft, Refusal> {
    let exchange = named(exchange).expect("in the registry");
    let request = request(Method::Get, path, Value::parse(params)?).expect("plain names");
    draft(exchange, exchange.facts().algorithms[0], &request)
}

/// The signed message, and the address to which the request is sent.
fn query(exchange: &str, path: &str, params: &str) -> (String, String) {
    let draft = drafted(exchange, path, params)
        .unwrap_or_else(|refusal| panic!("{exchange} {params}: {refusal}"));
    let message = String::from_utf8(draft.message.clone()).expect("text");
    let finished =
        draft.finish(&[0; 32], Some(&SecretString::from("passphrase"))).expect("a whole request");
    (message, finished.url)
}

const CURSOR: &str = "1321052653536515584%3A1672217748287%2Ca+b/c==";

#[test]
fn cursors_go_back_as_they_came() {
    let escaped = "1321052653536515584%253A1672217748287%252Ca%2Bb%2Fc%3D%3D";
    for (exchange, path, name, sent) in [
        ("bybit", "/v5/order/history", "cursor", CURSOR),
        ("bitget", "/api/v3/trade/history-orders", "cursor", escaped),
        ("bitget", "/api/v2/spot/trade/history-orders", "idLessThan", escaped),
        ("gate", "/api/v4/spot/my_trades", "last_id", escaped),
        ("kucoin", "/api/v1/hf/fills", "lastId", CURSOR),
    ] {
        let (signed, url) = query(exchange, path, &format!("{{{name:?}:{CURSOR:?}}}"));
        assert!(signed.contains(&format!("{name}={CURSOR}")), "{exchange}: {signed}");
        assert!(url.ends_with(&format!("?{name}={sent}")), "{exchange}: {url}");
        for bad in ["1&amount=9", "a#b", "a;b", "a b", "a\\u0000", "a\\r\\n", "é"] {
            let refusal =
                drafted(exchange, path, &format!("{{{name:?}:\"{bad}\"}}")).expect_err(bad);
            assert_eq!(refusal.code, Code::RequestMalformed, "{exchange} {bad}");
        }
    }
}

#[test]
fn a_cursor_that_is_sent_as_it_is_says_text() {
    for bad in ["a%", "a%4", "%zz", "%FF", "a%0D%0Ab"] {
        for (exchange, path, name) in
            [("bybit", "/v5/order/history", "cursor"), ("kucoin", "/api/v1/hf/fills", "lastId")]
        {
            assert!(
                drafted(exchange, path, &format!("{{{name:?}:{bad:?}}}")).is_err(),
                "{exchange} {bad}"
            );
        }
    }
}

#[test]
fn no_other_value_holds_what_a_cursor_may() {
    for (exchange, path, name) in [
        ("bybit", "/v5/order/history", "orderId"),
        ("bitget", "/api/v2/spot/trade/history-orders", "orderId"),
        ("gate", "/api/v4/spot/my_trades", "order_id"),
        ("kucoin", "/api/v1/hf/fills", "orderId"),
        ("upbit", "/v1/orders/closed", "cursor"),
    ] {
        for bad in ["1%26amount", "a=b", "a+b", "%41", "é"] {
            assert!(
                drafted(exchange, path, &format!("{{{name:?}:{bad:?}}}")).is_err(),
                "{exchange} {bad}"
            );
        }
    }
}

#[test]
fn instruments_may_be_named_in_any_script() {
    let escaped = "%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9F";
    for (exchange, path, name, sent) in [
        ("bybit", "/v5/order/realtime", "symbol", "币安人生"),
        ("bybit", "/v5/order/realtime", "settleCoin", "币安人生"),
        ("bitget", "/api/v2/spot/trade/unfilled-orders", "symbol", escaped),
        ("bitget", "/api/v2/spot/account/assets", "coin", escaped),
        ("gate", "/api/v4/spot/orders", "currency_pair", escaped),
        ("gate", "/api/v4/spot/accounts", "currency", escaped),
        ("kucoin", "/api/v1/hf/fills", "symbol", "币安人生"),
        ("kucoin", "/api/v1/accounts", "currency", "币安人生"),
    ] {
        let (signed, url) = query(exchange, path, &format!("{{{name:?}:\"币安人生\"}}"));
        assert!(signed.contains(&format!("{name}=币安人生")), "{exchange}: {signed}");
        assert!(url.ends_with(&format!("?{name}={sent}")), "{exchange}: {url}");
        for bad in ["币 安", "币&a=1", "币%26", "BTC\\u200b", "\\u202eBTC", "币＆", "币=1"] {
            assert!(
                drafted(exchange, path, &format!("{{{name:?}:\"{bad}\"}}")).is_err(),
                "{exchange} {bad}"
            );
        }
    }
    let (signed, _) = query("gate", "/api/v4/futures/usdt/positions/龙虾_USDT", "{}");
    assert!(signed.contains("/positions/龙虾_USDT"), "{signed}");
}

#[test]
fn paths_name_instruments_in_any_script_and_nothing_else() {
    let find =
        |exchange, path| named(exchange).expect("known").table().find(Method::Get, path).is_some();
    assert!(find("gate", "/api/v4/futures/usdt/positions/龙虾_USDT"));
    for path in
        ["/api/v4/futures/龙虾/positions", "/api/v4/spot/orders/龙虾", "/api/v4/龙虾/orders"]
    {
        assert!(!find("gate", path), "{path}");
    }
}
