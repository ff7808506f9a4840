//! Tests that `policy explain` says what a signature leaves open, for every scheme that covers less
//! than the whole request.

mod asked;

use asked::{algorithms, client, filled, key};
use countersign_core::algorithm::Algorithm;
use countersign_core::exchange::{ALL, Exchange, Scheme, named};
use countersign_core::explain::explain;
use countersign_core::json::Value;
use countersign_core::key::Key;
use countersign_core::policy::Policy;
use countersign_core::refusal::Code;
use countersign_core::scope::Scope;
use countersign_core::wire::VERSION;
use countersign_core::wire::admin::{ExplainReply, ExplainRequest};

use Algorithm::{EcdsaP256Sha256, Ed25519, HmacSha256, HmacSha512, RsaPkcs1v15Sha256};

/// Exchange, kind of key, request, the parts of it that are not signed, and an endpoint that the
/// same signature opens, if there is one.
type Row = (
    &'static str,
    Algorithm,
    &'static str,
    &'static str,
    &'static [&'static str],
    Option<&'static str>,
);

const METHOD: &[&str] = &["method"];
const PARAMETERS: &[&str] = &["parameters"];
const PATH: &[&str] = &["path"];
const METHOD_AND_PATH: &[&str] = &["method", "path"];
const WITHDRAWAL: &str = r#"{"coin":"BTC","address":"x","amount":"1"}"#;

const EXPLAINED: &[Row] = &[
    (
        "binance",
        HmacSha256,
        "GET /sapi/v1/capital/deposit/address",
        r#"{"coin":"BTC","network":"LIGHTNING","amount":"1"}"#,
        METHOD_AND_PATH,
        Some("POST /sapi/v1/w3w/wallet/prediction/withdraw/apply"),
    ),
    (
        "binance",
        Ed25519,
        "GET /api/v3/order",
        r#"{"symbol":"BTCUSDT","orderId":1}"#,
        METHOD_AND_PATH,
        Some("DELETE /api/v3/order"),
    ),
    (
        "bybit",
        HmacSha256,
        "POST /v5/order/cancel-all",
        "{}",
        PATH,
        Some("POST /v5/user/delete-api"),
    ),
    (
        "bybit",
        RsaPkcs1v15Sha256,
        "POST /v5/order/cancel",
        r#"{"category":"spot","symbol":"BTCUSDT","orderId":"1"}"#,
        PATH,
        Some("POST /v5/spread/order/cancel"),
    ),
    ("bybit", HmacSha256, "GET /v5/account/info", "{}", METHOD_AND_PATH, None),
    (
        "bybit",
        HmacSha256,
        "GET /v5/account/wallet-balance",
        r#"{"accountType":"UNIFIED"}"#,
        PATH,
        None,
    ),
    ("coinbase", EcdsaP256Sha256, "POST /api/v3/brokerage/orders", "{}", PARAMETERS, None),
    ("coinbase", Ed25519, "POST /v2/accounts/a/transactions", "{}", PARAMETERS, None),
    ("coinbase", HmacSha256, "GET /api/v3/brokerage/accounts", "{}", PARAMETERS, None),
    ("htx", HmacSha256, "POST /v1/dw/withdraw/api/create", WITHDRAWAL, PARAMETERS, None),
    (
        "krakenfutures",
        HmacSha512,
        "GET /derivatives/api/v3/leveragepreferences",
        "{}",
        METHOD,
        Some("PUT /derivatives/api/v3/leveragepreferences"),
    ),
    (
        "mexc",
        HmacSha256,
        "GET /api/v3/openOrders",
        r#"{"symbol":"BTCUSDT"}"#,
        METHOD_AND_PATH,
        Some("DELETE /api/v3/openOrders"),
    ),
    (
        "mexc",
        HmacSha256,
        "POST /api/v1/private/order/cancel_all",
        "{}",
        PATH,
        Some("POST /api/v1/private/position/close_all"),
    ),
    ("mexc", HmacSha256, "GET /api/v1/private/account/assets", "{}", METHOD_AND_PATH, None),
    (
        "phemex",
        HmacSha256,
        "GET /spot/orders",
        r#"{"symbol":"sBTCUSDT"}"#,
        METHOD,
        Some("DELETE /spot/orders"),
    ),
    (
        "phemex",
        HmacSha256,
        "GET /spot/orders/active",
        r#"{"symbol":"sBTCUSDT","orderID":"1"}"#,
        METHOD,
        Some("DELETE /spot/orders"),
    ),
    (
        "upbit",
        HmacSha256,
        "GET /v1/accounts",
        "{}",
        METHOD_AND_PATH,
        Some("DELETE /v1/orders/open"),
    ),
    (
        "woo",
        HmacSha256,
        "GET /v1/orders",
        r#"{"symbol":"SPOT_BTC_USDT"}"#,
        METHOD_AND_PATH,
        Some("DELETE /v1/orders"),
    ),
];

