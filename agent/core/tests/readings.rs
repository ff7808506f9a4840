//! Tests what the tables read out of requests: transfers with all their parts, and orders with
//! their worth.

use countersign_core::exchange::classify::classify;
use countersign_core::exchange::{Exchange, named, worth};
use countersign_core::json::Value;
use countersign_core::key::{Environment, Key, KeyName, NonceUnit, Tier};
use countersign_core::refusal::Code;
use countersign_core::request::{Method, Params, Path, Request};
use countersign_core::scope::Scope;
use countersign_core::stamp::Stamp;
use countersign_core::transfer::Transfer;

use Method::{Delete, Get, Patch, Post};

fn request(method: Method, path: &str, params: &str) -> Request {
    let params = Params::new(Value::parse(params).expect(params)).expect("plain names");
    Request { method, path: Path::parse(path).expect(path), params, params_in: None, host: None }
}

fn exchange(name: &str) -> &'static dyn Exchange {
    named(name).expect("in the registry")
}

/// `amount asset network address memo from to`, with `-` for a part that the request does not name.
fn words(transfer: &Transfer) -> String {
    let amount = transfer.amount.map(|amount| amount.to_string());
    let parts = [
        &amount,
        &transfer.asset,
        &transfer.network,
        &transfer.address,
        &transfer.memo,
        &transfer.from,
        &transfer.to,
    ];
    parts.map(|part| part.clone().unwrap_or_else(|| "-".to_owned())).join(" ")
}

