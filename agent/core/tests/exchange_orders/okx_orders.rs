//! Tests the orders of OKX: <https://www.okx.com/docs-v5/en/>, and python-okx 0.4.4.

use crate::{At, NONE, with};

const ORDER: At = At("okx", "POST /api/v5/trade/order");
const ALGO: At = At("okx", "POST /api/v5/trade/order-algo");
const LIMIT: &str =
    r#"{"instId":"BTC-USDT","tdMode":"cash","side":"buy","ordType":"limit","sz":"2","px":"3"}"#;

#[test]
fn a_unit_is_that_of_spot_and_of_nothing_else() {
    let market = |mode: &str, side: &str, unit: &str| {
        let order = format!(
            r#"{{"instId":"BTC-USDT","tdMode":"{mode}","side":"{side}","ordType":"market",
                "sz":"2"}}"#
        );
        if unit.is_empty() { order } else { with(&order, &format!(r#""tgtCcy":"{unit}""#)) }
    };
    for (mode, side, unit, size, worth) in [
        ("cash", "buy", "", NONE, "2 USDT"),
        ("cash", "buy", "quote_ccy", NONE, "2 USDT"),
        ("cash", "buy", "base_ccy", "2", NONE),
        ("cash", "sell", "", "2", NONE),
        ("cash", "sell", "base_ccy", "2", NONE),
        ("cash", "sell", "quote_ccy", NONE, "2 USDT"),
        // On margin, a sale is always sized in the base asset. Limits count it only if the order
        // says so.
        ("cross", "sell", "base_ccy", "2", NONE),
        ("cross", "sell", "quote_ccy", NONE, NONE),
        ("isolated", "buy", "quote_ccy", NONE, NONE),
        ("isolated", "buy", "base_ccy", NONE, NONE),
        ("spot_isolated", "sell", "quote_ccy", NONE, NONE),
        ("CASH", "buy", "quote_ccy", NONE, NONE),
        // Other spellings are neither a unit nor a side.
        ("cash", "buy", "QUOTE_CCY", NONE, NONE),
        ("cash", "buy", " quote_ccy", NONE, NONE),
        ("cash", "buy", "base", NONE, NONE),
        ("cash", "Buy", "", NONE, NONE),
        ("cash", "SELL", "", NONE, NONE),
    ] {
        ORDER.counts(&[(&market(mode, side, unit), size, worth)]);
    }
}

#[test]
fn a_contract_is_counted_in_contracts() {
    let swap =
        r#"{"instId":"BTC-USDT-SWAP","tdMode":"cross","side":"buy","ordType":"market","sz":"2"}"#;
    ORDER.counts(&[
        (swap, "2", NONE),
        (&with(swap, r#""tgtCcy":"base_ccy""#), "2", NONE),
        (&with(swap, r#""tgtCcy":"quote_ccy""#), NONE, NONE),
        (&with(swap, r#""tgtCcy":"margin""#), NONE, NONE),
    ]);
}

#[test]
fn a_price_of_another_kind_is_none() {
    ORDER.counts(&[(LIMIT, "2", "6 USDT")]);
    for more in [
        r#""pxUsd":"9000000""#,
        r#""pxVol":"1""#,
        r#""pxAmendType":"1""#,
        r#""pxAmendType":1"#,
        r#""tradeQuoteCcy":"USDC""#,
    ] {
        ORDER.counts(&[(&with(LIMIT, more), "2", NONE)]);
    }
    // python-okx sends an empty text for a parameter that it leaves out.
    let empty = r#""ccy":"","clOrdId":"","tag":"","posSide":"","tgtCcy":"","pxUsd":"","pxVol":"",
        "pxAmendType":"0""#;
    ORDER.counts(&[(&with(LIMIT, empty), "2", "6 USDT")]);
}

#[test]
fn prices_of_legs_count_and_legs_at_the_market_cannot() {
    ORDER.counts(&[
        (&with(LIMIT, r#""tpOrdPx":"10""#), "2", "26 USDT"),
        (&with(LIMIT, r#""tpTriggerPx":"10","tpOrdPx":"-1""#), "2", NONE),
        (&with(LIMIT, r#""slTriggerPx":"10","slOrdPx":"20""#), "2", "66 USDT"),
        (&with(LIMIT, r#""attachAlgoOrds":[{"sz":"1000","tpOrdPx":"-1"}]"#), NONE, NONE),
        (&with(LIMIT, r#""attachAlgoOrds":"\t[{\"sz\":\"1000\"}]""#), NONE, NONE),
        (&with(LIMIT, r#""attachAlgoOrds":{"sz":"1000"}"#), NONE, NONE),
        (&with(LIMIT, r#""attachAlgoOrds":[]"#), "2", "6 USDT"),
    ]);
}

#[test]
fn algo_orders_have_a_size_and_no_price() {
    let algo = |instrument: &str, side: &str, kind: &str, more: &str| {
        let order = format!(
            r#"{{"instId":"{instrument}","tdMode":"cash","side":"{side}","ordType":"{kind}",
                "sz":"2"}}"#
        );
        if more.is_empty() { order } else { with(&order, more) }
    };
    for kind in ["chase", "conditional", "iceberg", "move_order_stop", "oco", "trigger", "twap"] {
        ALGO.counts(&[
            // A buy on spot may be sized in the quote asset.
            (&algo("BTC-USDT", "buy", kind, ""), NONE, NONE),
            (&algo("BTC-USDT", "sell", kind, ""), "2", NONE),
            (&algo("BTC-USDT", "sell", kind, r#""tgtCcy":"quote_ccy""#), NONE, NONE),
            (&algo("BTC-USDT-SWAP", "buy", kind, r#""orderPx":"3""#), "2", NONE),
            (
                &algo("BTC-USDT-SWAP", "buy", kind, r#""tpOrdKind":"limit","tpOrdPx":"3""#),
                "2",
                NONE,
            ),
            (&algo("BTC-USDT-SWAP", "sell", kind, r#""closeFraction":"1""#), NONE, NONE),
            (&algo("BTC-USDT-SWAP", "sell", kind, r#""closeFraction":0.5"#), NONE, NONE),
            (&algo("BTC-USDT-SWAP", "sell", kind, r#""closeFraction":"""#), "2", NONE),
            (
                &algo(
                    "BTC-USDT-SWAP",
                    "buy",
                    kind,
                    r#""attachAlgoOrds":[{"tpOrdPx":"-1","sz":"9000"}]"#,
                ),
                NONE,
                NONE,
            ),
            (&algo("BTC-USDT-SWAP", "buy", kind, r#""advanceOrdType":"chase""#), "2", NONE),
            (
                &algo(
                    "BTC-USDT-SWAP",
                    "buy",
                    kind,
                    r#""advChaseParams":[{"chaseType":"distance"}]"#,
                ),
                NONE,
                NONE,
            ),
        ]);
    }
    ALGO.knows_nothing(&[
        &algo("BTC-USDT", "sell", "smart_iceberg", ""),
        &algo("BTC-USDT", "sell", "Trigger", ""),
    ]);
}

#[test]
fn the_new_size_of_an_algo_order_on_spot_is_in_either_asset() {
    let amend = At("okx", "POST /api/v5/trade/amend-algos");
    amend.counts(&[
        (r#"{"instId":"BTC-USDT-SWAP","algoId":"1","newSz":"2"}"#, "2", NONE),
        (r#"{"instId":"BTC-USDT","algoId":"1","newSz":"2"}"#, NONE, NONE),
        (r#"{"instId":"BTC-USDT","algoClOrdId":"a","newSz":"2","newOrdPx":"1"}"#, NONE, NONE),
        (r#"{"instId":"BTC-USDT","algoId":"","algoClOrdId":"a","newSz":"2"}"#, NONE, NONE),
    ]);
    At("okx", "POST /api/v5/trade/amend-order").counts(&[
        (r#"{"instId":"BTC-USDT","ordId":"1","newSz":"2","newPx":"3"}"#, "2", NONE),
        (r#"{"instId":"BTC-USDT","ordId":"1","newPx":"3"}"#, NONE, NONE),
    ]);
}

#[test]
fn an_instrument_by_its_number_is_within_no_symbols() {
    assert!(ORDER.is_within("BTC-USDT", LIMIT));
    for number in ["1", r#""1""#, "null"] {
        assert!(
            !ORDER.is_within("BTC-USDT", &with(LIMIT, &format!(r#""instIdCode":{number}"#))),
            "{number}"
        );
    }
}
