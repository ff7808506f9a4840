//! Tests rules that hold for every exchange, and cases that the table of each must catch.

mod asked;

use asked::replaced;
use countersign_core::algorithm::Algorithm;
use countersign_core::decimal::Amount;
use countersign_core::exchange::classify::{Classified, check_managed, classify};
use countersign_core::exchange::login::SessionLogin;
use countersign_core::exchange::table::{Endpoint, Role, WHOLE_BODY};
use countersign_core::exchange::{ALL, Exchange, named};
use countersign_core::json::Value;
use countersign_core::key::{Environment, Key, KeyName, NonceUnit, Tier};
use countersign_core::policy::{
    Client, Decision, Policy, RECEIVE_WINDOW_CAP_MS, Release, SpendLimit,
};
use countersign_core::refusal::Code;
use countersign_core::request::{Method, Params, ParamsIn, Path, Request};
use countersign_core::scope::{Scope, Scopes};
use countersign_core::stamp::Stamp;
use secrecy::SecretString;

const STAMP: Stamp =
    Stamp { now_ms: 1_700_000_000_000, nonce: 1, random: [0; 16], receive_window_ms: Some(5_000) };

fn request(method: Method, path: &str, params: &str) -> Request {
    let params = Params::new(Value::parse(params).expect("JSON")).expect("plain names");
    Request {
        method,
        path: Path::parse(path).expect("a plain path"),
        params,
        params_in: None,
        host: None,
    }
}

fn key(exchange: &dyn Exchange, environment: Environment) -> Key {
    Key {
        name: KeyName::parse("test").expect("a plain name"),
        exchange: exchange.facts().name,
        environment,
        algorithm: exchange.facts().algorithms[0],
        api_key: "id".to_owned(),
        scopes: Scope::ALL.into_iter().collect(),
        tier: Tier::Software,
        token: "none".to_owned(),
        nonce_unit: NonceUnit::Milliseconds,
        in_vault: false,
    }
}

/// The algorithm of most keys of an exchange.
fn first(exchange: &dyn Exchange) -> Algorithm {
    exchange.facts().algorithms[0]
}

/// Judges a request. The result borrows from the request, so the request is leaked: a test is
/// short.
fn judged(exchange: &str, method: Method, path: &str, params: &str) -> Classified<'static> {
    let exchange = named(exchange).expect("in the registry");
    let request = Box::leak(Box::new(request(method, path, params)));
    classify(exchange, first(exchange), request)
        .unwrap_or_else(|refusal| panic!("{path} {params}: {refusal}"))
}

fn scopes(list: &[Scope]) -> Scopes {
    list.iter().copied().collect()
}

#[test]
fn tables_are_sorted_and_without_duplicates() {
    for exchange in ALL {
        let table = exchange.table();
        let sorted = |rows: Vec<(&str, &str)>| rows.windows(2).all(|pair| pair[0] < pair[1]);
        let rows = table.endpoints().iter().map(|row| (row.path, row.method.name())).collect();
        let withheld = table.withheld().map(|(_, row)| (row.path, row.method.name())).collect();
        assert!(sorted(rows) && sorted(withheld), "{}.scopes", exchange.facts().name);
        let openings = table.openings().iter().map(|opening| table.endpoint(opening));
        let rows: Vec<_> = openings.map(|row| (row.path, row.method.name())).collect();
        assert!(rows.is_sorted(), "{}.params", exchange.facts().name);
    }
}

/// The agent cannot judge a value that the exchange gave out. So the signature of such a value may
/// open reads only.
#[test]
fn opaque_values_stand_in_signatures_that_open_nothing_but_reads() {
    for exchange in ALL.iter().filter(|exchange| exchange.table().has_opaque()) {
        let (name, schemes) = (exchange.facts().name, exchange.facts().schemes);
        let rows = exchange.table().endpoints();
        let reads =
            || rows.iter().filter(|row| row.method == Method::Get && row.scope == Scope::Read);
        for scheme in schemes {
            assert!(!scheme.joined && !scheme.runs_on, "{name}");
        }
        // A residual row is open to every read, whatever values the read has.
        let residual = |index: usize| {
            let mut openings = exchange.table().openings_of(index).peekable();
            openings.peek().is_some() && openings.all(|opening| opening.residual)
        };
        let more = rows
            .iter()
            .enumerate()
            .filter(|(index, row)| row.scope != Scope::Read && !residual(*index));
        for (_, row) in more {
            let shared = |read: &&Endpoint| {
                let binding = schemes[read.group].binding;
                read.group == row.group
                    && (!binding.method || read.method == row.method)
                    && (!binding.path || read.path == row.path)
            };
            assert!(!reads().any(|read| shared(&read)), "{name}: {} {}", row.method, row.path);
        }
    }
}