#[test]
fn transfers_say_what_moves_where() {
    let deribit = |name: &str| format!("/api/v2/private/{name}");
    for (name, method, path, params, expected) in [
        (
            "bitstamp",
            Post,
            "/api/v2/ripple_withdrawal/",
            r#"{"amount":"20","address":"r1","destination_tag":"88"}"#,
            "20 XRP - r1 88 - -",
        ),
        (
            "bitstamp",
            Post,
            "/api/v2/withdrawal/open/",
            r#"{"amount":"100","account_currency":"EUR","iban":"GB29","type":"sepa",
                "address":"1 Street"}"#,
            "100 EUR sepa - - - GB29",
        ),
        (
            "binance",
            Post,
            "/sapi/v1/portfolio/bnb-transfer",
            r#"{"amount":"2","transferSide":"TO_UM"}"#,
            "2 BNB - - - - -",
        ),
        (
            "bybit",
            Post,
            "/v5/asset/withdraw/create",
            r#"{"coin":"XRP","chain":"XRP","address":"r1","tag":"88","amount":"20",
                "accountType":"FUND"}"#,
            "20 XRP XRP r1 88 - -",
        ),
        (
            "bybit",
            Post,
            "/v5/asset/transfer/inter-transfer",
            r#"{"transferId":"u","coin":"BTC","amount":"1","fromAccountType":"UNIFIED",
                "toAccountType":"FUND"}"#,
            "1 BTC - - - UNIFIED FUND",
        ),
        (
            "mexc",
            Post,
            "/api/v3/capital/withdraw",
            r#"{"coin":"USDT","netWork":"TRC20","address":"T1","amount":"5","memo":"m"}"#,
            "5 USDT TRC20 T1 m - -",
        ),
        (
            "mexc",
            Post,
            "/api/v3/capital/transfer/internal",
            r#"{"toAccountType":"UID","toAccount":"7","asset":"USDT","amount":"5"}"#,
            "5 USDT - 7 - - -",
        ),
        (
            "upbit",
            Post,
            "/v1/withdraws/coin",
            r#"{"currency":"XRP","net_type":"XRP","amount":"5","address":"r1",
                "secondary_address":"9"}"#,
            "5 XRP XRP r1 9 - -",
        ),
        (
            "upbit",
            Post,
            "/v1/pockets/transfers",
            r#"{"currency":"BTC","amount":"2","to":"a","identifier":"i"}"#,
            "2 BTC - - - - a",
        ),
        (
            "woo",
            Post,
            "/v1/asset/internal_withdraw",
            r#"{"token":"USDT","amount":"5","receiver":"7"}"#,
            "5 USDT - 7 - - -",
        ),
        (
            "woo",
            Post,
            "/v3/asset/wallet/withdraw",
            r#"{"token":"USDT","network":"TRX","address":"T1","amount":"5","extra":"m"}"#,
            "5 USDT TRX T1 m - -",
        ),
        (
            "bitstamp",
            Post,
            "/api/v2/transfer-to-main/",
            r#"{"amount":"5","currency":"USDC"}"#,
            "5 USDC - - - - -",
        ),
        (
            "bitso",
            Post,
            "/api/v3/bitcoin_withdrawal",
            r#"{"amount":"0.1","address":"bc1q"}"#,
            "0.1 BTC BTC bc1q - - -",
        ),
        (
            "bitso",
            Post,
            "/api/v3/spei_withdrawal",
            r#"{"amount":"300","clabe":"0021"}"#,
            "300 MXN spei - - - 0021",
        ),
        (
            "bitflyer",
            Post,
            "/v1/me/withdraw",
            r#"{"currency_code":"JPY","bank_account_id":7,"amount":9}"#,
            "9 JPY bank - - - 7",
        ),
        (
            "bitmex",
            Post,
            "/api/v1/user/requestWithdrawal",
            r#"{"currency":"XBt","network":"btc","amount":100000,"address":"bc1q","memo":"m"}"#,
            "100000 XBt btc bc1q m - -",
        ),
        // A saved address does not say where the money goes.
        (
            "bitmex",
            Post,
            "/api/v1/user/requestWithdrawal",
            r#"{"currency":"XBt","network":"btc","amount":100000,"addressId":3}"#,
            "100000 XBt btc - - - -",
        ),
        (
            "gate",
            Post,
            "/api/v4/withdrawals",
            r#"{"currency":"USDT","amount":"1","address":"T","chain":"TRX","memo":""}"#,
            "1 USDT TRX T  - -",
        ),
        (
            "gate",
            Post,
            "/api/v4/withdrawals/push",
            r#"{"receive_uid":5,"currency":"BTC","amount":"1"}"#,
            "1 BTC gate - - - 5",
        ),
        (
            "bitget",
            Post,
            "/api/v2/spot/wallet/withdrawal",
            r#"{"coin":"USDT","transferType":"on_chain","address":"0x","chain":"erc20","size":"100",
                "tag":"t"}"#,
            "100 USDT erc20 0x t - -",
        ),
        (
            "coinex",
            Post,
            "/v2/assets/transfer",
            r#"{"ccy":"USDT","amount":"1","from_account_type":"SPOT","to_account_type":"FUTURES"}"#,
            "1 USDT - - - SPOT FUTURES",
        ),
        (
            "bitvavo",
            Post,
            "/v2/withdrawal",
            r#"{"symbol":"BTC","amount":"1","address":"bc1q","paymentId":"9"}"#,
            "1 BTC - bc1q 9 - -",
        ),
        (
            "deribit",
            Get,
            &deribit("withdraw"),
            r#"{"currency":"BTC","address":"bc1q","amount":0.5}"#,
            "0.5 BTC BTC bc1q - - -",
        ),
        (
            "deribit",
            Get,
            &deribit("submit_transfer_to_user"),
            r#"{"currency":"ETH","amount":1,"destination":"0x4a"}"#,
            "1 ETH deribit - - - 0x4a",
        ),
    ] {
        let (exchange, request) = (exchange(name), request(method, path, params));
        let algorithm = exchange.facts().algorithms[0];
        let judged = classify(exchange, algorithm, &request)
            .unwrap_or_else(|refusal| panic!("{path}: {refusal}"));
        assert_eq!(
            judged.transfers.iter().map(words).collect::<Vec<_>>(),
            [expected],
            "{name} {path} {params}"
        );
    }
}

