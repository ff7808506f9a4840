//! Tests the orders of Kraken spot and futures:
//! <https://docs.kraken.com/api/docs/rest-api/add-order>, and python-kraken-sdk 3.5.1.

use countersign_core::refusal::Code;

use crate::{At, NONE, quoted, replaced, with};

const SPOT: At = At("kraken", "POST /0/private/AddOrder");
const LIMIT: &str =
    r#"{"pair":"XBTUSD","type":"buy","ordertype":"limit","volume":"2","price":"3"}"#;

#[test]
fn a_volume_in_the_quote_currency_is_that_of_market_buys_without_margin() {
    let market = |side: &str, more: &str| {
        with(
            &format!(r#"{{"pair":"XBTUSD","type":"{side}","ordertype":"market","volume":"2"}}"#),
            more,
        )
    };
    let viqc = r#""oflags":"viqc""#;
    SPOT.counts(&[
        (&market("buy", viqc), NONE, "2 USD"),
        (&market("buy", r#""oflags":"fciq,viqc""#), NONE, "2 USD"),
        // If the flag does not apply, the volume would be in the base currency.
        (&market("sell", viqc), NONE, NONE),
        (&market("Buy", viqc), NONE, NONE),
        (&market("buy", r#""oflags":"viqc","leverage":"2""#), NONE, NONE),
        (&market("buy", r#""oflags":"viqc","margin":true"#), NONE, NONE),
        (&with(LIMIT, viqc), NONE, NONE),
    ]);
}

#[test]
fn flags_that_nobody_knows_leave_no_unit() {
    for flags in ["VIQC", "fciq viqc", "fciq;viqc", " viqc", "post, viqc", "viqc,all", "0", "Post"]
    {
        let flags = format!(r#""oflags":"{flags}""#);
        SPOT.knows_nothing(&[
            &with(LIMIT, &flags),
            &with(&replaced(LIMIT, "limit", "market"), &flags),
        ]);
    }
    SPOT.knows_nothing(&[&with(LIMIT, r#""oflags":["viqc"]"#), &with(LIMIT, r#""oflags":1"#)]);
    for flags in ["", "post", "post,fcib", "nompp"] {
        SPOT.counts(&[(&with(LIMIT, &format!(r#""oflags":"{flags}""#)), "2", "6 USD")]);
    }
}

#[test]
fn a_close_is_an_order_of_its_own() {
    for close in [
        r#""close":{"ordertype":"limit","price":"90000"}"#,
        r#""close":"{\"ordertype\":\"limit\"}""#,
    ] {
        SPOT.knows_nothing(&[&with(LIMIT, close)]);
    }
    for close in
        [r#""close[ordertype]":"limit""#, r#""close[price]":"90000","close[ordertype]":"limit""#]
    {
        SPOT.refuses(Code::RequestMalformed, &[&with(LIMIT, close)]);
    }
    SPOT.knows_nothing(&[
        &replaced(LIMIT, "limit", "settle-position"),
        &replaced(LIMIT, r#""2""#, r#""0""#),
        &replaced(LIMIT, r#""2""#, r#""0.0""#),
    ]);
}

#[test]
fn margin_and_reference_change_no_size_and_relative_prices_are_none() {
    SPOT.counts(&[
        (&with(LIMIT, r#""leverage":"5","userref":7,"displayvol":"0.1""#), "2", "6 USD"),
        (&with(LIMIT, r#""userref":"[7]""#), NONE, NONE),
        (&replaced(LIMIT, r#""3""#, r#""+3""#), "2", NONE),
        (&replaced(LIMIT, r#""3""#, r#""3%""#), "2", NONE),
        (&replaced(LIMIT, r#""3""#, r##""#3""##), "2", NONE),
        (&replaced(LIMIT, "limit", "stop-loss-limit"), "2", NONE),
        (&replaced(LIMIT, "limit", "Limit"), NONE, NONE),
        (&replaced(LIMIT, "limit", "l"), NONE, NONE),
    ]);
}

const FUTURES: At = At("krakenfutures", "POST /derivatives/api/v3/batchorder");

#[test]
fn a_batch_counts_what_it_sends_as_a_list_and_as_text() {
    let order = |kind: &str, more: &str| {
        with(
            &format!(r#"{{"order":"{kind}","order_tag":"1","symbol":"PF_XBTUSD","side":"buy"}}"#),
            more,
        )
    };
    let sent = order("send", r#""orderType":"lmt","limitPrice":3,"size":2"#);
    let list = format!("[{sent},{sent}]");
    FUTURES.counts(&[
        (&format!(r#"{{"batchOrder":{list}}}"#), "2+2", "-+-"),
        (&format!(r#"{{"batchOrder":{}}}"#, quoted(&list)), "2+2", "-+-"),
    ]);
    let batch = |more: &str| format!(r#"{{"batchOrder":[{}]}}"#, with(&sent, more));
    FUTURES.refuses(
        Code::RequestForbiddenParameter,
        &[
            &format!(r#"{{"json":{}}}"#, quoted(&format!(r#"{{"batchOrder":{list}}}"#))),
            &batch(r#""unfilledSize":1000"#),
        ],
    );
    FUTURES.refuses(
        Code::RequestMalformed,
        &[
            &format!(r#"{{"batchOrder":{}}}"#, quoted(&format!("\u{feff}{list}"))),
            &batch(r#""Size":1000"#),
        ],
    );
}

#[test]
fn what_is_not_sent_anew_is_of_no_symbol() {
    let batch = |order: &str| {
        format!(r#"{{"batchOrder":[{{{order}"symbol":"PF_XBTUSD","size":1,"orderType":"lmt"}}]}}"#)
    };
    assert!(FUTURES.is_within("PF_XBTUSD", &batch(r#""order":"send","#)));
    for order in [
        r#""order":"edit","order_id":"7","#,
        r#""order":"EDIT","#,
        r#""order":"cancel","#,
        r#""order":null,"#,
    ] {
        assert!(!FUTURES.is_within("PF_XBTUSD", &batch(order)), "{order}");
    }
    let edit = At("krakenfutures", "POST /derivatives/api/v3/editorder");
    assert!(!edit.is_within("PF_XBTUSD", r#"{"orderId":"7","size":1000,"limitPrice":3}"#));
}
