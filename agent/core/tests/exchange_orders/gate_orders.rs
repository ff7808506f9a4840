//! Tests the orders of Gate: <https://www.gate.com/docs/developers/apiv4/en/>, and gate-api
//! 7.2.161.

use crate::{At, NONE, with};

const SPOT: At = At("gate", "POST /api/v4/spot/orders");
const FUTURES: At = At("gate", "POST /api/v4/futures/usdt/orders");
const CONTRACT: &str = r#"{"contract":"BTC_USDT","size":2,"price":"3","tif":"gtc"}"#;

#[test]
fn a_market_order_on_spot_is_sized_by_its_side() {
    let market = |side: &str| {
        format!(r#"{{"currency_pair":"BTC_USDT","side":"{side}","type":"market","amount":"2"}}"#)
    };
    SPOT.counts(&[
        (&market("buy"), NONE, "2 USDT"),
        (&market("sell"), "2", NONE),
        (&market("Buy"), NONE, NONE),
        (&market("SELL"), NONE, NONE),
        (&market(""), NONE, NONE),
        (&with(&market("buy"), r#""price":"0.01""#), NONE, "2 USDT"),
        (&with(&market("sell"), r#""price":"0.01""#), "2", NONE),
    ]);
}

#[test]
fn an_account_changes_neither_size_nor_price() {
    let limit =
        r#"{"currency_pair":"BTC_USDT","side":"buy","type":"limit","amount":"2","price":"3"}"#;
    for account in ["spot", "margin", "cross_margin", "unified"] {
        SPOT.counts(&[(&with(limit, &format!(r#""account":"{account}""#)), "2", "6 USDT")]);
    }
    SPOT.counts(&[
        (&with(limit, r#""slippage":"0.5""#), "2", "6 USDT"),
        (&with(limit, r#""trade_quote":"USD1""#), "2", NONE),
    ]);
    SPOT.knows_nothing(&[
        &with(limit, r#""account":{"size":1}"#),
        &with(limit, r#""stop_loss":{"trigger_price":"1"}"#),
        &with(limit, r#""stop_profit":" {\"trigger_price\":\"1\"}""#),
    ]);
    assert!(!SPOT.is_within("BTC_USDT", &with(limit, r#""settle":"btc""#)));
}

#[test]
fn a_whole_position_has_no_size() {
    let mark = |more: &str| with(CONTRACT, more);
    FUTURES.counts(&[(CONTRACT, "2", NONE), (&mark(r#""close":false"#), "2", NONE)]);
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
        "[]",
    ] {
        FUTURES.knows_nothing(&[
            &mark(&format!(r#""close":{flag}"#)),
            &mark(&format!(r#""is_close":{flag}"#)),
        ]);
    }
    for side in ["close_long", "close_short", ""] {
        FUTURES.knows_nothing(&[&mark(&format!(r#""auto_size":"{side}""#))]);
    }
    for size in ["0", r#""0""#, "-0", "0.0", r#""-0.000""#] {
        FUTURES
            .knows_nothing(&[&format!(r#"{{"contract":"BTC_USDT","size":{size},"price":"3"}}"#)]);
    }
}

#[test]
fn a_sale_of_contracts_is_a_size_below_zero() {
    let sized = |size: &str| format!(r#"{{"contract":"BTC_USDT","size":{size},"price":"3"}}"#);
    FUTURES.counts(&[
        (&sized("-2"), "2", NONE),
        (&sized(r#""-2""#), "2", NONE),
        (&sized(r#""--2""#), NONE, NONE),
        (&sized(r#""- 2""#), NONE, NONE),
        (&sized(r#""−2""#), NONE, NONE),
        (&sized(r#""+2""#), NONE, NONE),
        (&sized("[-2]"), NONE, NONE),
    ]);
    // On spot such a size is not valid.
    SPOT.knows_nothing(&[
        r#"{"currency_pair":"BTC_USDT","side":"sell","type":"limit","amount":"-","price":"3"}"#,
    ]);
}

#[test]
fn an_amendment_that_names_its_order_by_a_number_is_of_no_contract() {
    let amendment = r#"{"contract":"BTC_USDT","size":1,"price":"3"}"#;
    let batch = r#"[{"order_id":7,"contract":"BTC_USDT","size":1,"price":"3"}]"#;
    for (at, params) in [
        (At("gate", "PUT /api/v4/futures/usdt/orders/7"), amendment),
        (At("gate", "PUT /api/v4/futures/usdt/price_orders/7"), amendment),
        (At("gate", "POST /api/v4/futures/usdt/batch_amend_orders"), batch),
    ] {
        at.knows_nothing(&[params]);
        assert!(!at.is_within("BTC_USDT", params), "{}", at.1);
    }
    // Options and spot take the instrument beside the number.
    At("gate", "PUT /api/v4/options/orders/7").counts(&[(amendment, "1", NONE)]);
    let spot = r#"{"currency_pair":"BTC_USDT","amount":"2","price":"3"}"#;
    At("gate", "PATCH /api/v4/spot/orders/7").counts(&[(spot, "2", "6 USDT")]);
}