#[test]
fn every_row_says_what_it_needs() {
    for exchange in ALL {
        let table = exchange.table();
        for (index, row) in table.rows().iter().enumerate() {
            let moves = matches!(row.scope, Scope::Trade | Scope::Transfer | Scope::Withdraw);
            let unbound = !exchange.facts().scheme(first(*exchange), row.path).binding.path;
            let needed = moves || unbound && row.scope != Scope::Read;
            let known = table.openings_of(index).next().is_some();
            assert!(
                known || !needed,
                "{} {} {} has no line",
                exchange.facts().name,
                row.method,
                row.path
            );
        }
    }
}

/// An opening without a name would never be found. Rows that no signer can tell apart are listed
/// instead. Such a row never moves money if a name could tell it apart.
#[test]
fn where_the_path_is_unbound_rows_are_found_by_a_name_or_listed() {
    let exceptions = [
        // Binance. Moves an asset between the wallets of one account. It needs only the asset's
        // name, which 43 reads carry too.
        "/papi/v1/asset-collection",
        // Binance. The same.
        "/sapi/v1/portfolio/asset-collection",
        // Upbit. Stops a withdrawal by its UUID. The token for a read of an order with this UUID
        // would do that too, but no order has the UUID of a withdrawal.
        "/v1/withdraws/coin",
        // Bybit. Finishes a sale to another user by its order number, which is also the parameter
        // that cancels an order. The key needs a right for P2P.
        "/v5/p2p/order/finish",
        // Bybit's old API. Closes a position by parameters that orders carry too.
        "/contract/v3/private/copytrading/position/close",
        // Bybit's old API. Resets the protection of market makers by an asset alone.
        "/option/usdc/openapi/private/v1/mmp-reset",
        // MEXC's old API. Needs only a symbol, as many reads of contracts do.
        "/open/api/v2/order/cancel_by_symbol",
    ];
    for exchange in ALL {
        for opening in exchange.table().openings() {
            let row = exchange.table().endpoint(opening);
            if exchange.facts().scheme(first(*exchange), row.path).binding.path
                || row.scope == Scope::Read
            {
                continue;
            }
            let listed = opening.name_of(Role::List) == Some(WHOLE_BODY);
            let found = opening.empty || listed || !opening.required.is_empty();
            assert!(opening.residual || found, "{} {}", row.method, row.path);
            let serious = matches!(row.scope, Scope::Trade | Scope::Transfer | Scope::Withdraw);
            let listed = opening.residual && serious && !opening.required.is_empty();
            assert!(
                !listed || exceptions.contains(&row.path),
                "{} {} is not counted",
                row.method,
                row.path
            );
        }
    }
}

#[test]
fn every_endpoint_has_a_host_and_a_draft_that_is_always_the_same() {
    for exchange in ALL {
        for row in exchange.table().endpoints() {
            for environment in [Environment::Production, Environment::Testnet] {
                let path = row.path.replace(['{', '}'], "");
                let request = request(row.method, &path, "{}");
                let Ok(host) = exchange.host(&request, environment) else {
                    assert_eq!(environment, Environment::Testnet, "{} has no host", row.path);
                    continue;
                };
                let key = key(*exchange, environment);
                let draft = || exchange.draft(&request, &key, host, &STAMP).expect(row.path);
                let (first, second) = (draft(), draft());
                assert_eq!(
                    (&first.message, &first.url, &first.body),
                    (&second.message, &second.url, &second.body)
                );
                let finished = second
                    .finish(&[7; 32], Some(&"p".to_owned().into()))
                    .expect("a signature fits");
                assert!(finished.url.starts_with(&format!("https://{host}{path}")), "{path}");
            }
        }
    }
}

