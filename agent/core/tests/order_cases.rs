//! What is counted of orders by the words of their own exchange: units, whole positions, further legs, prices of another kind.

mod asked;

use asked::request;
use countersign_core::exchange::classify::{Order, classify};
use countersign_core::exchange::{Exchange, named, worth};
use countersign_core::json::Value;
use countersign_core::request::Method;

use Method::{Post, Put};

/// Size and worth of all orders of a request; `-` where a client with such a limit is refused.
fn counted(name: &str, method: Method, path: &str, params: &str) -> String {
    let exchange = named(name).expect("in the registry");
    let asked = request(method, path, Value::parse(params).expect(params)).expect(params);
    // A Coinbase token does not cover the body.
    let algorithm = *exchange.facts().algorithms.last().expect("an algorithm");
    let Ok(classified) = classify(exchange, algorithm, &asked) else { return "refused".to_owned() };
    let Ok(orders) = &classified.orders else { return "- -".to_owned() };
    let sized = orders.iter().filter(|order| order.sized).map(|order| said(exchange, order));
    sized.collect::<Vec<_>>().join(" + ")
}

fn said(exchange: &dyn Exchange, order: &Order<'_>) -> String {
    let size = worth::size(exchange, order).map_or_else(|_| "-".to_owned(), |size| size.to_string());
    let worth = worth::notional(exchange, order).map_or_else(|_| "-".to_owned(), |(_, amount)| amount.to_string());
    format!("{size} {worth}")
}

/// An order with `more` in it, a name of `order` in place of its own.
fn with(order: &str, more: &str) -> String {
    let members = |text: &str| Value::parse(text).expect(text).members().expect(text).to_vec();
    let (mut all, more) = (members(order), members(more));
    all.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
    Value::Object(all.into_iter().chain(more).collect()).to_json()
}

/// One endpoint: an order of it, and what is counted with more in it.
type Cases<'a> = (&'a str, Method, &'a str, &'a str, &'a [(&'a str, &'a str)]);