fn explained(row: &Row) -> ExplainReply {
    explained_in(row, None)
}

fn explained_in(row: &Row, params_in: Option<&str>) -> ExplainReply {
    explained_with(row, params_in, &key(named(row.0).expect("in the registry"), row.1))
}

fn explained_with(row: &Row, params_in: Option<&str>, key: &Key) -> ExplainReply {
    let (_, _, request, params, ..) = row;
    let (method, path) = request.split_once(' ').expect("METHOD PATH");
    let asked = ExplainRequest {
        v: VERSION,
        client: "bot".to_owned(),
        key: "key".to_owned(),
        method: method.to_owned(),
        path: path.to_owned(),
        params: Some(Value::parse(params).expect("JSON")),
        params_in: params_in.map(str::to_owned),
        host: None,
    };
    explain(&Policy::default(), &client(key), key, asked).expect("explained")
}

#[test]
fn what_a_signature_leaves_open_is_said() {
    for row @ (name, _, request, _, unsigned, neighbour) in EXPLAINED {
        let reply = explained(row);
        assert_eq!(reply.unsigned, *unsigned, "{name} {request}");
        let told: Vec<_> = reply
            .neighbours
            .iter()
            .map(|other| format!("{} {}", other.method, other.path))
            .collect();
        let found = neighbour.is_none_or(|neighbour| told.iter().any(|other| other == neighbour));
        assert!(found, "{name} {request}: {neighbour:?} is not among {told:?}");
    }
}

