//! Tests the orders of WOO: <https://docs.woox.io/#send-algo-order>.

use crate::{At, NONE, quoted, replaced, with};

const ALGO: At = At("woo", "POST /v3/trade/algoOrder");
const LIMIT: &str = r#"{"symbol":"SPOT_BTC_USDT","side":"BUY","type":"LIMIT","quantity":"2",
    "price":"3","triggerPrice":"4"}"#;

#[test]
fn a_stop_keeps_to_its_price_and_no_other_algo_order_does() {
    ALGO.counts(&[
        (&with(LIMIT, r#""algoType":"STOP""#), "2", "6 USDT"),
        (&with(LIMIT, r#""algoType":"STOP","orderCombinationType":"STOP_LIMIT""#), "2", "6 USDT"),
        (&with(LIMIT, r#""algoType":"STOP","orderCombinationType":"STOP_MARKET""#), "2", NONE),
        // A trailing stop trades at the market, whatever its type.
        (&with(LIMIT, r#""algoType":"TRAILING_STOP","callbackRate":"0.1""#), "2", NONE),
        (&with(LIMIT, r#""callbackValue":"1""#), "2", NONE),
        (&with(LIMIT, r#""algoType":"OCO""#), "2", NONE),
        (&with(LIMIT, r#""algoType":"BRACKET""#), "2", NONE),
        (&with(LIMIT, r#""algoType":"stop""#), NONE, NONE),
        (&with(LIMIT, r#""algoType":"POSITIONAL_TP_SL""#), NONE, NONE),
        (&with(LIMIT, r#""algoType":"TP_SL""#), NONE, NONE),
        (&with(LIMIT, r#""algoType":null"#), NONE, NONE),
    ]);
    let market = r#"{"symbol":"SPOT_BTC_USDT","side":"BUY","type":"MARKET","quantity":"2",
        "price":"3","algoType":"STOP"}"#;
    ALGO.counts(&[
        (market, "2", NONE),
        (&replaced(market, "MARKET", "CLOSE_POSITION"), NONE, NONE),
    ]);
}

#[test]
fn orders_inside_an_order_are_not_counted() {
    let child = r#"{"algoType":"STOP","side":"BUY","type":"MARKET","quantity":"1000"}"#;
    for children in [format!("[{child}]"), child.to_owned(), quoted(&format!(" [{child}]"))] {
        for kind in ["BRACKET", "OCO", "STOP"] {
            let order = with(LIMIT, &format!(r#""algoType":"{kind}","childOrders":{children}"#));
            ALGO.knows_nothing(&[&order]);
        }
    }
}

#[test]
fn an_amendment_names_its_order_by_a_number_alone() {
    let amendment = r#"{"orderId":"7","symbol":"SPOT_BTC_USDT","quantity":"1","price":"1"}"#;
    for at in [
        At("woo", "PUT /v3/trade/order"),
        At("woo", "PUT /v3/order/7"),
        At("woo", "PUT /v3/trade/algoOrder"),
        At("woo", "PUT /v3/algo/order/7"),
    ] {
        at.knows_nothing(&[amendment]);
        assert!(!at.is_within("SPOT_BTC_USDT", amendment), "{}", at.1);
    }
}

#[test]
fn a_level_of_the_book_is_a_price_of_its_own() {
    let order = r#"{"symbol":"SPOT_BTC_USDT","side":"BUY","order_type":"LIMIT","order_quantity":"2",
        "order_price":"3"}"#;
    At("woo", "POST /v1/order").counts(&[
        (order, "2", "6 USDT"),
        (&with(order, r#""bid_ask_level":5"#), "2", NONE),
        (&with(order, r#""order_amount":"1""#), NONE, NONE),
        (
            r#"{"symbol":"SPOT_BTC_USDT","side":"BUY","order_type":"MARKET",
            "order_amount":"50"}"#,
            NONE,
            "50 USDT",
        ),
        (
            r#"{"symbol":"SPOT_BTC_USDT","side":"BUY","order_type":"ASK","order_quantity":"2",
                "order_price":"3"}"#,
            "2",
            NONE,
        ),
        (
            r#"{"symbol":"SPOT_BTC_USDT","side":"BUY","order_type":"ASK",
            "order_amount":"50"}"#,
            NONE,
            NONE,
        ),
    ]);
}
