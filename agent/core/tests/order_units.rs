//! Tests that limits count an order in the unit that its own parameters name: markets, plans, other
//! assets.

mod asked;
mod counted;

use counted::{UTA, check};
use countersign_core::request::Method;

use Method::Post;

#[test]
fn a_plan_of_bitget_says_in_which_asset_it_is_sized() {
    let plan = r#"{"symbol":"BTCUSDT","side":"buy","orderType":"market","size":"900",
        "triggerPrice":"1","triggerType":"mark_price"}"#;
    check(&[(
        "bitget",
        Post,
        "/api/v2/spot/trade/place-plan-order",
        plan,
        &[
            // Without a `planType` the plan is `amount`.
            (r"{}", "900 -"),
            (r#"{"planType":"amount"}"#, "900 -"),
            (r#"{"planType":"total"}"#, "- 900"),
            (r#"{"planType":"total","side":"sell"}"#, "- 900"),
            (r#"{"planType":"total","orderType":"limit","executePrice":"2"}"#, "- -"),
            (r#"{"planType":"Total"}"#, "- -"),
            (r#"{"planType":"AMOUNT"}"#, "- -"),
            (r#"{"planType":""}"#, "- -"),
            (r#"{"planType":null}"#, "- -"),
            (r#"{"planType":["total"]}"#, "- -"),
            (r#"{"planType":"pos_loss"}"#, "- -"),
            (r#"{"orderType":"limit","executePrice":"2"}"#, "900 1800"),
            (r#"{"orderType":"limit","executePrice":"2","price":"2"}"#, "900 1800"),
            (r#"{"orderType":"limit","executePrice":"2","price":"90000"}"#, "900 -"),
            (r#"{"orderType":"limit","price":"2"}"#, "900 -"),
        ],
    )]);
}

#[test]
fn the_kind_of_market_is_one_of_a_closed_list() {
    let mix = r#"{"symbol":"BTCUSDT","productType":"USDT-FUTURES","marginMode":"crossed",
        "marginCoin":"USDT","side":"buy","orderType":"limit","size":"0.5","price":"100"}"#;
    let spot = r#"{"symbol":"BTCUSDT","side":"buy","orderType":"limit","force":"gtc","size":"0.5",
        "price":"100"}"#;
    let bybit = r#"{"category":"linear","symbol":"BTCUSDT","side":"Buy","orderType":"Limit",
        "qty":"0.5","price":"100"}"#;
    check(&[
        (
            "bitget",
            Post,
            "/api/v3/trade/place-order",
            UTA,
            &[
                (r#"{"category":"SPOT"}"#, "0.5 50.0"),
                (r#"{"category":"SPOT","orderType":"market"}"#, "- 0.5"),
                (r#"{"category":"SPOT","orderType":"market","side":"sell"}"#, "0.5 -"),
                (r#"{"category":"SPOT","orderType":"market","side":"SELL"}"#, "- -"),
                (r#"{"category":"MARGIN","orderType":"market"}"#, "- 0.5"),
                (r#"{"category":"spot"}"#, "- -"),
                (r#"{"category":" SPOT"}"#, "- -"),
                (r#"{"category":"SPOT\t","orderType":"market"}"#, "- -"),
                (r#"{"category":"margin"}"#, "- -"),
                (r#"{"category":"margin","orderType":"market"}"#, "- -"),
                (r#"{"category":"usdt-futures"}"#, "0.5 50.0"),
                (r#"{"category":"Usdt-Futures"}"#, "- -"),
                (r#"{"category":"COIN-FUTURES"}"#, "0.5 -"),
                (r#"{"category":""}"#, "- -"),
                (r#"{"category":null}"#, "- -"),
                (r#"{"category":["SPOT"]}"#, "- -"),
                (r#"{"productType":"SPOT"}"#, "- -"),
                (r#"{"orderType":"Limit"}"#, "- -"),
                (r#"{"orderType":"limit "}"#, "- -"),
            ],
        ),
        (
            "bitget",
            Post,
            "/api/v2/mix/order/place-order",
            mix,
            &[
                (r"{}", "0.5 50.0"),
                (r#"{"productType":"umcbl"}"#, "- -"),
                (r#"{"productType":"USDC-FUTURES"}"#, "0.5 50.0"),
                (r#"{"category":"SPOT"}"#, "- -"),
                (r#"{"presetStopLossPrice":"90"}"#, "0.5 95.0"),
            ],
        ),
        (
            "bitget",
            Post,
            "/api/v2/spot/trade/place-order",
            spot,
            &[
                (r"{}", "0.5 50.0"),
                (r#"{"productType":"USDT-FUTURES"}"#, "- -"),
                (r#"{"category":"USDT-FUTURES"}"#, "- -"),
                (r#"{"planType":"total"}"#, "- -"),
                (r#"{"orderType":"market"}"#, "- 0.5"),
            ],
        ),
        (
            "bybit",
            Post,
            "/v5/order/create",
            bybit,
            &[
                (r"{}", "0.5 50.0"),
                (r#"{"category":"spot"}"#, "0.5 50.0"),
                (r#"{"category":"inverse"}"#, "- -"),
                (r#"{"category":"option"}"#, "0.5 -"),
                (r#"{"category":"Linear"}"#, "- -"),
                (r#"{"category":" linear"}"#, "- -"),
                (r#"{"category":""}"#, "- -"),
                (r#"{"category":"spot","orderType":"Market"}"#, "- 0.5"),
                (r#"{"category":"spot","orderType":"Market","side":"buy"}"#, "- -"),
                (r#"{"category":"spot","orderType":"Market","marketUnit":"baseCoin"}"#, "0.5 -"),
                (r#"{"category":"spot","orderType":"Market","marketUnit":"BaseCoin"}"#, "- -"),
                (r#"{"category":"spot","marketUnit":"quoteCoin"}"#, "- -"),
                (r#"{"orderType":"market"}"#, "- -"),
                (r#"{"bboSideType":"Queue","bboLevel":"1"}"#, "0.5 -"),
                (r#"{"orderIv":"0.1"}"#, "0.5 -"),
            ],
        ),
    ]);
}

#[test]
fn the_path_says_the_market_of_an_order_on_coinex() {
    let order = r#"{"market":"BTCUSDT","side":"buy","type":"limit","amount":"0.5","price":"100"}"#;
    let market = r#"{"market":"BTCUSDT","side":"buy","type":"market","amount":"0.5"}"#;
    check(&[
        (
            "coinex",
            Post,
            "/v2/spot/order",
            order,
            &[
                (r"{}", "0.5 50.0"),
                (r#"{"market_type":"SPOT"}"#, "0.5 50.0"),
                (r#"{"market_type":"MARGIN"}"#, "0.5 50.0"),
                (r#"{"market_type":"FUTURES"}"#, "- -"),
                (r#"{"market_type":"spot"}"#, "- -"),
                (r#"{"market_type":null}"#, "- -"),
                (r#"{"ccy":"USDT"}"#, "- -"),
                (r#"{"type":"ioc"}"#, "0.5 50.0"),
                (r#"{"type":"LIMIT"}"#, "- -"),
            ],
        ),
        (
            "coinex",
            Post,
            "/v2/spot/order",
            market,
            &[
                (r"{}", "- -"),
                (r#"{"market_type":"FUTURES"}"#, "- -"),
                (r#"{"ccy":"USDT"}"#, "- 0.5"),
                (r#"{"ccy":"usdt"}"#, "- -"),
                (r#"{"ccy":"BTC"}"#, "- -"),
            ],
        ),
        (
            "coinex",
            Post,
            "/v2/futures/order",
            market,
            &[
                (r"{}", "0.5 -"),
                (r#"{"market_type":"FUTURES"}"#, "0.5 -"),
                (r#"{"market_type":"FUTURES","is_reduce_only":true}"#, "0.5 -"),
                (r#"{"market_type":"SPOT"}"#, "- -"),
                (r#"{"ccy":"USDT"}"#, "- -"),
                (r#"{"type":"limit","price":"0.01"}"#, "0.5 -"),
            ],
        ),
        (
            "coinex",
            Post,
            "/v2/futures/batch-order",
            r#"{"orders":[]}"#,
            &[
                (
                    r#"{"orders":[{"market":"BTCUSDT","market_type":"FUTURES","side":"buy",
                        "type":"market","amount":"0.5"}]}"#,
                    "0.5 -",
                ),
                (
                    r#"{"orders":[{"market":"BTCUSDT","market_type":"SPOT","side":"buy",
                        "type":"market","amount":"0.5"}]}"#,
                    "- -",
                ),
            ],
        ),
        (
            "coinex",
            Post,
            "/v2/spot/modify-order",
            r#"{"market":"BTCUSDT","market_type":"SPOT","amount":"0.5"}"#,
            &[(r#"{"order_id":1}"#, "0.5 -"), (r#"{"stop_id":1}"#, "- -")],
        ),
        (
            "coinex",
            Post,
            "/v2/spot/modify-stop-order",
            r#"{"market":"BTCUSDT","market_type":"SPOT","amount":"0.5"}"#,
            &[(r#"{"stop_id":1,"trigger_price":"1"}"#, "- -")],
        ),
        (
            "coinex",
            Post,
            "/v2/futures/modify-stop-order",
            r#"{"market":"BTCUSDT","market_type":"FUTURES","amount":"0.5"}"#,
            &[(r#"{"stop_id":1,"trigger_price":"1"}"#, "0.5 -")],
        ),
        (
            "coinex",
            Post,
            "/v2/futures/close-position",
            r#"{"market":"BTCUSDT","market_type":"FUTURES","type":"market"}"#,
            &[
                (r"{}", "- -"),
                (r#"{"amount":"0.5"}"#, "0.5 -"),
                (r#"{"amount":"0.5","position_side":"long"}"#, "0.5 -"),
                (r#"{"amount":"0"}"#, "- -"),
            ],
        ),
    ]);
}

#[test]
fn an_order_that_trails_the_market_keeps_to_no_price() {
    let plan = r#"{"planType":"normal_plan","symbol":"BTCUSDT","productType":"USDT-FUTURES",
        "marginMode":"crossed","marginCoin":"USDT","size":"0.5","price":"100","triggerPrice":"90",
        "triggerType":"mark_price","side":"buy","orderType":"limit"}"#;
    check(&[(
        "bitget",
        Post,
        "/api/v2/mix/order/place-plan-order",
        plan,
        &[
            (r"{}", "0.5 50.0"),
            (r#"{"callbackRatio":""}"#, "0.5 50.0"),
            (r#"{"callbackRatio":"1"}"#, "0.5 -"),
            (r#"{"planType":"track_plan"}"#, "0.5 -"),
            (r#"{"planType":"track_plan","callbackRatio":"1"}"#, "0.5 -"),
            (r#"{"executePrice":"90000"}"#, "0.5 -"),
            (r#"{"planType":"pos_profit"}"#, "- -"),
            (r#"{"stopLossTriggerPrice":"90"}"#, "0.5 95.0"),
        ],
    )]);
}