/// The schemes of an exchange that cover less than the whole request, if some row and kind of key
/// uses them.
fn partial(exchange: &'static dyn Exchange) -> Vec<&'static Scheme> {
    let mut partial: Vec<&Scheme> = Vec::new();
    for (algorithm, row) in algorithms(exchange)
        .flat_map(|algorithm| exchange.table().endpoints().iter().map(move |row| (algorithm, row)))
    {
        let scheme = exchange.facts().scheme(algorithm, &filled(row.path));
        if !scheme.binding.is_full() && !partial.iter().any(|known| std::ptr::eq(*known, scheme)) {
            partial.push(scheme);
        }
    }
    partial
}

#[test]
fn every_scheme_that_covers_less_than_the_request_is_tried() {
    for exchange in ALL {
        let name = exchange.facts().name;
        for scheme in partial(*exchange) {
            let binding = scheme.binding;
            let tried = EXPLAINED.iter().any(|(of, algorithm, request, _, unsigned, neighbour)| {
                let path = request.split_once(' ').expect("METHOD PATH").1;
                let is_its =
                    *of == name && std::ptr::eq(exchange.facts().scheme(*algorithm, path), scheme);
                // If the method or the path is not signed, a case must name another endpoint. Else
                // it must name the parts that are not signed.
                is_its
                    && (if binding.method && binding.path {
                        !unsigned.is_empty()
                    } else {
                        neighbour.is_some()
                    })
            });
            assert!(tried, "no row for {name}, {scheme:?}");
        }
    }
}

#[test]
fn a_frame_is_explained_as_a_login() {
    let row = &EXPLAINED[1];
    let frame = explained_in(row, Some("ws-api"));
    assert!(
        frame.effective_scopes.contains(Scope::Session)
            && !explained(row).effective_scopes.contains(Scope::Session)
    );
}

/// The refusal says which row does not list the name, and which line would have to be added.
#[test]
fn a_name_that_no_line_has_is_explained() {
    for (name, request, params, wanted) in [
        (
            "bybit",
            "POST /v5/order/pre-check",
            r#"{"symbol":"BTCUSDT","cell_number":2}"#,
            ["POST /v5/order/pre-check", "\"cell_number?\"", "\"harmless cell_number # SOURCE\""],
        ),
        (
            "upbit",
            "GET /v1/accounts",
            r#"{"made_up":"1"}"#,
            ["GET /v1/accounts", "the line \"GET /v1/accounts made_up?\"", "upbit.params"],
        ),
    ] {
        let reply = explained(&(name, HmacSha256, request, params, PATH, None));
        assert_eq!(
            (reply.decision.as_str(), reply.code),
            ("deny", Some(Code::RequestForbiddenParameter)),
            "{params}"
        );
        let message = reply.message.expect("a message");
        assert!(wanted.iter().all(|wanted| message.contains(wanted)), "{message}");
    }
}

/// A read without parameters is signed for a key that can neither move money nor change keys, and
/// refused for a key that can.
#[test]
fn a_read_without_parameters_is_refused_where_its_text_moves_money_or_keys_and_the_key_may() {
    let row = ("bybit", HmacSha256, "GET /v5/account/info", "{}", METHOD_AND_PATH, None);
    let asked = |scopes: &[Scope]| {
        let scopes = scopes.iter().copied().collect();
        explained_with(
            &row,
            None,
            &Key { scopes, ..key(named("bybit").expect("in the registry"), HmacSha256) },
        )
    };
    assert_eq!(asked(&[Scope::Read, Scope::Trade]).decision, "allow");
    assert_eq!(
        asked(&[Scope::Read, Scope::Trade, Scope::Account, Scope::Session]).decision,
        "allow"
    );
    for right in [Scope::Transfer, Scope::Withdraw, Scope::Admin] {
        let reply = asked(&[Scope::Read, Scope::Trade, right]);
        assert_eq!(
            (reply.decision.as_str(), reply.code),
            ("deny", Some(Code::PolicyEffectiveScope)),
            "{right}"
        );
        assert!(reply.message.is_some_and(|message| message.contains("without parameters")));
    }
    // On MEXC the empty text is also that of the request that closes all positions. No money
    // leaves.
    let mexc =
        ("mexc", HmacSha256, "GET /api/v1/private/account/assets", "{}", METHOD_AND_PATH, None);
    assert_eq!(explained(&mexc).decision, "allow");
}

#[test]
fn what_more_persons_have_to_approve_than_are_named_is_denied() {
    let row = (
        "okx",
        HmacSha256,
        "POST /api/v5/account/set-position-mode",
        r#"{"posMode":"net_mode"}"#,
        &[] as &[&str],
        None,
    );
    assert_eq!(explained(&row).decision, "allow");
    let sealed = Key { in_vault: true, ..key(named("okx").expect("in the registry"), HmacSha256) };
    let reply = explained_with(&row, None, &sealed);
    assert_eq!((reply.decision.as_str(), reply.code), ("deny", Some(Code::ApprovalRequired)));
    assert!(reply.message.is_some_and(|message| message.contains("[approver.NAME]")));
}

#[test]
fn where_everything_is_signed_nothing_is_open() {
    let row = (
        "okx",
        HmacSha256,
        "POST /api/v5/trade/order",
        r#"{"ccy":"BTC","amt":"1","dest":"4","toAddr":"x"}"#,
        &[] as &[&str],
        None,
    );
    let reply = explained(&row);
    assert!(reply.unsigned.is_empty() && reply.neighbours.is_empty(), "{reply:?}");
}