/// Upbit does not sign the path. The same token moves money from the pocket that the request names,
/// or from the key's own pocket.
#[test]
fn a_transfer_between_pockets_is_also_one_from_the_keys_own() {
    let (upbit, params) =
        (exchange("upbit"), r#"{"currency":"BTC","amount":"2","from":"a","to":"b"}"#);
    let request = request(Post, "/v1/pockets/universal_transfers", params);
    let judged = classify(upbit, upbit.facts().algorithms[0], &request).expect("names of its row");
    assert_eq!(
        judged.transfers.iter().map(words).collect::<Vec<_>>(),
        ["2 BTC - - - a b", "2 BTC - - - - b"]
    );
}

/// Symbol, side and worth of each order. `-` means not known, `cannot` that the orders cannot be
/// read.
#[test]
fn orders_say_what_they_are_worth() {
    for (name, method, path, params, expected) in [
        (
            "bitstamp",
            Post,
            "/api/v2/buy/btcusd/",
            r#"{"amount":"0.5","price":"200"}"#,
            "btcusd buy 100.0 usd",
        ),
        (
            "bitstamp",
            Post,
            "/api/v2/buy/instant/btcusd/",
            r#"{"amount":"50"}"#,
            "btcusd buy 50 usd",
        ),
        ("bitstamp", Post, "/api/v2/sell/market/ethbtc/", r#"{"amount":"50"}"#, "ethbtc sell - -"),
        (
            "bitstamp",
            Post,
            "/api/v2/buy/adausdc/",
            r#"{"amount":"2","price":"3"}"#,
            "adausdc buy 6 usdc",
        ),
        ("bitstamp", Post, "/api/v2/cancel_all_orders/btcusd/", "{}", "btcusd - - -"),
        (
            "deribit",
            Get,
            "/api/v2/private/sell",
            r#"{"instrument_name":"BTC_USDC","amount":2,"price":3}"#,
            "BTC_USDC sell 6 USDC",
        ),
        (
            "deribit",
            Get,
            "/api/v2/private/buy",
            r#"{"instrument_name":"ETH-PERPETUAL","amount":40,"price":1500.5}"#,
            "ETH-PERPETUAL buy - -",
        ),
        ("deribit", Get, "/api/v2/private/mass_quote", r#"{"quotes":"[]"}"#, "cannot"),
        (
            "gate",
            Post,
            "/api/v4/spot/batch_orders",
            r#"[{"currency_pair":"A_USDT","side":"buy","amount":"2","price":"3"},
                {"currency_pair":"B_USDT","side":"buy","type":"market","amount":"7"}]"#,
            "A_USDT buy 6 USDT, B_USDT buy 7 USDT",
        ),
        (
            "gate",
            Patch,
            "/api/v4/spot/orders/9",
            r#"{"currency_pair":"A_B","amount":"2","price":"3"}"#,
            "A_B - 6 B",
        ),
        (
            "gate",
            Post,
            "/api/v4/futures/usdt/orders",
            r#"{"contract":"A_USDT","size":-2,"price":"3"}"#,
            "A_USDT - - -",
        ),
        (
            "gate",
            Post,
            "/api/v4/futures/usdt/positions/A_USDT/leverage",
            r#"{"leverage":"3"}"#,
            "A_USDT - - -",
        ),
        (
            "bitget",
            Post,
            "/api/v2/spot/trade/place-order",
            r#"{"symbol":"BTCUSDT","side":"buy","orderType":"market","size":"9"}"#,
            "BTCUSDT buy 9 USDT",
        ),
        (
            "bitget",
            Post,
            "/api/v2/mix/order/place-order",
            r#"{"symbol":"ETHUSDT","productType":"USDT-FUTURES","marginCoin":"USDT","size":"1.5",
                "price":"2","side":"buy",
                "orderType":"limit"}"#,
            "ETHUSDT buy 3.0 USDT",
        ),
        (
            "bitget",
            Post,
            "/api/v2/mix/order/place-order",
            r#"{"symbol":"BTCUSD","productType":"COIN-FUTURES","size":"1","price":"2","side":"buy",
                "orderType":"limit"}"#,
            "BTCUSD buy - -",
        ),
        (
            "coinex",
            Post,
            "/v2/spot/order",
            r#"{"market":"CETUSDT","market_type":"SPOT","side":"buy","type":"limit","amount":"10",
                "price":"2"}"#,
            "CETUSDT buy 20 USDT",
        ),
        (
            "coinex",
            Post,
            "/v2/spot/order",
            r#"{"market":"CETUSDT","market_type":"SPOT","side":"buy","type":"market","amount":"10",
                "ccy":"CET"}"#,
            "CETUSDT buy - -",
        ),
        (
            "bitvavo",
            Post,
            "/v2/order",
            r#"{"market":"BTC-EUR","side":"buy","orderType":"market","amountQuote":"10"}"#,
            "BTC-EUR buy 10 EUR",
        ),
        ("bitvavo", Delete, "/v2/orders", "{}", "- - - -"),
        (
            "bitso",
            Post,
            "/api/v3/orders",
            r#"{"book":"btc_mxn","side":"buy","type":"limit","major":"2","price":"3"}"#,
            "btc_mxn buy 6 mxn",
        ),
        (
            "bitflyer",
            Post,
            "/v1/me/sendchildorder",
            r#"{"product_code":"FX_BTC_JPY","side":"SELL","child_order_type":"LIMIT","size":2,
                "price":3}"#,
            "FX_BTC_JPY SELL 6 JPY",
        ),
        (
            "bitmex",
            Post,
            "/api/v1/order",
            r#"{"symbol":"XBTUSD","orderQty":98,"price":219.0}"#,
            "XBTUSD - - -",
        ),
    ] {
        let (exchange, request) = (exchange(name), request(method, path, params));
        let judged = classify(exchange, exchange.facts().algorithms[0], &request).expect(path);
        let text =
            |part: &Option<std::borrow::Cow<'_, str>>| part.as_deref().unwrap_or("-").to_owned();
        let orders = judged.orders.map(|orders| {
            let line = orders.iter().map(|order| {
                let worth = worth::notional(exchange, order)
                    .map(|(asset, amount)| format!("{amount} {asset}"));
                format!(
                    "{} {} {}",
                    text(&order.symbol),
                    text(&order.side),
                    worth.unwrap_or_else(|_| "- -".to_owned())
                )
            });
            line.collect::<Vec<_>>().join(", ")
        });
        assert_eq!(
            orders.unwrap_or_else(|_| "cannot".to_owned()),
            expected,
            "{name} {path} {params}"
        );
    }
}

