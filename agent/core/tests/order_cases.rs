//! Tests what limits count for further legs, lists, two sizes and relative prices, in the words of
//! each exchange.

mod asked;
mod counted;

use counted::check;
use countersign_core::request::Method;

use Method::{Post, Put};

#[test]
fn orders_of_binance_count_by_what_their_own_market_uses() {
    let spot = r#"{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT","quantity":"0.5","price":"100"}"#;
    let conditional = r#"{"algoType":"CONDITIONAL","symbol":"BTCUSDT","side":"BUY","type":"STOP",
        "quantity":"0.5","price":"100","triggerPrice":"90"}"#;
    check(&[
        (
            "binance",
            Post,
            "/api/v3/order",
            spot,
            &[
                (r#"{"newOrderRespType":"FULL"}"#, "0.5 50.0"),
                (r#"{"type":"TAKE_PROFIT","stopPrice":"90"}"#, "0.5 -"),
                (
                    r#"{"type":"TAKE_PROFIT","stopPrice":"90","strategyType":1000000}"#,
                    "0.5 - + - -",
                ),
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
            &[
                (r"{}", "0.5 50.0"),
                (r#"{"quoteOrderQty":"1000000"}"#, "- -"),
                (r#"{"type":"MARKET"}"#, "0.5 -"),
            ],
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
            r#"{"symbol":"BTCUSDT","side":"BUY","strategyType":"TAKE_PROFIT","quantity":"0.5",
                "price":"100","stopPrice":"90"}"#,
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
    let working = r#"{"symbol":"BTCUSDT","workingType":"LIMIT","workingSide":"BUY",
        "workingQuantity":"0.5","workingPrice":"100"}"#;
    let pending = r#"{"pendingType":"MARKET","pendingSide":"SELL","pendingQuantity":"1000"}"#;
    let above = r#"{"pendingSide":"SELL","pendingQuantity":"1000","pendingAboveType":"LIMIT_MAKER",
        "pendingAbovePrice":"1"}"#;
    check(&[
        (
            "binance",
            Post,
            "/api/v3/order/oco",
            pair,
            &[(r#"{"price":"100","stopPrice":"90000"}"#, "0.5 -")],
        ),
        (
            "binance",
            Post,
            "/sapi/v1/margin/order/oco",
            pair,
            &[(r#"{"price":"100","stopPrice":"90000"}"#, "0.5 -")],
        ),
        (
            "binance",
            Post,
            "/api/v3/orderList/oco",
            pair,
            &[(
                r#"{"aboveType":"STOP_LOSS","aboveStopPrice":"90000","belowType":"LIMIT_MAKER",
                    "belowPrice":"1"}"#,
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
            r#"{"baseAsset":"BTC","quoteAsset":"USDT","limitPrice":"1","side":"BUY",
                "baseAmount":"1000"}"#,
            &[(r"{}", "- -")],
        ),
        ("binance", Post, "/sapi/v1/convert/acceptQuote", r#"{"quoteId":"1"}"#, &[(r"{}", "- -")]),
    ]);
}

#[test]
fn units_and_legs_of_the_others_count_as_they_say() {
    let bitfinex = r#"{"type":"EXCHANGE LIMIT","symbol":"tBTCUSD","amount":"0.5","price":"100"}"#;
    let backpack =
        r#"{"symbol":"BTC_USDC","side":"Bid","orderType":"Limit","quantity":"0.5","price":"100"}"#;
    let parent = r#"{"order_method":"IFDOCO","parameters":[{"product_code":"BTC_JPY",
        "condition_type":"LIMIT","side":"BUY","size":0.5,"price":100},{"product_code":"BTC_JPY",
        "condition_type":"LIMIT","side":"SELL","size":0.5,"price":110},{"product_code":"BTC_JPY",
        "condition_type":"STOP","side":"SELL","size":900,"trigger_price":90}]}"#;
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
        (
            "bitflyer",
            Post,
            "/v1/me/sendparentorder",
            parent,
            &[(r"{}", "0.5 50.0 + 0.5 55.0 + 900 -")],
        ),
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