#[test]
fn hosts_are_a_closed_list_per_environment() {
    let ask = |exchange: &str, environment, path: &str, host: Option<&str>| {
        let exchange = named(exchange).expect("in the registry");
        let mut request = request(Method::Get, path, "{}");
        request.host = host.map(str::to_owned);
        exchange.host(&request, environment).map_err(|refusal| refusal.code)
    };
    use Environment::{Production, Testnet};
    assert_eq!(ask("binance", Production, "/api/v3/account", None), Ok("api.binance.com"));
    assert_eq!(
        ask("binance", Production, "/api/v3/account", Some("api3.binance.com")),
        Ok("api3.binance.com")
    );
    assert_eq!(ask("binance", Production, "/fapi/v1/order", None), Ok("fapi.binance.com"));
    assert_eq!(ask("binance", Testnet, "/api/v3/account", None), Ok("testnet.binance.vision"));
    assert_eq!(
        ask("binance", Testnet, "/fapi/v1/order", Some("demo-fapi.binance.com")),
        Ok("demo-fapi.binance.com")
    );
    assert_eq!(
        ask("binance", Testnet, "/sapi/v1/account/info", None),
        Err(Code::RequestUnknownEndpoint)
    );
    assert_eq!(
        ask("okx", Production, "/api/v5/account/balance", Some("eea.okx.com")),
        Ok("eea.okx.com")
    );
    assert_eq!(
        ask("kraken", Testnet, "/0/private/Balance", None),
        Err(Code::RequestUnknownEndpoint)
    );
    for site in [
        "bybit.ae",
        "bybit.eu",
        "bybit.id",
        "bybit.kz",
        "bybit.nl",
        "bybit.tr",
        "bybitgeorgia.ge",
        "manepa.jp",
    ] {
        let host = format!("api.{site}");
        assert_eq!(ask("bybit", Production, "/v5/order/realtime", Some(&host)), Ok(host.as_str()));
        assert_eq!(
            ask("bybit", Testnet, "/v5/order/realtime", Some(&host)),
            Err(Code::RequestMalformed),
            "{host}"
        );
    }
    for host in
        ["api-demo.bybit.eu", "api-demo.bybit.id", "api-testnet.bybit.eu", "api-testnet.bybit.id"]
    {
        assert_eq!(ask("bybit", Testnet, "/v5/order/realtime", Some(host)), Ok(host));
        assert_eq!(
            ask("bybit", Production, "/v5/order/realtime", Some(host)),
            Err(Code::RequestMalformed),
            "{host}"
        );
    }
    for (exchange, host) in [
        ("binance", "testnet.binance.vision"),
        ("binance", "fapi.binance.com"),
        ("binance", "API.binance.com"),
        ("binance", "evil.example"),
        ("okx", "www.okx.com.evil.example"),
        ("kraken", "api.kraken.com:443"),
    ] {
        let path = ["/api/v3/account", "/api/v5/account/balance", "/0/private/Balance"]
            .into_iter()
            .find(|path| {
                named(exchange).expect("in the registry").table().find(Method::Get, path).is_some()
            })
            .unwrap_or("/0/private/Balance");
        assert_eq!(
            ask(exchange, Production, path, Some(host)),
            Err(Code::RequestMalformed),
            "{host}"
        );
    }
}

#[test]
fn demo_trading_on_okx_is_a_header() {
    let okx = named("okx").expect("in the registry");
    let request = request(Method::Get, "/api/v5/account/balance", "{}");
    for (environment, demo) in [(Environment::Production, false), (Environment::Testnet, true)] {
        let draft =
            okx.draft(&request, &key(okx, environment), "www.okx.com", &STAMP).expect("a read");
        assert_eq!(draft.headers.iter().any(|(name, _)| *name == "x-simulated-trading"), demo);
    }
}

#[test]
fn what_the_agent_sets_is_never_taken() {
    for exchange in ALL {
        for name in exchange.facts().set_by_agent() {
            let params = Params::new(Value::parse(&format!("{{{name:?}:1}}")).expect("JSON"))
                .expect("plain");
            let refusal = check_managed(*exchange, &params, RECEIVE_WINDOW_CAP_MS).expect_err(name);
            assert_eq!(refusal.code, Code::RequestForbiddenParameter);
            let other_case = Params::new(
                Value::parse(&format!("{{{:?}:1}}", name.to_uppercase())).expect("JSON"),
            );
            let mut request = request(
                exchange.table().endpoints()[0].method,
                exchange.table().endpoints()[0].path,
                "{}",
            );
            request.params = other_case.expect("plain");
            assert_eq!(
                classify(*exchange, first(*exchange), &request).expect_err(name).code,
                Code::RequestAmbiguous
            );
        }
    }
}

