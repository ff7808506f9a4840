//! Tests the orders of Upbit, Gemini, Crypto.com and WhiteBIT.

use countersign_core::refusal::Code;

use crate::{At, NONE, quoted, replaced, with};

/// <https://docs.upbit.com/kr/reference/new-order>
#[test]
fn upbit_has_one_price_for_three_meanings() {
    let order = |kind: &str, more: &str| {
        format!(
            r#"{{"market":"KRW-BTC","side":"bid","ord_type":"{kind}"{}{more}}}"#,
            if more.is_empty() { "" } else { "," }
        )
    };
    let (volume, price) = (r#""volume":"2""#, r#""price":"3""#);
    let both = format!("{volume},{price}");
    At("upbit", "POST /v1/orders").counts(&[
        (&order("limit", &both), "2", "6 KRW"),
        (&order("limit", price), NONE, NONE),
        (&order("limit", volume), "2", NONE),
        (&order("price", price), NONE, "3 KRW"),
        (&order("price", &both), NONE, NONE),
        (&order("price", ""), NONE, NONE),
        (&order("market", volume), "2", NONE),
        (&order("market", &both), NONE, NONE),
        (&order("best", volume), "2", NONE),
        // For a buy such a price is the whole cost. A sale has no such price.
        (&order("best", price), NONE, NONE),
        (&order("best", &both), NONE, NONE),
        (&order("Limit", &both), NONE, NONE),
        (&order("", &both), NONE, NONE),
        (&order("limit", &format!(r#"{both},"ordType":"price""#)), "2", "6 KRW"),
    ]);
    At("upbit", "POST /v1/orders/test").counts(&[(&order("price", price), NONE, "3 KRW")]);
    let renewed = r#"{"prev_order_uuid":"a","new_ord_type":"limit","new_volume":"1000",
        "new_price":"1"}"#;
    let at = At("upbit", "POST /v1/orders/cancel_and_new");
    at.knows_nothing(&[renewed]);
    at.refuses(Code::RequestForbiddenParameter, &[&with(renewed, r#""market":"KRW-BTC""#)]);
}

/// <https://docs.gemini.com/rest/orders#create-new-order>
#[test]
fn gemini_lists_the_options_that_change_neither_size_nor_price() {
    let order =
        r#"{"symbol":"btcusd","amount":"2","price":"3","side":"buy","type":"exchange limit"}"#;
    let at = At("gemini", "POST /v1/order/new");
    at.counts(&[
        (&replaced(order, "btcusd", "btcgusd"), "2", "6 gusd"),
        (&replaced(order, "btcusd", "paxgusd"), "2", "6 usd"),
        (&replaced(order, "btcusd", "btcgusdperp"), "2", NONE),
        (&replaced(order, "btcusd", "BTCUSD"), "2", NONE),
    ]);
    at.counts(&[(order, "2", "6 usd"), (&with(order, r#""options":[]"#), "2", "6 usd")]);
    for option in ["maker-or-cancel", "immediate-or-cancel", "fill-or-kill"] {
        at.counts(&[(&with(order, &format!(r#""options":["{option}"]"#)), "2", "6 usd")]);
        at.knows_nothing(&[
            &with(order, &format!(r#""options":["{option}",{{"amount":"1000"}}]"#)),
            &with(order, &format!(r#""options":[["{option}"]]"#)),
            &with(order, &format!(r#""options":{}"#, quoted(&format!(r#"["{option}"]"#)))),
            &with(order, &format!(r#""account":["{option}"]"#)),
        ]);
    }
    for options in [
        r#"["indication-of-interest"]"#,
        r#"["auction-only"]"#,
        r#"["Maker-Or-Cancel"]"#,
        r#"["maker-or-cancel "]"#,
        r#"["maker-or-cancel",1]"#,
        r#"["maker-or-cancel",null]"#,
        r#"{"maker-or-cancel":true}"#,
        "[null]",
    ] {
        at.knows_nothing(&[&with(order, &format!(r#""options":{options}"#))]);
    }
    at.counts(&[
        (
            &with(&replaced(order, "exchange limit", "exchange stop limit"), r#""stop_price":"1""#),
            "2",
            NONE,
        ),
        (&replaced(order, "exchange limit", "exchange market"), "2", NONE),
        (&with(order, r#""total_spend":"1000""#), NONE, NONE),
        (&with(order, r#""min_amount":"1""#), NONE, NONE),
    ]);
}

/// A quote fixes its own size. The order names the quote by a number, which stands beside a
/// quantity.
#[test]
fn gemini_executes_its_quote_and_not_the_quantity_beside_it() {
    let at = At("gemini", "POST /v1/instant/execute");
    let quote =
        r#"{"symbol":"btcusd","side":"buy","quantity":"1","price":"1","fee":"0","quoteId":"7"}"#;
    at.knows_nothing(&[quote]);
    assert!(!at.is_within("btcusd", quote));
}

/// <https://exchange-docs.crypto.com/exchange/v1/rest-ws/index.html#private-create-order>
#[test]
fn a_notional_of_crypto_com_is_that_of_a_market_order_that_buys() {
    let order = |side: &str, kind: &str, more: &str| {
        format!(r#"{{"instrument_name":"BTC_USDT","side":"{side}","type":"{kind}",{more}}}"#)
    };
    let limit = order("BUY", "LIMIT", r#""quantity":"2","price":"3""#);
    At("cryptocom", "POST /exchange/v1/private/create-order").counts(&[
        (&limit, "2", "6 USDT"),
        (&order("BUY", "MARKET", r#""notional":"50""#), NONE, "50 USDT"),
        (&order("SELL", "MARKET", r#""notional":"50""#), NONE, NONE),
        (&order("buy", "MARKET", r#""notional":"50""#), NONE, NONE),
        (&order("SELL", "MARKET", r#""quantity":"2","price":"0.01""#), "2", NONE),
        (&order("SELL", "MARKET", r#""quantity":"1000","notional":"1""#), NONE, NONE),
        (&order("BUY", "STOP_LOSS", r#""notional":"50","ref_price":"1""#), NONE, NONE),
        (&order("BUY", "STOP_LIMIT", r#""quantity":"2","price":"3","ref_price":"1""#), "2", NONE),
        (&order("BUY", "Limit", r#""quantity":"2","price":"3""#), NONE, NONE),
        (&with(&limit, r#""exec_inst":["POST_ONLY"]"#), "2", "6 USDT"),
        (&with(&limit, r#""exec_inst":["SMART_POST_ONLY"]"#), NONE, NONE),
        (&with(&limit, r#""exec_inst":["LIQUIDATION"]"#), NONE, NONE),
        (&with(&limit, r#""exec_inst":["POST_ONLY",{"quantity":"1000"}]"#), NONE, NONE),
    ]);
    let list = |orders: &str| format!(r#"{{"contingency_type":"LIST","order_list":[{orders}]}}"#);
    let sale = order("SELL", "MARKET", r#""notional":"50""#);
    At("cryptocom", "POST /exchange/v1/private/create-order-list").counts(&[
        (&list(&format!("{limit},{limit}")), "2+2", "6 USDT+6 USDT"),
        (&list(&format!("{limit},{sale}")), "2+-", "6 USDT+-"),
    ]);
}

/// <https://docs.whitebit.com/private/http-trade-v4/>, and whitebit-python-sdk 1.1.17.
#[test]
fn an_amount_of_whitebit_is_what_a_market_order_costs_where_it_buys() {
    let order = |side: &str, more: &str| {
        with(&format!(r#"{{"market":"BTC_USDT","side":"{side}","amount":"2"}}"#), more)
    };
    let (plain, priced) = (r#""clientOrderId":"a""#, r#""price":"3""#);
    for path in ["POST /api/v4/order/market", "POST /api/v4/order/stop_market"] {
        At("whitebit", path).counts(&[
            (&order("buy", plain), NONE, "2 USDT"),
            (&order("sell", plain), NONE, NONE),
            (&order("Buy", plain), NONE, NONE),
            (&order("buy", priced), NONE, NONE),
        ]);
    }
    let stop = r#""price":"3","activation_price":"9""#;
    for (path, more, worth) in [
        ("POST /api/v4/order/new", priced, "6 USDT"),
        ("POST /api/v4/order/new", r#""price":"3","bboRole":1"#, NONE),
        ("POST /api/v4/order/stop_limit", stop, "6 USDT"),
        ("POST /api/v4/order/stock_market", plain, NONE),
        ("POST /api/v4/order/collateral/limit", priced, "6 USDT"),
        ("POST /api/v4/order/collateral/limit", r#""price":"3","stopLoss":"10""#, "26 USDT"),
        (
            "POST /api/v4/order/collateral/limit",
            r#""price":"3","stopLoss":"10","takeProfit":"20""#,
            "66 USDT",
        ),
        ("POST /api/v4/order/collateral/market", priced, NONE),
        ("POST /api/v4/order/collateral/trigger-market", stop, NONE),
        ("POST /api/v4/order/collateral/oco", r#""price":"3","stop_limit_price":"10""#, "26 USDT"),
        ("POST /api/v4/order/collateral/oco", r#""price":"3","stop_limit_price":[10]"#, NONE),
        ("POST /api/v4/order/modify", r#""orderId":7,"price":"3""#, "6 USDT"),
    ] {
        let counted = At("whitebit", path).counted(&order("buy", more).replace(
            r#""side":"buy","#,
            if path.ends_with("modify") { "" } else { r#""side":"buy","# },
        ));
        let (size, counted) = counted.expect(path);
        assert_eq!(counted, worth, "{path} {more}");
        assert!(size == "2" || more.contains('['), "{path} {more}: {size}");
    }
    At("whitebit", "POST /api/v4/order/modify").knows_nothing(&[
        r#"{"orderId":7,"market":"BTC_USDT","total":"1","price":"3"}"#,
        r#"{"orderId":7,"market":"BTC_USDT","total":"1000000","amount":"1","price":"3"}"#,
    ]);
    let bulk = |orders: &str| format!(r#"{{"stopOnFail":true,"orders":[{orders}]}}"#);
    let one = order("buy", priced);
    At("whitebit", "POST /api/v4/order/collateral/bulk").counts(&[
        (&bulk(&format!("{one},{one}")), "2+2", "6 USDT+6 USDT"),
        (&bulk(&with(&one, r#""stopLoss":"10""#)), "2", "26 USDT"),
        (&bulk(&with(&one, r#""total":"10""#)), NONE, NONE),
    ]);
}
