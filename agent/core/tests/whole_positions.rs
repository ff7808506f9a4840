//! Tests that limits do not count an order for a whole position by the size that stands beside it.

mod asked;
mod counted;

use counted::{UTA, check};
use countersign_core::request::Method;

use Method::{Post, Put};

#[test]
fn a_strategy_of_bitget_is_for_a_whole_position_unless_it_says_a_part() {
    let strategy = r#"{"category":"USDT-FUTURES","symbol":"BTCUSDT","qty":"0.5","posSide":"long",
        "stopLoss":"90"}"#;
    check(&[
        (
            "bitget",
            Post,
            "/api/v3/trade/place-strategy-order",
            strategy,
            &[
                (r"{}", "- -"),
                (r#"{"tpslMode":"full"}"#, "- -"),
                (r#"{"tpslMode":"Partial"}"#, "- -"),
                (r#"{"tpslMode":""}"#, "- -"),
                (r#"{"tpslMode":null}"#, "- -"),
                (r#"{"tpslMode":"partial"}"#, "0.5 -"),
                (r#"{"tpslMode":"partial","qty":"0"}"#, "- -"),
            ],
        ),
        (
            "bitget",
            Post,
            "/api/v3/trade/place-order",
            UTA,
            &[
                (r"{}", "0.5 50.0"),
                (r#"{"tpslMode":"full"}"#, "- -"),
                (r#"{"tpslMode":"partial"}"#, "0.5 50.0"),
            ],
        ),
    ]);
}

#[test]
fn what_turns_a_position_round_has_no_size_of_its_own() {
    let turn = r#"{"symbol":"BTCUSDT","productType":"USDT-FUTURES","marginCoin":"USDT"}"#;
    let old = r#"{"symbol":"BTCUSDT_UMCBL","marginCoin":"USDT","side":"open_long",
        "orderType":"limit","size":"0.5","price":"100"}"#;
    check(&[
        (
            "bitget",
            Post,
            "/api/v2/mix/order/click-backhand",
            turn,
            &[
                (r"{}", "- -"),
                (r#"{"size":"0.5"}"#, "- -"),
                (r#"{"size":"0.5","tradeSide":"open","side":"buy"}"#, "- -"),
            ],
        ),
        (
            "bitget",
            Post,
            "/api/v2/mix/order/close-positions",
            turn,
            &[(r#"{"marginCoin":null}"#, "- -")],
        ),
        (
            "bitget",
            Post,
            "/api/mix/v1/order/placeOrder",
            old,
            &[
                (r"{}", "0.5 -"),
                (r#"{"reverse":true}"#, "- -"),
                (r#"{"reverse":"false"}"#, "0.5 -"),
                (r#"{"reverse":"TRUE"}"#, "- -"),
                (r#"{"reverse":1}"#, "- -"),
            ],
        ),
    ]);
}

#[test]
fn a_stop_of_a_position_is_an_order_for_the_whole_of_it() {
    let bybit = r#"{"category":"linear","symbol":"BTCUSDT","positionIdx":0}"#;
    let bitget = r#"{"symbol":"BTCUSDT","productType":"USDT-FUTURES","marginCoin":"USDT",
        "holdSide":"long"}"#;
    let coinex = r#"{"market":"BTCUSDT","market_type":"FUTURES"}"#;
    check(&[
        (
            "bybit",
            Post,
            "/v5/position/trading-stop",
            bybit,
            &[
                (r#"{"stopLoss":"1"}"#, "- -"),
                (r#"{"takeProfit":"1"}"#, "- -"),
                (r#"{"trailingStop":"5"}"#, "- -"),
                (r#"{"stopLoss":"1","tpslMode":"Full"}"#, "- -"),
                (r#"{"stopLoss":"1","tpslMode":"Partial","slSize":"0.5"}"#, "- -"),
                (
                    r#"{"stopLoss":"1","takeProfit":"2","tpslMode":"Partial","slSize":"0.5",
                        "tpSize":"0.5"}"#,
                    "- -",
                ),
                (r"{}", "- -"),
            ],
        ),
        (
            "bybit",
            Post,
            "/v5/order/create",
            r#"{"category":"linear","symbol":"BTCUSDT","side":"Buy","orderType":"Limit","qty":"0.5",
                "price":"100","positionIdx":0}"#,
            &[
                (r#"{"stopLoss":"90"}"#, "0.5 95.0"),
                (r#"{"stopLoss":"90","tpslMode":"Partial"}"#, "0.5 95.0"),
                (r#"{"stopLoss":"90","tpslMode":"Full"}"#, "- -"),
                (r#"{"stopLoss":"90","tpslMode":"partial"}"#, "- -"),
                (r#"{"qty":"0","reduceOnly":true,"closeOnTrigger":true}"#, "- -"),
            ],
        ),
        (
            "bitget",
            Post,
            "/api/v2/mix/order/place-pos-tpsl",
            bitget,
            &[(r#"{"stopLossTriggerPrice":"1"}"#, "- -")],
        ),
        (
            "bitget",
            Post,
            "/api/v2/mix/order/place-tpsl-order",
            bitget,
            &[
                (r#"{"planType":"loss_plan","triggerPrice":"1","size":"0.5"}"#, "0.5 -"),
                (r#"{"planType":"pos_loss","triggerPrice":"1","size":"0.5"}"#, "- -"),
                (r#"{"planType":"POS_LOSS","triggerPrice":"1","size":"0.5"}"#, "- -"),
                (r#"{"planType":"loss_plan","triggerPrice":"1","size":""}"#, "- -"),
            ],
        ),
        // The order may be for a whole position. Its size then means nothing.
        (
            "bitget",
            Post,
            "/api/v2/mix/order/modify-tpsl-order",
            bitget,
            &[(r#"{"orderId":"1","size":"0.5"}"#, "- -")],
        ),
        (
            "coinex",
            Post,
            "/v2/futures/set-position-stop-loss",
            coinex,
            &[
                (r#"{"stop_loss_price":"1"}"#, "- -"),
                (r#"{"stop_loss_price":"1","stop_loss_amount":"0.5"}"#, "- -"),
            ],
        ),
        (
            "coinex",
            Post,
            "/v2/futures/set-position-take-profit",
            coinex,
            &[(r#"{"take_profit_price":"1"}"#, "- -")],
        ),
    ]);
}

#[test]
fn contracts_of_bitmex_are_counted_where_all_words_of_the_order_are_known() {
    let order = r#"{"symbol":"XBTUSD","side":"Buy","orderQty":5,"price":100}"#;
    check(&[
        (
            "bitmex",
            Post,
            "/api/v1/order",
            order,
            &[
                (r"{}", "5 -"),
                (r#"{"ordType":"Market"}"#, "5 -"),
                (r#"{"ordType":"market"}"#, "- -"),
                (r#"{"ordType":"Stop","stopPx":1}"#, "5 -"),
                (
                    r#"{"ordType":"Pegged","pegOffsetValue":-1,"pegPriceType":"TrailingStopPeg"}"#,
                    "5 -",
                ),
                (r#"{"orderQty":-5}"#, "- -"),
                (r#"{"orderQty":0}"#, "- -"),
                (r#"{"orderQty":null}"#, "- -"),
                (r#"{"orderQty":"5"}"#, "5 -"),
                (r#"{"orderQty":[5]}"#, "- -"),
                (r#"{"execInst":"ReduceOnly"}"#, "5 -"),
                (r#"{"execInst":"ParticipateDoNotInitiate"}"#, "5 -"),
                (r#"{"execInst":"Close"}"#, "- -"),
                (r#"{"execInst":"close"}"#, "- -"),
                (r#"{"execInst":"Close,ReduceOnly"}"#, "- -"),
                (r#"{"execInst":"ReduceOnly, Close"}"#, "- -"),
                (r#"{"execInst":["Close"]}"#, "- -"),
                (r#"{"execInst":""}"#, "- -"),
                (r#"{"simpleOrderQty":1000}"#, "- -"),
                (r#"{"leavesQty":1000}"#, "- -"),
                (r#"{"displayQty":0}"#, "5 -"),
                (r#"{"contingencyType":"OneTriggersTheOther","clOrdLinkID":"x"}"#, "5 -"),
            ],
        ),
        (
            "bitmex",
            Put,
            "/api/v1/order",
            r#"{"orderID":"x"}"#,
            &[
                (r#"{"orderQty":5}"#, "- -"),
                (r#"{"orderQty":5,"leavesQty":9}"#, "- -"),
                (r#"{"simpleLeavesQty":5}"#, "- -"),
                (r#"{"price":5}"#, "- -"),
            ],
        ),
        (
            "bitmex",
            Post,
            "/api/v1/order/closePosition",
            r#"{"symbol":"XBTUSD"}"#,
            &[(r"{}", "- -"), (r#"{"price":1}"#, "- -")],
        ),
    ]);
}