#[test]
fn ordinary_requests_need_no_more_than_they_say() {
    use Method::{Delete, Get, Post};
    let order = r#"{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT","quantity":"1","price":"2",
        "timeInForce":"GTC",
        "newClientOrderId":"x","newOrderRespType":"RESULT","stopPrice":"3",
        "selfTradePreventionMode":"NONE",
        "icebergQty":"1","quoteOrderQty":"1","recvWindow":5000}"#;
    let contract_order = r#"{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT","quantity":"1",
        "price":"2","timeInForce":"GTC",
        "newClientOrderId":"x","newOrderRespType":"RESULT","stopPrice":"3","reduceOnly":"true",
        "positionSide":"BOTH",
        "selfTradePreventionMode":"NONE","workingType":"MARK_PRICE","recvWindow":5000}"#;
    let transfer = r#"{"type":"MAIN_UMFUTURE","asset":"USDT","amount":"100"}"#;
    let withdrawal = r#"{"coin":"XRP","address":"r","addressTag":"1","amount":"25","network":"XRP",
        "name":"cold",
        "walletType":0,"withdrawOrderId":"w","transactionFeeFlag":true}"#;
    for (method, path, params, expected) in [
        (Get, "/api/v3/account", r#"{"omitZeroBalances":true}"#, Scope::Read),
        (Get, "/api/v3/openOrders", "{}", Scope::Read),
        (Get, "/sapi/v1/margin/maxBorrowable", r#"{"asset":"BTC"}"#, Scope::Read),
        (Get, "/sapi/v1/capital/deposit/address", r#"{"coin":"BTC","network":"BTC"}"#, Scope::Read),
        (
            Get,
            "/sapi/v1/capital/withdraw/history",
            r#"{"coin":"BTC","status":6,"offset":0,"limit":9,"startTime":1}"#,
            Scope::Read,
        ),
        (
            Get,
            "/sapi/v1/asset/transfer",
            r#"{"type":"MAIN_UMFUTURE","current":1,"size":10}"#,
            Scope::Read,
        ),
        (
            Get,
            "/fapi/v1/income",
            r#"{"incomeType":"TRANSFER","startTime":1,"endTime":2,"limit":3}"#,
            Scope::Read,
        ),
        (Post, "/api/v3/order", order, Scope::Trade),
        (Post, "/fapi/v1/order", contract_order, Scope::Trade),
        (Delete, "/api/v3/order", r#"{"symbol":"BTCUSDT","orderId":1}"#, Scope::Trade),
        (Post, "/fapi/v1/leverage", r#"{"symbol":"BTCUSDT","leverage":5}"#, Scope::Trade),
        (Post, "/sapi/v1/asset/transfer", transfer, Scope::Transfer),
        (
            Post,
            "/sapi/v1/sub-account/universalTransfer",
            r#"{"fromAccountType":"SPOT","toAccountType":"SPOT","asset":"USDT","amount":"1",
                "toEmail":"a@b.c"}"#,
            Scope::Transfer,
        ),
        (Post, "/sapi/v1/capital/withdraw/apply", withdrawal, Scope::Withdraw),
    ] {
        assert_eq!(
            judged("binance", method, path, params).effective,
            Scopes::only(expected),
            "{path} {params}"
        );
    }
}

/// Binance signs parameters only, so a signature opens every endpoint that its parameters fit. A
/// request to an endpoint that takes all these parameters needs the scope of each. Any other
/// endpoint takes none of them.
#[test]
fn parameters_of_other_endpoints_are_seen_on_binance() {
    use Scope::{Account, Admin, Session, Trade, Transfer, Withdraw};
    let binance = named("binance").expect("in the registry");
    for (params, expected) in [
        (r#"{"coin":"USDT","address":"T","amount":"9"}"#, Withdraw),
        (
            r#"{"coin":"USDT","address":"T","amount":"9","network":"TRX","addressTag":"1"}"#,
            Withdraw,
        ),
        (r#"{"address":"T"}"#, Withdraw),
        (r#"{"coin":"USDT","network":"BEP20","amount":"9"}"#, Withdraw),
        (r#"{"token":"USDT","amount":"9"}"#, Withdraw),
        (r#"{"baseToken":"USDT","faceToken":"BNB","baseTokenAmount":"9"}"#, Withdraw),
        (r#"{"code":"GIFT"}"#, Withdraw),
        (r#"{"currency":"EUR","apiPaymentMethod":"x","amount":1,"accountInfo":"y"}"#, Withdraw),
        (r#"{"paymentAccount":"x","amount":1,"paymentMethod":"BITGO"}"#, Withdraw),
        (r#"{"fromEmail":"a@b.c","asset":"BTC","amount":"1"}"#, Withdraw),
        (r#"{"type":"MAIN_UMFUTURE","asset":"USDT","amount":"1"}"#, Transfer),
        (r#"{"asset":"USDT","amount":"1","type":1}"#, Transfer),
        (
            r#"{"fromAccountType":"SPOT","toAccountType":"SPOT","asset":"USDT","amount":"1"}"#,
            Transfer,
        ),
        (r#"{"toEmail":"a@b.c","asset":"USDT","amount":"1"}"#, Transfer),
        (r#"{"email":"a@b.c","asset":"USDT","amount":"1","type":1}"#, Transfer),
        (r#"{"fromId":"1","asset":"USDT","amount":"1"}"#, Transfer),
        (r#"{"toId":"1","asset":"USDT","amount":"1"}"#, Transfer),
        (r#"{"transFrom":"SPOT","transTo":"ISOLATED_MARGIN"}"#, Transfer),
        (r#"{"asset":"USDT","amount":"1"}"#, Transfer),
        (r#"{"amount":"1","transferSide":"TO_UM"}"#, Transfer),
        (r#"{"email":"a@b.c","subAccountApiKey":"k","status":"2","ipAddress":"1.2.3.4"}"#, Admin),
        (r#"{"subAccountApiKey":"k","ipAddress":"1.2.3.4"}"#, Admin),
        (r#"{"email":"a@b.c","ipAddress":"1.2.3.4"}"#, Admin),
        (r#"{"email":"a@b.c"}"#, Admin),
        (r#"{"email":"a@b.c","apiName":"n","status":"1"}"#, Admin),
        (r#"{"apiName":"n"}"#, Admin),
        (r#"{"subAccountId":"1","canTrade":"true"}"#, Admin),
        (r#"{"subAccountId":"1","subAccountApiKey":"k","canUniversalTransfer":"true"}"#, Admin),
        (r#"{"subAccountString":"s"}"#, Admin),
        (r#"{"listenKey":"k"}"#, Session),
        (r#"{"symbol":"BTCUSDT"}"#, Trade),
        (r#"{"quoteId":"1"}"#, Trade),
        (r#"{"algoId":1}"#, Trade),
        (r#"{"batchOrders":"[]"}"#, Trade),
        (r#"{"dualSidePosition":"true"}"#, Trade),
        (r#"{"productId":"1","amount":"1"}"#, Account),
        (r#"{"spotBNBBurn":"true"}"#, Account),
    ] {
        let mut taken = 0;
        for row in binance.table().endpoints() {
            let request = request(row.method, row.path, params);
            match classify(binance, Algorithm::HmacSha256, &request) {
                Ok(judged) => {
                    // A client that may send an amount away gains nothing by staking it.
                    let gained =
                        expected != Account || !matches!(judged.scope, Transfer | Withdraw);
                    assert!(
                        !gained || judged.effective.contains(expected),
                        "{} {params}: {}",
                        row.path,
                        judged.effective
                    );
                    taken += 1;
                }
                Err(refusal) => assert_eq!(
                    refusal.code,
                    Code::RequestForbiddenParameter,
                    "{} {params}",
                    row.path
                ),
            }
        }
        assert!(taken > 0, "{params}");
    }
}

#[test]
fn limits_see_the_orders_of_every_endpoint_the_signature_opens() {
    use Method::Post;
    let order = r#"{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT","quantity":"7","price":"2"}"#;
    for path in [
        "/api/v3/order",
        "/api/v3/order/test",
        "/api/v3/sor/order",
        "/fapi/v1/order",
        "/sapi/v1/margin/order",
    ] {
        let orders = judged("binance", Post, path, order).orders.expect(path);
        let sized: Vec<_> = orders
            .iter()
            .filter(|order| order.sized)
            .map(|order| order.quantity.as_deref())
            .collect();
        assert_eq!(sized, [Some("7")], "{path}");
    }
    let batch = r#"{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT","quantity":"7","price":"2",
        "batchOrders":"[{\"symbol\":\"BTCUSDT\",\"quantity\":\"900\"}]"}"#;
    let orders = judged("binance", Post, "/fapi/v1/batchOrders", batch).orders.expect("readable");
    assert!(orders.iter().any(|order| order.quantity.as_deref() == Some("900")), "{orders:?}");
    let market = r#"{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT","quantity":"7","price":"2",
        "strategyType":"STOP_MARKET"}"#;
    let orders = judged("binance", Post, "/api/v3/order", market).orders.expect("readable");
    assert!(orders.iter().any(|order| order.kind.as_deref() == Some("STOP_MARKET")), "{orders:?}");
    // An order that is placed only when another fills has a size of its own. The agent cannot read
    // that size, so limits refuse the request.
    let pending =
        r#"{"symbol":"BTCUSDT","workingType":"LIMIT","workingSide":"BUY","workingQuantity":"900"}"#;
    assert!(judged("binance", Post, "/api/v3/orderList/oto", pending).orders.is_err());
}

#[test]
fn the_same_money_is_one_transfer() {
    let withdrawal =
        r#"{"coin":"XRP","address":"r","addressTag":"1","amount":"25","network":"XRP"}"#;
    let classified = judged("binance", Method::Post, "/sapi/v1/capital/withdraw/apply", withdrawal);
    assert_eq!(classified.transfers.len(), 1, "{:?}", classified.transfers);
    let transfer = &classified.transfers[0];
    assert_eq!((transfer.address.as_deref(), transfer.memo.as_deref()), (Some("r"), Some("1")));
    let hidden = judged(
        "binance",
        Method::Post,
        "/sapi/v1/w3w/wallet/prediction/withdraw/apply",
        withdrawal,
    );
    assert_eq!(hidden.transfers.len(), 1, "{:?}", hidden.transfers);
    assert_eq!(hidden.transfers[0].asset.as_deref(), Some("XRP"));
}

/// The setting of the wallet for deposits has a name that withdrawals have as well.
#[test]
fn a_withdrawal_needs_no_right_to_choose_a_wallet() {
    let withdrawal =
        r#"{"coin":"XRP","chain":"XRP","address":"r","amount":"25","accountType":"FUND"}"#;
    let withdrawal = judged("bybit", Method::Post, "/v5/asset/withdraw/create", withdrawal);
    assert_eq!(
        (withdrawal.effective, withdrawal.transfers.len()),
        (Scopes::only(Scope::Withdraw), 1)
    );
    for path in ["/v5/earn/place-order", "/v5/asset/deposit/deposit-to-account"] {
        let chosen = judged("bybit", Method::Post, path, r#"{"accountType":"FUND"}"#);
        assert!(chosen.effective.contains(Scope::Transfer), "{path}: {}", chosen.effective);
        assert!(
            chosen.transfers.iter().any(|transfer| transfer.asset.is_none()),
            "{path}: no limit fits it"
        );
    }
}

/// A frame of Binance's WebSocket API is the same request in another place. It is also a login to
/// that socket, after which Ed25519 keys place orders without a signature.
#[test]
fn a_frame_is_judged_as_the_request_and_the_login_that_it_is() {
    use Scope::{Session, Trade};
    let binance = named("binance").expect("in the registry");
    let order = r#"{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT","quantity":"0.1","price":"10"}"#;
    for (algorithm, params, needed, countable) in [
        (Algorithm::HmacSha256, order, scopes(&[Session, Trade]), true),
        (Algorithm::Ed25519, order, scopes(&[Session, Trade]), false),
    ] {
        let mut asked = request(Method::Post, "/api/v3/order", params);
        asked.params_in = Some(ParamsIn::WsApi);
        let judged = classify(binance, algorithm, &asked).expect("an order");
        assert_eq!(
            (judged.effective, judged.orders.is_ok()),
            (needed, countable),
            "{algorithm} {params}"
        );
    }
}

#[test]
fn frames_are_of_binance_spot_alone() {
    let binance = named("binance").expect("in the registry");
    for exchange in ALL {
        let key = key(*exchange, Environment::Production);
        for row in exchange.table().endpoints() {
            let mut asked = request(row.method, &row.path.replace(['{', '}'], ""), "{}");
            asked.params_in = Some(ParamsIn::WsApi);
            let host = exchange.host(&asked, Environment::Production).expect("a host");
            let drafted = exchange.draft(&asked, &key, host, &STAMP);
            let is_binances =
                exchange.facts().name == "binance" && row.path.starts_with("/api/v3/");
            assert!(drafted.is_err() || is_binances, "{} {}", exchange.facts().name, row.path);
        }
    }
    for (params, host) in [
        (r#"{"symbol":"A&B"}"#, None),
        (r#"{"symbols":["A"]}"#, None),
        ("{}", Some("api.binance.com")),
    ] {
        let mut asked = request(Method::Get, "/api/v3/openOrders", params);
        (asked.params_in, asked.host) = (Some(ParamsIn::WsApi), host.map(str::to_owned));
        let drafted = binance.draft(
            &asked,
            &key(binance, Environment::Production),
            "api.binance.com",
            &STAMP,
        );
        assert!(drafted.is_err(), "{params} {host:?}");
    }
}

#[test]
fn exchanges_that_bind_everything_are_judged_by_path() {
    use Scope::{Account, Admin, Read, Session, Trade, Transfer, Withdraw};
    for (exchange, method, path, expected) in [
        ("okx", Method::Get, "/users/self/verify", Session),
        ("okx", Method::Post, "/api/v5/trade/order", Trade),
        ("okx", Method::Post, "/api/v5/asset/transfer", Transfer),
        ("okx", Method::Post, "/api/v5/asset/withdrawal", Withdraw),
        ("okx", Method::Post, "/api/v5/asset/cancel-withdrawal", Withdraw),
        ("okx", Method::Post, "/api/v5/users/subaccount/apikey", Admin),
        ("okx", Method::Post, "/api/v5/finance/savings/purchase-redempt", Account),
        ("kraken", Method::Post, "/0/private/Balance", Read),
        ("kraken", Method::Post, "/0/private/GetApiKeyInfo", Read),
        ("kraken", Method::Post, "/0/private/GetWebSocketsToken", Session),
        ("kraken", Method::Post, "/0/private/Earn/Allocate", Account),
        ("kraken", Method::Post, "/0/private/WalletTransfer", Transfer),
        ("kraken", Method::Post, "/0/private/Withdraw", Withdraw),
        ("kraken", Method::Post, "/0/private/WithdrawCancel", Withdraw),
        ("kraken", Method::Post, "/0/private/CreateSubaccount", Admin),
    ] {
        let params = r#"{"coin":"USDT","address":"T","amount":"9"}"#;
        let classified = judged(exchange, method, path, params);
        // Orders of these exchanges' sessions need no signature.
        let effective =
            if expected == Session { scopes(&[Session, Trade]) } else { scopes(&[expected]) };
        assert_eq!((classified.scope, classified.effective), (expected, effective), "{path}");
    }
}

#[test]
fn a_name_that_ends_in_another_is_refused_where_the_signed_text_can_be_cut() {
    let binance = named("binance").expect("known");
    for params in [
        r#"{"token":"USDT","xamount":"9"}"#,
        r#"{"xbaseToken":"USDT","baseTokenAmount":"100","faceToken":"USDT"}"#,
        r#"{"toEmail":"e@x.y","asset":"USDT","xamount":"9"}"#,
        r#"{"xapiName":"e"}"#,
        r#"{"xsymbol":"BTCUSDT","side":"BUY","type":"MARKET","quantity":"10"}"#,
        r#"{"recvWindow":"5000","xrecvWindow":"60000"}"#,
        r#"{"type":"MAIN_UMFUTURE","asset":"USDT","amount":"9","coin":"USDT","xaddress":"0x"}"#,
    ] {
        let refused = classify(
            binance,
            Algorithm::HmacSha256,
            &request(Method::Get, "/api/v3/account", params),
        )
        .expect_err(params);
        assert_eq!(refused.code, Code::RequestAmbiguous, "{params}");
    }
}

/// A name of a row that ends in another name counts for that name too. No name ends in one that the
/// agent sets.
#[test]
fn a_listed_name_that_ends_in_another_counts_for_both() {
    for (path, params, hidden) in [
        ("/api/v3/rebate/affiliate/referral", r#"{"uid":"7"}"#, Scope::Withdraw),
        ("/api/v3/asset/internal/transfer/record", r#"{"transact_id":"7"}"#, Scope::Withdraw),
    ] {
        let effective = judged("mexc", Method::Get, path, params).effective;
        assert!(effective.contains(hidden), "{path} {params}: {effective}");
    }
    let joined =
        ALL.iter().filter(|exchange| exchange.facts().schemes.iter().any(|scheme| scheme.joined));
    for exchange in joined {
        for name in exchange.table().openings().iter().flat_map(|opening| opening.names()) {
            let ends = |set: &&str| name != *set && name.ends_with(*set);
            assert_eq!(exchange.facts().set_by_agent().find(ends), None, "{name}");
        }
    }
}

/// True if a client with limits on this symbol may send this request.
fn limited(exchange: &str, symbol: &str, path: &str, params: &str) -> bool {
    let amount = |text| Amount::parse(text).expect("a decimal");
    let client = Client {
        name: "bot".to_owned(),
        uid: 1,
        keys: [KeyName::parse("key").expect("a name")].into(),
        scopes: scopes(&[Scope::Read, Scope::Trade, Scope::Session]),
        symbols: Some([symbol.to_owned()].into()),
        max_quantity: [(symbol.to_owned(), amount("0.5"))].into(),
        limits: ["USD", "USDT"]
            .map(|asset| {
                (asset.to_owned(), SpendLimit { per_request: Some(amount("5000")), per_day: None })
            })
            .into(),
        rate: None,
        unbound: Release::Signature,
    };
    let exchange = named(exchange).expect("known");
    let mut key = key(exchange, Environment::Production);
    key.name = KeyName::parse("key").expect("a name");
    key.scopes = Scope::ALL.into_iter().collect();
    let request = request(Method::Post, path, params);
    let allows = |classified: &Classified<'_>| {
        matches!(
            Policy::default().decide(&client, &key, exchange, classified),
            Decision::Allow { .. }
        )
    };
    classify(exchange, key.algorithm, &request).is_ok_and(|classified| allows(&classified))
}

#[test]
fn limits_hold_against_lists_attachments_and_sessions() {
    let one = concat!(
        r#"{\"symbol\":\"BTCUSDT\",\"side\":\"BUY\",\"type\":\"LIMIT\","#,
        r#"\"quantity\":\"0.1\",\"price\":\"30000\"}"#,
    );
    let batch = |items: &str| format!(r#"{{"batchOrders":"[{items}]"}}"#);
    let binance = |params: &str| limited("binance", "BTCUSDT", "/fapi/v1/batchOrders", params);
    assert!(binance(&batch(one)));
    assert!(!binance(&batch(&format!("{one},{one}"))), "the same order twice is two orders");
    assert!(
        !binance(&batch(&replaced(one, r#"\"quantity"#, r#"\"Quantity\":\"99\",\"quantity"#))),
        "one spelling"
    );
    let closing = concat!(
        r#"{"quantity":"0.1","batchOrders":"[{\"symbol\":\"BTCUSDT\",\"side\":\"SELL\","#,
        r#"\"type\":\"STOP_MARKET\",\"stopPrice\":\"1\",\"closePosition\":\"true\"}]"}"#,
    );
    assert!(!binance(closing), "what stands beside a list says nothing of its items");

    let kraken = |path: &str, params: &str| limited("kraken", "XBTUSD", path, params);
    let add = "/0/private/AddOrderBatch";
    let item = r#"{"ordertype":"limit","type":"buy","volume":"0.1","price":"10"}"#;
    assert!(kraken(add, &format!(r#"{{"pair":"XBTUSD","orders":[{item}]}}"#)));
    assert!(!kraken(add, &format!(r#"{{"pair":"XDGUSD","orders":[{item}]}}"#)));
    let own_pair = replaced(item, "{", r#"{"pair":"XBTUSD","#);
    assert!(
        !kraken(add, &format!(r#"{{"pair":"XDGUSD","orders":[{own_pair}]}}"#)),
        "the outer pair is what counts"
    );
    let close = r#"{"pair":"XBTUSD","ordertype":"limit","type":"buy","volume":"0.1","price":"10",
        "close":{"ordertype":"limit","price":"9","volume":"99"}}"#;
    assert!(!kraken("/0/private/AddOrder", close));
    assert!(!kraken("/0/private/GetWebSocketsToken", "{}"), "orders of a session are not counted");

    let okx = |params: &str| limited("okx", "BTC-USDT", "/api/v5/trade/order", params);
    let order = r#"{"instId":"BTC-USDT","side":"buy","ordType":"limit","sz":"0.1","px":"10"#;
    assert!(okx(&format!(r#"{order}"}}"#)));
    for more in
        [r#","instIdCode":"7"}"#, r#","pxUsd":"9"}"#, r#","attachAlgoOrds":[{"sz":"100"}]}"#]
    {
        assert!(!okx(&format!("{order}\"{more}")), "{more}");
    }
}

#[test]
fn a_body_that_names_nothing_is_an_empty_one() {
    for params in ["{}", r#"{"stopOrderType":"Stop"}"#] {
        let judged = judged("bybit", Method::Post, "/v5/order/cancel-all", params);
        assert!(judged.effective.contains(Scope::Admin), "{params}");
    }
    let judged = judged("bybit", Method::Post, "/v5/order/cancel-all", r#"{"category":"spot"}"#);
    assert_eq!(judged.effective, scopes(&[Scope::Trade]));
}

/// The token of a private WebSocket has the same signed text as a request to its endpoint, and
/// needs the same scopes.
#[test]
fn a_session_that_is_a_token_is_the_request_for_it() {
    for (name, path) in [
        ("bitstamp", "/api/v2/websockets_token/"),
        ("kraken", "/0/private/GetWebSocketsToken"),
        ("kucoin", "/api/v1/bullet-private"),
        ("whitebit", "/api/v4/profile/websocket_token"),
    ] {
        let exchange = named(name).expect("in the registry");
        let (key, asked) =
            (key(exchange, Environment::Production), request(Method::Post, path, "{}"));
        let host = exchange.host(&asked, Environment::Production).expect("a host");
        let request = exchange.draft(&asked, &key, host, &STAMP).expect("a draft");
        let session = exchange.session(&key, &SessionLogin::ws(), &STAMP).expect("a login");
        assert_eq!(session.message, request.message, "{name}");
        let passphrase = SecretString::from("p");
        let session = session.finish(b"signature", Some(&passphrase)).expect("finished");
        let request = request.finish(b"signature", Some(&passphrase)).expect("finished");
        let sent = (session.url, session.headers, session.body, session.frame);
        assert_eq!(sent, (request.url, request.headers, request.body, None), "{name}");
        let grants = exchange.session_grants(key.algorithm, &SessionLogin::ws());
        assert_eq!(
            exchange.session_scopes(grants),
            judged(name, Method::Post, path, "{}").effective,
            "{name}"
        );
    }
}

/// On Upbit the token of a login is also that of every request without parameters. One of these
/// requests cancels open orders.
#[test]
fn a_login_to_upbit_needs_what_its_token_opens() {
    let upbit = named("upbit").expect("in the registry");
    let key = key(upbit, Environment::Production);
    let login = upbit.session(&key, &SessionLogin::ws(), &STAMP).expect("a login");
    let read = upbit
        .draft(&request(Method::Get, "/v1/accounts", "{}"), &key, "api.upbit.com", &STAMP)
        .expect("a draft");
    assert_eq!(login.message, read.message);
    let needed = upbit.session_scopes(upbit.session_grants(key.algorithm, &SessionLogin::ws()));
    assert_eq!(needed, scopes(&[Scope::Session, Scope::Trade]));
    let read = judged("upbit", Method::Get, "/v1/accounts", "{}");
    assert_eq!(read.effective, scopes(&[Scope::Read, Scope::Trade]));
}
