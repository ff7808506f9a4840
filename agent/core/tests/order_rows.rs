//! Tests that every row of scope trade that places no order cancels something, sets something, or
//! has a reason.

use countersign_core::exchange::table::Endpoint;
use countersign_core::exchange::{ALL, Exchange};
use countersign_core::request::Method;
use countersign_core::scope::Scope;

/// A row is a setting if the last part of its path has one of these words.
const SETTINGS: [&str; 9] =
    ["dual", "isolate", "lever", "leverage", "margin", "mmp", "mode", "risk", "setting"];

/// Rows whose path shows neither a cancel nor a setting, and the reason why they place no order.
/// `*` stands for the rest of a path.
const REVIEWED: &[(&str, &str, &str)] = &[
    ("binance", "/eapi/v1/block/order/create", "PUT gives an offer more time"),
    ("binance", "/fapi/v1/convert/getQuote", "asks for a price; acceptQuote trades"),
    ("binance", "/sapi/v1/convert/getQuote", "asks for a price; acceptQuote trades"),
    ("binance", "/sapi/v1/w3w/wallet/prediction/otc/blocktrade/detail", "shows an offer"),
    ("binance", "/sapi/v1/w3w/wallet/prediction/otc/blocktrade/list", "shows offers"),
    ("binance", "/sapi/v1/w3w/wallet/prediction/otc/blocktrade/remove", "takes offers back"),
    (
        "binance",
        "/sapi/v1/w3w/wallet/prediction/trade/get-quote",
        "asks for a price; place-order-bundle trades",
    ),
    ("bitfinex", "/v2/auth/w/deriv/collateral/limits", "shows the bounds of a collateral"),
    ("bitfinex", "/v2/auth/w/funding/close", "gives back what was borrowed"),
    ("bitfinex", "/v2/auth/w/funding/keep", "says whether a loan stays when it is unused"),
    ("bitfinex", "/v2/auth/w/position/update/funding/type", "says how a position is funded"),
    (
        "bybit",
        "/contract/v3/private/copytrading/order/trading-stop",
        "of an API that v5 replaced; nobody may ask for it",
    ),
    (
        "bybit",
        "/contract/v3/private/position/trading-stop",
        "of an API that v5 replaced; nobody may ask for it",
    ),
    ("bybit", "/perpetual/usdc/openapi/private/v1/position/leverage/save", "sets a leverage"),
    (
        "bybit",
        "/unified/v3/private/position/trading-stop",
        "of an API that v5 replaced; nobody may ask for it",
    ),
    ("bybit", "/v5/position/confirm-pending-mmr", "confirms a setting"),
    (
        "bybit",
        "/v5/position/trading-stop",
        "orders have the same names; its first line is of an order",
    ),
    ("bybit", "/v5/strategy/stop", "stops a strategy"),
    ("deribit", "/api/v2/private/invalidate_block_trade_signature", "takes an offer back"),
    ("deribit", "/api/v2/private/reject_block_trade", "takes no offer"),
    ("gate", "/api/v4/futures/{settle}/autoorder/v1/*", "stops what it names"),
    ("gate", "/api/v4/options/mmp/reset", "sets a protection"),
    ("gemini", "/v1/heartbeat", "keeps open orders"),
    ("krakenfutures", "/derivatives/api/v3/assignmentprogram/delete", "leaves a programme"),
    ("krakenfutures", "/derivatives/api/v3/pnlpreferences", "says in which asset profits are kept"),
    (
        "krakenfutures",
        "/derivatives/api/v3/self-trade-strategy",
        "says which of two own orders goes",
    ),
    ("kucoin", "/api/ua/v1/dcp/set", "cancels orders after a time"),
    ("kucoin", "/api/v1/copy-trade/futures/position/margin/auto-deposit-status", "sets a margin"),
    ("kucoin", "/api/v1/copy-trade/futures/position/risk-limit-level/change", "sets a limit"),
    ("kucoin", "/api/v1/position/margin/auto-deposit-status", "sets a margin"),
    ("kucoin", "/api/v1/position/risk-limit-level/change", "sets a limit"),
    ("mexc", "/api/v1/private/order/batch_query_with_external", "shows orders"),
    ("mexc", "/api/v1/private/order/open_order_total_count", "counts orders"),
    ("mexc", "/api/v1/private/planorder/change_stop_order", "moves the prices of stops that stand"),
    ("mexc", "/api/v1/private/position/change_auto_add_im", "sets a margin"),
    ("mexc", "/api/v1/private/stoporder/*", "moves the prices of stops that stand"),
    (
        "mexc",
        "/api/v1/private/trackorder/change_order",
        "moves the price of an order that stands; a line with its size is one",
    ),
    ("okx", "/api/v5/account/set-greeks", "says how risks are shown"),
    ("okx", "/api/v5/asset/convert/estimate-quote", "asks for a price; convert/trade trades"),
    ("okx", "/api/v5/copytrading/amend-profit-sharing-ratio", "sets a share"),
    ("okx", "/api/v5/copytrading/set-instruments", "sets instruments"),
    ("okx", "/api/v5/fiat/buy-sell/quote", "asks for a price; buy-sell/trade trades"),
    ("okx", "/api/v5/rfq/maker-instrument-settings", "sets instruments"),
    ("phemex", "/positions/assign", "sets the margin of a position"),
    ("whitebit", "/api/v4/order/kill-switch", "cancels orders after a time"),
    ("woo", "/v3/futures/defaultMarginMode/reset", "sets a margin mode"),
];

fn takes_back_or_sets(row: &Endpoint) -> bool {
    let path = row.path.to_ascii_lowercase();
    let last = path
        .split('/')
        .rfind(|part| !part.is_empty() && !part.starts_with('{'))
        .unwrap_or_default();
    let sets = SETTINGS.iter().any(|word| last.contains(word));
    path.contains("cancel") || row.method == Method::Delete && !path.contains("position") || sets
}

fn is_reviewed(exchange: &dyn Exchange, row: &Endpoint) -> bool {
    REVIEWED.iter().any(|(name, path, reason)| {
        let fits =
            path.strip_suffix('*').map_or(*path == row.path, |start| row.path.starts_with(start));
        *name == exchange.facts().name && fits && !reason.is_empty()
    })
}

#[test]
fn a_row_that_places_no_order_takes_back_or_sets_something() {
    let mut tried = 0;
    for exchange in ALL.iter().copied() {
        let table = exchange.table();
        let quiet = table.openings().iter().filter(|opening| opening.places_no_order);
        for row in quiet.map(|opening| table.endpoint(opening)) {
            assert_eq!(
                row.scope,
                Scope::Trade,
                "{} {}: only rows of scope trade place orders",
                row.method,
                row.path
            );
            let known = takes_back_or_sets(row) || is_reviewed(exchange, row);
            assert!(
                known,
                "{} {} {}: why does it place no order?",
                exchange.facts().name,
                row.method,
                row.path
            );
            tried += 1;
        }
    }
    assert!(tried > 300, "only {tried} rows place no order");
}
