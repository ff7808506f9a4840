//! The recipe for Binance: spot, wallet and margin, USD-M, COIN-M, options and portfolio margin,
//! which share one key.
//!
//! <https://developers.binance.com/docs/binance-spot-api-docs/rest-api/request-security>

mod payload;
mod symbol_worth;
mod ws_api;

use std::sync::LazyLock;

use super::facts::{Facts, Hosts, WindowParameter};
use super::login::SessionLogin;
use super::order::Order;
use super::order_facts::{Mark, OrderFacts, Whole};
use super::parameters::{ParameterPlace, named, query, raw};
use super::recipe::Exchange;
use super::scheme::{Binding, Scheme};
use super::table::Table;
use crate::algorithm::Algorithm;
use crate::draft::{Draft, Encoding, Piece, SessionDraft, Template};
use crate::json::write_string;
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::{ParamsIn, Request};
use crate::scope::Scope;
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Binance;

const WINDOW_PARAMETER: &str = "recvWindow";

static FACTS: Facts = Facts {
    name: "binance",
    documentation: "https://developers.binance.com/docs/binance-spot-api-docs/rest-api/\
                    request-security",
    algorithms: &[Algorithm::HmacSha256, Algorithm::Ed25519, Algorithm::RsaPkcs1v15Sha256],
    schemes: &[Scheme::of("/", Binding::PARAMETERS).joined()],
    hosts: &[
        production("/api/", SPOT_HOSTS),
        production("/sapi/", SPOT_HOSTS),
        production("/fapi/", &["fapi.binance.com"]),
        production("/dapi/", &["dapi.binance.com"]),
        production("/eapi/", &["eapi.binance.com"]),
        production("/papi/", &["papi.binance.com"]),
        // Wallet and portfolio margin have no test network. A demo key is a test key too.
        testnet("/api/", &["testnet.binance.vision", "demo-api.binance.com"]),
        testnet("/fapi/", &["testnet.binancefuture.com", "demo-fapi.binance.com"]),
        testnet("/dapi/", &["testnet.binancefuture.com", "demo-dapi.binance.com"]),
        testnet("/eapi/", &["testnet.binancefuture.com"]),
    ],
    managed: &["apiKey"],
    receive_window: Some(WindowParameter { name: WINDOW_PARAMETER, default_ms: 10_000 }),
    orders: OrderFacts {
        priced: &[
            "",
            "LIMIT",
            "LIMIT_MAKER",
            "STOP",
            "STOP_LOSS_LIMIT",
            "TAKE_PROFIT",
            "TAKE_PROFIT_LIMIT",
        ],
        unpriced: &[
            "MARKET",
            "STOP_LOSS",
            "STOP_MARKET",
            "TAKE_PROFIT_MARKET",
            "TRAILING_STOP_MARKET",
        ],
        quoted: &["MARKET"],
        whole: Whole::By(
            &[Mark::of("closePosition").unless(&["false"])],
            "https://developers.binance.com/docs/derivatives/usds-margined-futures/trade/rest-api/\
             New-Order",
        ),
        repricing: &[
            Mark::of("pegOffsetType"),
            Mark::of("pegOffsetValue"),
            Mark::of("pegPriceType"),
            Mark::of("priceMatch").unless(&["NONE"]),
        ],
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

const SPOT_HOSTS: &[&str] = &[
    "api.binance.com",
    "api-gcp.binance.com",
    "api1.binance.com",
    "api2.binance.com",
    "api3.binance.com",
    "api4.binance.com",
];

const fn production(path_prefix: &'static str, hosts: &'static [&'static str]) -> Hosts {
    Hosts { environment: Environment::Production, path_prefix, hosts }
}

const fn testnet(path_prefix: &'static str, hosts: &'static [&'static str]) -> Hosts {
    Hosts { environment: Environment::Testnet, path_prefix, hosts }
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(&FACTS, include_str!("binance.scopes"), include_str!("binance.params"))
});

impl Exchange for Binance {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn table(&self) -> &'static Table {
        &TABLE
    }

    fn draft(
        &self,
        request: &Request,
        key: &Key,
        host: &str,
        stamp: &Stamp,
    ) -> Result<Draft, Refusal> {
        if request.params_in == Some(ParamsIn::WsApi) {
            return ws_api::draft(request, key, stamp);
        }
        let place = ParameterPlace::of(request.method, ParamsIn::Form);
        place.check(request)?;
        if UNSIGNED.contains(&request.path.as_str()) {
            return unsigned(request, key, host, stamp);
        }
        let payload = payload::payload(request, stamp)?;
        let message = payload.clone().into_bytes();
        let (encoding, signature) = match key.algorithm {
            Algorithm::HmacSha256 => (Encoding::Hex, Piece::Signature),
            _ => (Encoding::Base64, Piece::SignaturePercentEncoded),
        };
        let signed = |text: String| Template::text(text + "&signature=").then(signature);
        let api_key = ("X-MBX-APIKEY", key.api_key.clone().into());
        let (url, headers, body) = match place {
            ParameterPlace::Query => {
                let url = ["https://", host, request.path.as_str(), "?", &payload].concat();
                (signed(url), vec![api_key], None)
            }
            ParameterPlace::Body(_) => {
                let url = ["https://", host, request.path.as_str()].concat();
                let form = ("Content-Type", "application/x-www-form-urlencoded".into());
                (url.into(), vec![api_key, form], Some(signed(payload)))
            }
        };
        Ok(Draft {
            algorithm: key.algorithm,
            message,
            encoding,
            method: request.method,
            url,
            headers,
            body,
            timestamp_ms: stamp.now_ms,
        })
    }

    /// The signed text of a subscription is also that of `session.logon`, after which orders need
    /// no signature. `session.logon` takes Ed25519 keys only.
    fn session_grants(&self, algorithm: Algorithm, _login: &SessionLogin) -> &'static [Scope] {
        if algorithm == Algorithm::Ed25519 {
            &[Scope::Read, Scope::Trade]
        } else {
            FACTS.session_grants
        }
    }

    /// Subscribes to the account's own events.
    fn session(
        &self,
        key: &Key,
        login: &SessionLogin,
        stamp: &Stamp,
    ) -> Result<SessionDraft, Refusal> {
        login.plain()?;
        let (api_key, now) = (&key.api_key, stamp.now_ms);
        let mut frame =
            r#"{"method":"userDataStream.subscribe.signature","params":{"apiKey":"#.to_owned();
        write_string(&mut frame, api_key);
        frame.push_str(&format!(r#","timestamp":{now},"signature":""#));
        Ok(SessionDraft {
            algorithm: key.algorithm,
            // Sorted by name, not escaped.
            message: format!("apiKey={}&timestamp={now}", raw("apiKey", api_key)?).into_bytes(),
            encoding: if key.algorithm.is_hmac() { Encoding::Hex } else { Encoding::Base64 },
            url: ws_api::socket(key.environment).to_owned(),
            frame: Some(Template::text(frame).then(Piece::Signature).then_text("\"}}")),
            headers: Vec::new(),
            body: None,
            timestamp_ms: now,
        })
    }

    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        symbol_worth::quote_asset(order)
    }
}

/// Paths of listen keys: the exchange wants the API key's id and no signature.
const UNSIGNED: &[&str] = &[
    "/api/v3/userDataStream",
    "/dapi/v1/listenKey",
    "/eapi/v1/listenKey",
    "/fapi/v1/listenKey",
    "/papi/v1/listenKey",
    "/sapi/v1/userDataStream",
    "/sapi/v1/userListenToken",
];

/// A request that needs no signature. The agent signs a text without a timestamp beside it, which
/// opens nothing.
fn unsigned(request: &Request, key: &Key, host: &str, stamp: &Stamp) -> Result<Draft, Refusal> {
    Ok(Draft {
        algorithm: key.algorithm,
        message: b"unsigned".to_vec(),
        encoding: Encoding::Hex,
        method: request.method,
        url: format!("https://{host}{}", request.path).into(),
        headers: vec![
            ("X-MBX-APIKEY", key.api_key.clone().into()),
            ("Content-Type", "application/x-www-form-urlencoded".into()),
        ],
        body: Some(query(named(request)?)?.into()),
        timestamp_ms: stamp.now_ms,
    })
}
