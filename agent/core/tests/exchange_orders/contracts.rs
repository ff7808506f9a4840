//! Tests the orders of Phemex, Deribit and HTX.

use crate::{At, NONE, quoted, with};

/// <https://phemex-docs.github.io/>
#[test]
fn sizes_of_phemex_are_contracts_and_scaled_numbers_are_none() {
    let order =
        r#"{"symbol":"BTCUSD","side":"Buy","ordType":"Limit","orderQty":2,"priceEp":30000}"#;
    let at = At("phemex", "POST /orders");
    at.counts(&[
        (order, "2", NONE),
        (&with(order, r#""closeOnTrigger":false"#), "2", NONE),
        (&with(order, r#""execInst":"ReduceOnly""#), "2", NONE),
        (&order.replace("Limit", "Market"), "2", NONE),
        (&order.replace("Limit", "market"), NONE, NONE),
        (&order.replace("Limit", "Bracket"), NONE, NONE),
        (r#"{"symbol":"BTCUSD","side":"Buy","orderQty":2,"priceEp":30000}"#, NONE, NONE),
    ]);
    for flag in ["true", r#""true""#, r#""TRUE""#, "1", r#""""#, "null", r#""False""#] {
        at.knows_nothing(&[&with(order, &format!(r#""closeOnTrigger":{flag}"#))]);
    }
    for instruction in ["CloseOnTrigger", "ReduceOnly,CloseOnTrigger", "Close", ""] {
        at.knows_nothing(&[&with(order, &format!(r#""execInst":"{instruction}""#))]);
    }
    let spot = r#"{"symbol":"sBTCUSDT","clOrdID":"a","side":"Buy","ordType":"Limit","priceEp":1}"#;
    At("phemex", "POST /spot/orders").knows_nothing(&[
        &with(spot, r#""qtyType":"ByBase","baseQtyEv":1"#),
        &with(spot, r#""qtyType":"ByQuote","quoteQtyEv":1"#),
        &with(spot, r#""qtyType":"ByQuote","quoteQtyEv":1,"baseQtyEv":1"#),
    ]);
    let replaced = r#"{"symbol":"BTCUSD","orderID":"a","orderQty":2}"#;
    At("phemex", "PUT /orders/replace").counts(&[
        (replaced, "2", NONE),
        (&with(replaced, r#""baseQtyEV":100000000"#), NONE, NONE),
        (&with(replaced, r#""baseQtyEv":100000000"#), NONE, NONE),
    ]);
    At("phemex", "PUT /spot/orders").knows_nothing(&[
        r#"{"symbol":"sBTCUSDT","orderID":"a","baseQtyEV":1}"#,
        r#"{"symbol":"sBTCUSDT","orderID":"a","quoteQtyEv":1}"#,
    ]);
}

/// <https://docs.deribit.com/#private-buy>
#[test]
fn orders_of_deribit_that_trigger_others_are_not_counted() {
    let order = r#"{"instrument_name":"BTC_USDC","amount":"2","price":"3","type":"limit"}"#;
    let at = At("deribit", "GET /api/v2/private/buy");
    at.counts(&[
        (order, "2", "6 USDC"),
        (r#"{"instrument_name":"BTC_USDC","amount":"2","price":"3"}"#, "2", "6 USDC"),
        (
            &with(order, r#""label":"a","mmp":"true","post_only":"true","reduce_only":"true""#),
            "2",
            "6 USDC",
        ),
        (&with(order, r#""contracts":"1000""#), NONE, NONE),
        (&with(order, r#""advanced":"usd""#), "2", NONE),
        (&with(order, r#""advanced":"implv""#), "2", NONE),
        (&with(order, r#""advanced":"""#), "2", NONE),
        (&order.replace("limit", "stop_limit"), "2", NONE),
        (&order.replace("limit", "market"), "2", NONE),
        (&order.replace("limit", "Limit"), NONE, NONE),
        (&order.replace("limit", ""), NONE, NONE),
        (&order.replace("BTC_USDC", "BTC-PERPETUAL"), "2", NONE),
        (&order.replace("BTC_USDC", "BTC_USDC-PERPETUAL"), "2", NONE),
    ]);
    let second = r#"[{"amount":1000,"direction":"buy"}]"#;
    for text in [
        quoted(second),
        quoted(&format!(" \t\n{second}")),
        quoted(&format!("\u{feff}{second}")),
        second.to_owned(),
    ] {
        at.knows_nothing(&[&with(
            order,
            &format!(r#""linked_order_type":"one_triggers_other","otoco_config":{text}"#),
        )]);
    }
    at.knows_nothing(&[
        &with(order, r#""otoco_config[0][amount]":"1000""#),
        &with(order, &format!(r#""label":{}"#, quoted(second))),
    ]);
    let edit = r#"{"order_id":"7","amount":"2","price":"3","instrument_name":"BTC_USDC"}"#;
    At("deribit", "GET /api/v2/private/edit").knows_nothing(&[edit]);
}

/// <https://www.htx.com/en-us/opend/newApiPages/>: the body of an order is not signed.
#[test]
fn no_order_of_htx_is_counted() {
    let order =
        r#"{"symbol":"btcusdt","type":"buy-limit","amount":"1","price":"1","client-order-id":"a"}"#;
    for path in [
        "POST /v1/order/orders/place",
        "POST /v1/order/auto/place",
        "POST /v2/algo-orders",
        "POST /api/v1/contract_order",
        "POST /api/v1/contract_trigger_order",
        "POST /api/v1/contract_tpsl_order",
        "POST /api/v1/contract_track_order",
        "POST /api/v1/lightning_close_position",
        "POST /swap-api/v1/swap_order",
        "POST /swap-api/v1/swap_trigger_order",
        "POST /swap-api/v1/swap_tpsl_order",
        "POST /swap-api/v1/swap_lightning_close_position",
        "POST /v5/trade/order",
        "POST /v5/algo/order",
        "POST /v5/trade/position_all",
    ] {
        At("htx", path).knows_nothing(&[order]);
        assert!(!At("htx", path).is_within("btcusdt", order), "{path}");
    }
    At("htx", "POST /v1/order/batch-orders").knows_nothing(&[&format!("[{order}]")]);
}
