//! Tests the orders of KuCoin: <https://www.kucoin.com/docs-new/>, and kucoin-universal-sdk 1.3.2.

use crate::{At, NONE, with};

const CLASSIC: At = At("kucoin", "POST /api/v1/orders");
const UNIFIED: At = At("kucoin", "POST /api/ua/v1/unified/order/place");
const CONTRACT: &str = r#"{"clientOid":"a","symbol":"XBTUSDTM","side":"buy","type":"limit",
    "size":"2","price":"3","leverage":"1"}"#;
const SPOT: &str =
    r#"{"clientOid":"a","symbol":"BTC-USDT","side":"buy","type":"limit","size":"2","price":"3"}"#;

#[test]
fn a_contract_has_one_of_three_sizes() {
    CLASSIC.counts(&[
        (CONTRACT, "2", NONE),
        (&with(CONTRACT, r#""qty":"1000""#), NONE, NONE),
        (&with(CONTRACT, r#""valueQty":"1000000""#), NONE, NONE),
        (r#"{"symbol":"XBTUSDTM","side":"buy","type":"market","qty":"1"}"#, NONE, NONE),
        (r#"{"symbol":"XBTUSDTM","side":"buy","type":"market","valueQty":"1"}"#, NONE, NONE),
    ]);
}

#[test]
fn a_close_order_is_for_the_whole_position() {
    for flag in [
        "true",
        r#""true""#,
        r#""TRUE""#,
        "1",
        r#""1""#,
        r#""yes""#,
        r#""False""#,
        r#""""#,
        "null",
        "0",
    ] {
        CLASSIC.knows_nothing(&[&with(CONTRACT, &format!(r#""closeOrder":{flag}"#))]);
    }
    CLASSIC.counts(&[(&with(CONTRACT, r#""closeOrder":false"#), "2", NONE)]);
}

#[test]
fn funds_are_the_size_of_market_orders_alone() {
    CLASSIC.counts(&[
        (SPOT, "2", "6 USDT"),
        (r#"{"symbol":"BTC-USDT","side":"buy","type":"market","funds":"50"}"#, NONE, "50 USDT"),
        (r#"{"symbol":"BTC-USDT","side":"sell","type":"market","funds":"50"}"#, NONE, "50 USDT"),
        (r#"{"symbol":"BTC-USDT","side":"buy","type":"market","size":"2"}"#, "2", NONE),
        (
            r#"{"symbol":"BTC-USDT","side":"buy","type":"market","size":"2","price":"0.01"}"#,
            "2",
            NONE,
        ),
        (
            r#"{"symbol":"BTC-USDT","side":"buy","type":"market","size":"1000","funds":"1"}"#,
            NONE,
            NONE,
        ),
        (&with(SPOT, r#""funds":"1""#), NONE, NONE),
        (
            r#"{"symbol":"BTC-USDT","side":"buy","type":"limit","price":"3","funds":"1"}"#,
            NONE,
            NONE,
        ),
        // An order without a type is a limit order.
        (r#"{"symbol":"BTC-USDT","side":"buy","size":"2","price":"3"}"#, "2", "6 USDT"),
        (r#"{"symbol":"BTC-USDT","side":"buy","type":"","size":"2","price":"3"}"#, NONE, NONE),
        (
            r#"{"symbol":"BTC-USDT","side":"buy","type":"Market","size":"2","price":"3"}"#,
            NONE,
            NONE,
        ),
    ]);
}

#[test]
fn a_stop_keeps_to_its_price_and_legs_count() {
    At("kucoin", "POST /api/v1/stop-order").counts(&[
        (&with(SPOT, r#""stop":"loss","stopPrice":"9""#), "2", "6 USDT"),
        (
            r#"{"symbol":"BTC-USDT","side":"buy","type":"market","size":"2","stop":"loss",
            "stopPrice":"9"}"#,
            "2",
            NONE,
        ),
    ]);
    let unified = r#"{"symbol":"BTC-USDT","side":"BUY","orderType":"LIMIT","size":"2","price":"3",
        "sizeUnit":"BASECCY"}"#;
    UNIFIED.counts(&[
        (unified, "2", "6 USDT"),
        (&with(unified, r#""triggerPrice":"9","triggerDirection":"UP""#), "2", "6 USDT"),
        (&with(unified, r#""tpTriggerPrice":"9""#), "2", "24 USDT"),
    ]);
}

#[test]
fn a_unit_of_a_unified_account_is_that_of_its_market() {
    let order = |symbol: &str, kind: &str, unit: &str| {
        let order = format!(
            r#"{{"symbol":"{symbol}","side":"BUY","orderType":"{kind}","size":"2","price":"3"}}"#
        );
        if unit.is_empty() { order } else { with(&order, &format!(r#""sizeUnit":{unit}"#)) }
    };
    for (symbol, kind, unit, size, worth) in [
        ("BTC-USDT", "LIMIT", "", "2", "6 USDT"),
        ("BTC-USDT", "LIMIT", r#""BASECCY""#, "2", "6 USDT"),
        ("BTC-USDT", "LIMIT", r#""QUOTECCY""#, NONE, NONE),
        ("BTC-USDT", "LIMIT", r#""UNIT""#, NONE, NONE),
        ("BTC-USDT", "LIMIT", r#""baseccy""#, NONE, NONE),
        ("BTC-USDT", "LIMIT", "null", NONE, NONE),
        ("BTC-USDT", "MARKET", r#""BASECCY""#, "2", NONE),
        ("BTC-USDT", "MARKET", r#""QUOTECCY""#, NONE, NONE),
        // The unit of this order is not documented.
        ("BTC-USDT", "MARKET", "", NONE, NONE),
        // 1 of the base asset is 1,000 of these contracts.
        ("XBTUSDTM", "LIMIT", r#""BASECCY""#, NONE, NONE),
        ("XBTUSDTM", "LIMIT", r#""QUOTECCY""#, NONE, NONE),
        ("XBTUSDTM", "LIMIT", r#""UNIT""#, "2", NONE),
        ("XBTUSDTM", "MARKET", r#""UNIT""#, "2", NONE),
        ("XBTUSDTM", "MARKET", "", "2", NONE),
    ] {
        UNIFIED.counts(&[(&order(symbol, kind, unit), size, worth)]);
    }
}