/// A request has no draft if the exchange could read it in another way than the agent judges it.
#[test]
fn ambiguous_requests_have_no_draft() {
    for (name, method, path, params) in [
        (
            "bitmex",
            Post,
            "/api/v1/user/requestWithdrawal",
            r#"{"currency":"XBt","address":"a","addressId":1}"#,
        ),
        (
            "bitmex",
            Post,
            "/api/v1/user/requestWithdrawal",
            r#"{"currency":"XBt","address":"a","targetUserId":1}"#,
        ),
        ("bitstamp", Get, "/api/v2/travel_rule/contacts/", r#"{"limit":"5"}"#),
        ("bitget", Get, "/api/v2/spot/account/assets", r#"{"coin":"USDT&x=1"}"#),
        ("coinex", Get, "/v2/spot/pending-order", r#"{"market":"é"}"#),
        (
            "deribit",
            Get,
            "/api/v2/private/buy",
            r#"{"instrument_name":"A","amount":1,"nonce":"1"}"#,
        ),
        ("deribit", Get, "/api/v2/private/mass_quote", r#"{"quotes":[{"a":1}]}"#),
        ("gate", Get, "/api/v4/spot/accounts", r#"{"currency":"a b"}"#),
        ("gate", Post, "/api/v4/withdrawals", r#"{"query":{"amount":"9"},"amount":"1"}"#),
    ] {
        let exchange = exchange(name);
        let request = request(method, path, params);
        let key = Key {
            name: KeyName::parse("test").expect("a plain name"),
            exchange: exchange.facts().name,
            environment: Environment::Production,
            algorithm: exchange.facts().algorithms[0],
            api_key: "id".to_owned(),
            scopes: Scope::ALL.into_iter().collect(),
            tier: Tier::Software,
            token: "none".to_owned(),
            nonce_unit: NonceUnit::Milliseconds,
            in_vault: false,
        };
        let stamp =
            Stamp { now_ms: 1_700_000_000_000, nonce: 1, random: [0; 16], receive_window_ms: None };
        let host = exchange.host(&request, Environment::Production).expect("a host");
        assert!(exchange.draft(&request, &key, host, &stamp).is_err(), "{name} {path} {params}");
    }
}

/// A cancel carries no size, although an amendment without a size has the same body. The numbers in
/// a list of orders to cancel are not orders.
#[test]
fn cancels_place_nothing_where_the_path_is_unbound() {
    for (name, path, params) in [
        ("bybit", "/v5/order/cancel", r#"{"category":"linear","symbol":"BTCUSDT","orderId":"1"}"#),
        ("mexc", "/api/v1/private/order/cancel", "[101716841474621953]"),
    ] {
        let request = request(Post, path, params);
        let exchange = exchange(name);
        let classified = classify(exchange, exchange.facts().algorithms[0], &request).expect(path);
        assert_eq!(classified.effective, [Scope::Trade].into_iter().collect(), "{path}");
        assert!(classified.orders.expect(path).iter().all(|order| !order.sized), "{path}");
    }
    let sized = request(Post, "/api/v1/private/order/cancel", r#"[{"symbol":"BTC_USDT","vol":5}]"#);
    let refused = classify(exchange("mexc"), exchange("mexc").facts().algorithms[0], &sized)
        .expect_err("a size");
    assert_eq!(refused.code, Code::RequestForbiddenParameter);
}
