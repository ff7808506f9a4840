//! Tests the orders of MEXC: <https://www.mexc.com/api-docs/futures/account-and-trading-endpoints>,
//! and pymexc 1.3.1.

use countersign_core::refusal::Code;

use crate::{At, NONE, with};

const CONTRACTS: At = At("mexc", "POST /api/v1/private/order/create");
const SPOT: At = At("mexc", "POST /api/v3/order");
/// Limits count it twice, because its signature is also that of a trailing stop.
const CONTRACT: &str =
    r#"{"symbol":"BTC_USDT","side":1,"type":1,"vol":2,"price":3,"openType":1,"leverage":20}"#;

#[test]
fn flags_for_all_there_is_leave_no_size() {
    for name in ["flashClose", "marketCeiling"] {
        for flag in [
            "true",
            r#""true""#,
            r#""TRUE""#,
            "1",
            r#""1""#,
            r#""yes""#,
            r#""""#,
            "null",
            r#""False""#,
            "0",
        ] {
            CONTRACTS.knows_nothing(&[&with(CONTRACT, &format!(r#""{name}":{flag}"#))]);
        }
        CONTRACTS.counts(&[(&with(CONTRACT, &format!(r#""{name}":false"#)), "2+2", "-+-")]);
    }
}

#[test]
fn a_contract_is_counted_in_contracts() {
    for more in [
        r#""reduceOnly":true"#,
        r#""positionMode":1"#,
        r#""priceProtect":"1""#,
        r#""stopLossPrice":1"#,
    ] {
        CONTRACTS.counts(&[(&with(CONTRACT, more), "2+2", "-+-")]);
    }
    // An order of an unknown type still counts as a trailing stop, but that does not bring it
    // within limits.
    CONTRACTS.counts(&[(
        r#"{"symbol":"BTC_USDT","side":1,"type":9,"vol":2,"price":3}"#,
        "-+2",
        "-+-",
    )]);
    CONTRACTS.knows_nothing(&[
        r#"{"symbol":"BTC_USDT","side":1,"type":1,"vol":[2],"price":3}"#,
        r#"{"symbol":"BTC_USDT","side":1,"type":1,"vol":"1e3","price":3}"#,
    ]);
    let foreign = r#"{"symbol":"BTC_USDT","side":1,"type":1,"vol":2,"quantity":1000,"price":3}"#;
    CONTRACTS.refuses(Code::RequestForbiddenParameter, &[foreign]);
}

#[test]
fn each_order_of_a_batch_counts() {
    let batch = At("mexc", "POST /api/v1/private/order/submit_batch");
    let of = |orders: &[&str]| format!("[{}]", orders.join(","));
    let all = with(CONTRACT, r#""marketCeiling":true"#);
    let other = with(CONTRACT, r#""Vol":1000"#);
    // Limits count it again as a batch of the old API, in which no parameter is a size.
    batch.counts(&[
        (&of(&[CONTRACT, CONTRACT]), "2+2+-+-", "-+-+-+-"),
        (&of(&[CONTRACT, &all]), "2+-+-+-", "-+-+-+-"),
    ]);
    batch.knows_nothing(&[&of(&[CONTRACT, "[]"]), &of(&[r#""x""#])]);
    batch.refuses(Code::RequestMalformed, &[&of(&[CONTRACT, &other])]);
}

#[test]
fn a_change_that_may_reverse_the_position_is_no_setting() {
    for (path, params) in [
        (
            "stoporder/change_price",
            r#"{"orderId":"1","symbol":"BTC_USDT","stopLossPrice":3,"stopLossReverse":1}"#,
        ),
        (
            "stoporder/change_plan_price",
            r#"{"stopPlanOrderId":1,"takeProfitPrice":3,"takeProfitReverse":1}"#,
        ),
        (
            "planorder/change_stop_order",
            r#"{"orderId":"1","symbol":"BTC_USDT","stopLossPrice":3,"stopLossReverse":1}"#,
        ),
    ] {
        let path: &'static str = format!("POST /api/v1/private/{path}").leak();
        assert!(!At("mexc", path).is_within("BTC_USDT", params), "{path}");
    }
}

#[test]
fn a_type_says_which_numbers_count() {
    let order = |kind: &str, more: &str| {
        format!(r#"{{"symbol":"BTCUSDT","side":"BUY","type":"{kind}",{more}}}"#)
    };
    SPOT.counts(&[
        (&order("LIMIT", r#""quantity":"2","price":"3""#), "2", "6 USDT"),
        (&order("LIMIT_MAKER", r#""quantity":"2","price":"3""#), "2", "6 USDT"),
        (&order("MARKET", r#""quantity":"2","price":"0.01""#), "2", NONE),
        (&order("MARKET", r#""quoteOrderQty":"50""#), NONE, "50 USDT"),
        (&order("MARKET", r#""quoteOrderQty":"50","quantity":"1000""#), NONE, NONE),
        (&order("LIMIT", r#""quoteOrderQty":"50","price":"3""#), NONE, NONE),
        (&order("Limit", r#""quantity":"2","price":"3""#), NONE, NONE),
        (&order("LIMIT ", r#""quantity":"2","price":"3""#), NONE, NONE),
    ]);
}
