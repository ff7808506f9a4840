//! Tests the orders of Phemex, Deribit and HTX.

use countersign_core::refusal::Code;

use crate::{At, NONE, quoted, replaced, with};

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
        (&replaced(order, "Limit", "Market"), "2", NONE),
        (&replaced(order, "Limit", "market"), NONE, NONE),
        (&replaced(order, "Limit", "Bracket"), NONE, NONE),
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
    let amended = r#"{"symbol":"BTCUSD","orderID":"a","orderQty":2}"#;
    let at = At("phemex", "PUT /orders/replace");
    at.counts(&[(amended, "2", NONE), (&with(amended, r#""baseQtyEV":100000000"#), NONE, NONE)]);
    let foreign = with(amended, r#""baseQtyEv":100000000"#);
    at.refuses(Code::RequestForbiddenParameter, &[&foreign]);
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
        (&replaced(order, "limit", "stop_limit"), "2", NONE),
        (&replaced(order, "limit", "market"), "2", NONE),
        (&replaced(order, "limit", "Limit"), NONE, NONE),
        (&replaced(order, "limit", ""), NONE, NONE),
        (&replaced(order, "BTC_USDC", "BTC-PERPETUAL"), "2", NONE),
        (&replaced(order, "BTC_USDC", "BTC_USDC-PERPETUAL"), "2", NONE),
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
    at.knows_nothing(&[&with(order, &format!(r#""label":{}"#, quoted(second)))]);
    let indexed = with(order, r#""otoco_config[0][amount]":"1000""#);
    at.refuses(Code::RequestMalformed, &[&indexed]);
    let edit = r#"{"order_id":"7","amount":"2","price":"3","instrument_name":"BTC_USDC"}"#;
    At("deribit", "GET /api/v2/private/edit").knows_nothing(&[edit]);
}

/// <https://www.htx.com/en-us/opend/newApiPages/>: the body of an order is not signed.
///
/// Each order has the names that its path reads, so that it would be counted if its body were
/// signed.
#[test]
fn no_order_of_htx_is_counted() {
    let quarter = r#"{"contract_code":"BTC-USDT","direction":"buy","offset":"open","volume":1"#;
    let order = with_end(quarter, r#""price":1,"order_price_type":"limit","lever_rate":1"#);
    let triggered = with_end(
        quarter,
        r#""trigger_type":"ge","trigger_price":1,"order_price":1,"order_price_type":"limit""#,
    );
    let stop = with_end(quarter, r#""tp_trigger_price":1,"sl_trigger_price":1"#);
    let track = with_end(quarter, r#""callback_rate":0.01,"active_price":1"#);
    let spot =
        r#"{"symbol":"btcusdt","type":"buy-limit","amount":"1","price":"1","client-order-id":"a"}"#;
    let algo = r#"{"symbol":"btcusdt","orderSide":"buy","orderType":"limit","orderSize":"1",
        "orderPrice":"1","stopPrice":"1","clientOrderId":"a"}"#;
    let swap = r#"{"contract_code":"BTC-USDT","side":"buy","type":"limit","volume":"1","price":"1",
        "margin_mode":"cross"}"#;
    for (path, order, symbol) in [
        ("POST /v1/order/orders/place", spot, "btcusdt"),
        ("POST /v1/order/auto/place", spot, "btcusdt"),
        ("POST /v2/algo-orders", algo, "btcusdt"),
        ("POST /api/v1/contract_order", &order, "BTC-USDT"),
        ("POST /api/v1/contract_trigger_order", &triggered, "BTC-USDT"),
        ("POST /api/v1/contract_tpsl_order", &stop, "BTC-USDT"),
        ("POST /api/v1/contract_track_order", &track, "BTC-USDT"),
        ("POST /api/v1/lightning_close_position", quarter_closed(), "BTC-USDT"),
        ("POST /swap-api/v1/swap_order", &order, "BTC-USDT"),
        ("POST /swap-api/v1/swap_trigger_order", &triggered, "BTC-USDT"),
        ("POST /swap-api/v1/swap_tpsl_order", &stop, "BTC-USDT"),
        ("POST /swap-api/v1/swap_lightning_close_position", quarter_closed(), "BTC-USDT"),
        ("POST /v5/trade/order", swap, "BTC-USDT"),
        ("POST /v5/algo/order", swap, "BTC-USDT"),
        ("POST /v5/trade/position_all", "{}", "BTC-USDT"),
    ] {
        let at = At("htx", path);
        at.carries_what_it_reads(order);
        at.is_refused_as_unsigned(order);
        assert!(!at.is_within(symbol, order), "{path}");
    }
    At("htx", "POST /v1/order/batch-orders").is_refused_as_unsigned(&format!("[{spot}]"));
    At("htx", "POST /v5/trade/batch_orders").is_refused_as_unsigned(&format!("[{swap}]"));
}

fn quarter_closed() -> &'static str {
    r#"{"contract_code":"BTC-USDT","volume":1,"direction":"sell"}"#
}

fn with_end(open: &str, more: &str) -> String {
    format!("{open},{more}}}")
}