fn check(endpoints: &[Cases<'_>]) {
    for (exchange, method, path, order, cases) in endpoints {
        for (more, expected) in *cases {
            let found = counted(exchange, *method, path, &with(order, more));
            assert_eq!(found, *expected, "{exchange} {method} {path} {more}");
        }
    }
}

const UTA: &str =
    r#"{"category":"USDT-FUTURES","symbol":"BTCUSDT","side":"buy","orderType":"limit","qty":"0.5","price":"100"}"#;

#[test]
fn a_plan_of_bitget_says_in_which_asset_it_is_sized() {
    let plan = r#"{"symbol":"BTCUSDT","side":"buy","orderType":"market","size":"900","triggerPrice":"1","triggerType":"mark_price"}"#;
    check(&[(
        "bitget",
        Post,
        "/api/v2/spot/trade/place-plan-order",
        plan,
        &[
            // Without a word it is `amount`.
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
fn a_strategy_of_bitget_is_for_a_whole_position_unless_it_says_a_part() {
    let strategy = r#"{"category":"USDT-FUTURES","symbol":"BTCUSDT","qty":"0.5","posSide":"long","stopLoss":"90"}"#;
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
            &[(r"{}", "0.5 50.0"), (r#"{"tpslMode":"full"}"#, "- -"), (r#"{"tpslMode":"partial"}"#, "0.5 50.0")],
        ),
    ]);
}

#[test]
fn what_turns_a_position_round_has_no_size_of_its_own() {
    let turn = r#"{"symbol":"BTCUSDT","productType":"USDT-FUTURES","marginCoin":"USDT"}"#;
    let old = r#"{"symbol":"BTCUSDT_UMCBL","marginCoin":"USDT","side":"open_long","orderType":"limit","size":"0.5","price":"100"}"#;
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
        ("bitget", Post, "/api/v2/mix/order/close-positions", turn, &[(r#"{"marginCoin":null}"#, "- -")]),
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
fn an_order_that_trails_the_market_keeps_to_no_price() {
    let plan = r#"{"planType":"normal_plan","symbol":"BTCUSDT","productType":"USDT-FUTURES","marginMode":"crossed","marginCoin":"USDT","size":"0.5","price":"100","triggerPrice":"90","triggerType":"mark_price","side":"buy","orderType":"limit"}"#;
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

#[test]
fn the_kind_of_market_is_one_of_a_closed_list() {
    let mix = r#"{"symbol":"BTCUSDT","productType":"USDT-FUTURES","marginMode":"crossed","marginCoin":"USDT","side":"buy","orderType":"limit","size":"0.5","price":"100"}"#;
    let spot = r#"{"symbol":"BTCUSDT","side":"buy","orderType":"limit","force":"gtc","size":"0.5","price":"100"}"#;
    let bybit =
        r#"{"category":"linear","symbol":"BTCUSDT","side":"Buy","orderType":"Limit","qty":"0.5","price":"100"}"#;
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
                    r#"{"orders":[{"market":"BTCUSDT","market_type":"FUTURES","side":"buy","type":"market","amount":"0.5"}]}"#,
                    "0.5 -",
                ),
                (
                    r#"{"orders":[{"market":"BTCUSDT","market_type":"SPOT","side":"buy","type":"market","amount":"0.5"}]}"#,
                    "- -",
                ),
            ],
        ),
        (
            "coinex",
            Post,
            "/v2/futures/close-position",
            r#"{"market":"BTCUSDT","market_type":"FUTURES","type":"market"}"#,
            &[(r"{}", "- -"), (r#"{"amount":"0.5"}"#, "0.5 -"), (r#"{"amount":"0"}"#, "- -")],
        ),
    ]);
}

#[test]
fn a_stop_of_a_position_is_an_order_for_the_whole_of_it() {
    let bybit = r#"{"category":"linear","symbol":"BTCUSDT","positionIdx":0}"#;
    let bitget = r#"{"symbol":"BTCUSDT","productType":"USDT-FUTURES","marginCoin":"USDT","holdSide":"long"}"#;
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
                (r#"{"stopLoss":"1","takeProfit":"2","tpslMode":"Partial","slSize":"0.5","tpSize":"0.5"}"#, "- -"),
                (r"{}", "- -"),
            ],
        ),
        (
            "bybit",
            Post,
            "/v5/order/create",
            r#"{"category":"linear","symbol":"BTCUSDT","side":"Buy","orderType":"Limit","qty":"0.5","price":"100","positionIdx":0}"#,
            &[
                (r#"{"stopLoss":"90"}"#, "0.5 95.0"),
                (r#"{"stopLoss":"90","tpslMode":"Partial"}"#, "0.5 95.0"),
                (r#"{"stopLoss":"90","tpslMode":"Full"}"#, "- -"),
                (r#"{"stopLoss":"90","tpslMode":"partial"}"#, "- -"),
                (r#"{"qty":"0","reduceOnly":true,"closeOnTrigger":true}"#, "- -"),
            ],
        ),
        ("bitget", Post, "/api/v2/mix/order/place-pos-tpsl", bitget, &[(r#"{"stopLossTriggerPrice":"1"}"#, "- -")]),
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
        ("coinex", Post, "/v2/futures/set-position-stop-loss", coinex, &[(r#"{"stop_loss_price":"1"}"#, "- -")]),
        ("coinex", Post, "/v2/futures/set-position-take-profit", coinex, &[(r#"{"take_profit_price":"1"}"#, "- -")]),
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
                (r#"{"ordType":"Pegged","pegOffsetValue":-1,"pegPriceType":"TrailingStopPeg"}"#, "5 -"),
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

#[test]
fn orders_of_binance_count_by_what_their_own_market_uses() {
    let spot = r#"{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT","quantity":"0.5","price":"100"}"#;
    let conditional = r#"{"algoType":"CONDITIONAL","symbol":"BTCUSDT","side":"BUY","type":"STOP","quantity":"0.5","price":"100","triggerPrice":"90"}"#;
    check(&[
        (
            "binance",
            Post,
            "/api/v3/order",
            spot,
            &[
                (r#"{"newOrderRespType":"FULL"}"#, "0.5 50.0"),
                (r#"{"type":"TAKE_PROFIT","stopPrice":"90"}"#, "0.5 -"),
                (r#"{"type":"TAKE_PROFIT","stopPrice":"90","strategyType":1000000}"#, "0.5 - + - -"),
                (r#"{"type":"STOP_LOSS_LIMIT","stopPrice":"90"}"#, "0.5 50.0"),
                (r#"{"type":"limit"}"#, "- -"),
                (r#"{"type":"LIMIT\n"}"#, "- -"),
                (r#"{"type":""}"#, "- -"),
                (r#"{"type":null}"#, "- -"),
                (r#"{"quoteOrderQty":"50"}"#, "- -"),
                (r#"{"pegPriceType":"PRIMARY_PEG"}"#, "0.5 -"),
                (r#"{"pegOffsetValue":"1","pegOffsetType":"PRICE_LEVEL"}"#, "0.5 -"),
                (r#"{"closePosition":"true"}"#, "refused"),
            ],
        ),
        (
            "binance",
            Post,
            "/api/v3/order",
            r#"{"symbol":"BTCUSDT","side":"BUY","type":"MARKET"}"#,
            &[
                (r#"{"quoteOrderQty":"50"}"#, "- 50"),
                (r#"{"quoteOrderQty":"50","quantity":"0.5"}"#, "- -"),
                (r#"{"type":"LIMIT","quoteOrderQty":"50","price":"1"}"#, "- -"),
                (r#"{"quantity":"0.5","price":"0.01"}"#, "0.5 -"),
            ],
        ),
        (
            "binance",
            Post,
            "/api/v3/sor/order",
            spot,
            &[(r"{}", "0.5 50.0"), (r#"{"quoteOrderQty":"1000000"}"#, "- -"), (r#"{"type":"MARKET"}"#, "0.5 -")],
        ),
        (
            "binance",
            Post,
            "/fapi/v1/order",
            spot,
            &[
                (r#"{"closePosition":"false"}"#, "0.5 50.0"),
                (r#"{"closePosition":false}"#, "0.5 50.0"),
                (r#"{"closePosition":"true"}"#, "- -"),
                (r#"{"closePosition":true}"#, "- -"),
                (r#"{"closePosition":"TRUE"}"#, "- -"),
                (r#"{"closePosition":1}"#, "- -"),
                (r#"{"closePosition":""}"#, "- -"),
                (r#"{"priceMatch":"NONE"}"#, "0.5 50.0"),
                (r#"{"priceMatch":"none"}"#, "0.5 -"),
                (r#"{"priceMatch":"OPPONENT_20"}"#, "0.5 -"),
                (r#"{"type":"STOP_MARKET","stopPrice":"1"}"#, "0.5 -"),
                (r#"{"type":"TAKE_PROFIT","stopPrice":"1"}"#, "0.5 -"),
                (r#"{"newOrderRespType":"RESULT"}"#, "0.5 50.0"),
            ],
        ),
        (
            "binance",
            Post,
            "/fapi/v1/algoOrder",
            conditional,
            &[
                (r"{}", "0.5 50.0"),
                (r#"{"type":"TAKE_PROFIT"}"#, "0.5 50.0"),
                (r#"{"type":"TAKE_PROFIT_MARKET"}"#, "0.5 -"),
                (r#"{"type":"TRAILING_STOP_MARKET","callbackRate":"1"}"#, "0.5 -"),
                (r#"{"closePosition":"true"}"#, "- -"),
                (r#"{"priceMatch":"QUEUE"}"#, "0.5 -"),
            ],
        ),
        (
            "binance",
            Post,
            "/papi/v1/um/conditional/order",
            r#"{"symbol":"BTCUSDT","side":"BUY","strategyType":"TAKE_PROFIT","quantity":"0.5","price":"100","stopPrice":"90"}"#,
            &[(r"{}", "0.5 50.0"), (r#"{"strategyType":"TAKE_PROFIT_MARKET"}"#, "0.5 -")],
        ),
        (
            "binance",
            Put,
            "/fapi/v1/order",
            r#"{"symbol":"BTCUSDT","side":"BUY","orderId":1,"quantity":"0.5","price":"100"}"#,
            &[(r"{}", "0.5 50.0"), (r#"{"priceMatch":"QUEUE"}"#, "0.5 -")],
        ),
        (
            "binance",
            Post,
            "/eapi/v1/order",
            spot,
            &[(r#"{"symbol":"BTC-240628-60000-C"}"#, "0.5 -"), (r#"{"type":"MARKET"}"#, "0.5 -")],
        ),
    ]);
}

#[test]
fn lists_of_orders_that_trigger_each_other_are_not_read_on_binance() {
    let pair = r#"{"symbol":"BTCUSDT","side":"BUY","quantity":"0.5"}"#;
    let working = r#"{"symbol":"BTCUSDT","workingType":"LIMIT","workingSide":"BUY","workingQuantity":"0.5","workingPrice":"100"}"#;
    let pending = r#"{"pendingType":"MARKET","pendingSide":"SELL","pendingQuantity":"1000"}"#;
    let above =
        r#"{"pendingSide":"SELL","pendingQuantity":"1000","pendingAboveType":"LIMIT_MAKER","pendingAbovePrice":"1"}"#;
    check(&[
        ("binance", Post, "/api/v3/order/oco", pair, &[(r#"{"price":"100","stopPrice":"90000"}"#, "0.5 -")]),
        ("binance", Post, "/sapi/v1/margin/order/oco", pair, &[(r#"{"price":"100","stopPrice":"90000"}"#, "0.5 -")]),
        (
            "binance",
            Post,
            "/api/v3/orderList/oco",
            pair,
            &[(
                r#"{"aboveType":"STOP_LOSS","aboveStopPrice":"90000","belowType":"LIMIT_MAKER","belowPrice":"1"}"#,
                "0.5 -",
            )],
        ),
        ("binance", Post, "/api/v3/orderList/oto", working, &[(pending, "- -")]),
        (
            "binance",
            Post,
            "/api/v3/orderList/opo",
            working,
            &[(r#"{"pendingType":"MARKET","pendingSide":"SELL"}"#, "- -")],
        ),
        ("binance", Post, "/api/v3/orderList/otoco", working, &[(above, "- -")]),
        ("binance", Post, "/sapi/v1/margin/order/oto", working, &[(pending, "- -")]),
        ("binance", Post, "/sapi/v1/margin/order/otoco", working, &[(above, "- -")]),
        (
            "binance",
            Post,
            "/eapi/v1/block/order/create",
            r#"{"liquidity":"MAKER"}"#,
            &[(r#"{"legs":"[{\"symbol\":\"BTC-240628-60000-C\",\"quantity\":\"1000\"}]"}"#, "- -")],
        ),
        (
            "binance",
            Post,
            "/sapi/v1/convert/limit/placeOrder",
            r#"{"baseAsset":"BTC","quoteAsset":"USDT","limitPrice":"1","side":"BUY","baseAmount":"1000"}"#,
            &[(r"{}", "- -")],
        ),
        ("binance", Post, "/sapi/v1/convert/acceptQuote", r#"{"quoteId":"1"}"#, &[(r"{}", "- -")]),
    ]);
}

#[test]
fn units_and_legs_of_the_others_count_as_they_say() {
    let bitfinex = r#"{"type":"EXCHANGE LIMIT","symbol":"tBTCUSD","amount":"0.5","price":"100"}"#;
    let backpack = r#"{"symbol":"BTC_USDC","side":"Bid","orderType":"Limit","quantity":"0.5","price":"100"}"#;
    let parent = r#"{"order_method":"IFDOCO","parameters":[{"product_code":"BTC_JPY","condition_type":"LIMIT","side":"BUY","size":0.5,"price":100},{"product_code":"BTC_JPY","condition_type":"LIMIT","side":"SELL","size":0.5,"price":110},{"product_code":"BTC_JPY","condition_type":"STOP","side":"SELL","size":900,"trigger_price":90}]}"#;
    check(&[
        (
            "bitfinex",
            Post,
            "/v2/auth/w/order/submit",
            bitfinex,
            &[
                (r"{}", "0.5 50.0"),
                (r#"{"amount":"-0.5"}"#, "0.5 50.0"),
                (r#"{"amount":"--0.5"}"#, "- -"),
                (r#"{"amount":"-0"}"#, "- -"),
                (r#"{"flags":4096}"#, "0.5 50.0"),
                (r#"{"flags":512}"#, "- -"),
                (r#"{"flags":576}"#, "- -"),
                (r#"{"flags":"0x200"}"#, "- -"),
                (r#"{"flags":16384,"price_oco_stop":"90000"}"#, "- -"),
                (r#"{"price_oco_stop":"90"}"#, "0.5 95.0"),
                (r#"{"meta":"{\"close\":1}"}"#, "- -"),
                (r#"{"type":"exchange limit"}"#, "- -"),
                (r#"{"type":"EXCHANGE STOP LIMIT","price_aux_limit":"1"}"#, "0.5 -"),
            ],
        ),
        (
            "backpack",
            Post,
            "/api/v1/order",
            backpack,
            &[
                (r"{}", "0.5 50.0"),
                (r#"{"triggerQuantity":"1000"}"#, "- -"),
                (r#"{"quoteQuantity":"1000"}"#, "- -"),
                (r#"{"orderType":"Market","quantity":null,"quoteQuantity":"50"}"#, "- 50"),
                (r#"{"orderType":"Market"}"#, "0.5 -"),
                (r#"{"stopLossLimitPrice":"90"}"#, "0.5 95.0"),
            ],
        ),
        ("bitflyer", Post, "/v1/me/sendparentorder", parent, &[(r"{}", "0.5 50.0 + 0.5 55.0 + 900 -")]),
        (
            "bitso",
            Post,
            "/api/v3/orders",
            r#"{"book":"btc_mxn","side":"buy","type":"limit","price":"100"}"#,
            &[
                (r#"{"major":"0.5"}"#, "0.5 50.0"),
                (r#"{"minor":"50"}"#, "- 50"),
                (r#"{"major":"0.5","minor":"50"}"#, "- -"),
                (r#"{"major":"0.5","type":"market"}"#, "0.5 -"),
            ],
        ),
        (
            "bitstamp",
            Post,
            "/api/v2/sell/instant/btcusd/",
            r#"{"amount":"0.5"}"#,
            &[
                (r"{}", "0.5 -"),
                (r#"{"amount_in_counter":"True"}"#, "- -"),
                (r#"{"amount_in_counter":1}"#, "- -"),
                (r#"{"amount_in_counter":false}"#, "0.5 -"),
            ],
        ),
        (
            "bitstamp",
            Post,
            "/api/v2/buy/btcusd/",
            r#"{"amount":"0.5","price":"100"}"#,
            &[(r"{}", "0.5 50.0"), (r#"{"limit_price":"200"}"#, "0.5 150.0")],
        ),
        (
            "bitvavo",
            Post,
            "/v2/order",
            r#"{"market":"BTC-EUR","side":"buy","orderType":"limit","amount":"0.5","price":"100"}"#,
            &[
                (r"{}", "0.5 50.0"),
                (r#"{"amountRemaining":"1000"}"#, "- -"),
                (r#"{"amountQuote":"50"}"#, "- -"),
                (r#"{"orderType":"stopLoss"}"#, "0.5 -"),
                (r#"{"orderType":"stoplosslimit"}"#, "- -"),
            ],
        ),
        (
            "coinbaseexchange",
            Post,
            "/orders",
            r#"{"product_id":"BTC-USD","side":"buy","size":"0.5","price":"100"}"#,
            &[
                (r"{}", "0.5 50.0"),
                (r#"{"type":null}"#, "0.5 50.0"),
                (r#"{"type":"Limit"}"#, "- -"),
                (r#"{"funds":"50"}"#, "- -"),
                (r#"{"type":"market"}"#, "0.5 -"),
                (r#"{"stop_limit_price":"200"}"#, "0.5 150.0"),
            ],
        ),
        (
            "coinbase",
            Post,
            "/api/v3/brokerage/orders/close_position",
            r#"{"product_id":"BTC-PERP-INTX","client_order_id":"x"}"#,
            &[(r"{}", "- -"), (r#"{"size":"0.5"}"#, "0.5 -")],
        ),
    ]);
}
