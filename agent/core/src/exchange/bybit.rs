//! The recipe for Bybit v5, with HMAC and RSA keys.
//!
//! <https://bybit-exchange.github.io/docs/v5/guide#authentication>

use std::sync::LazyLock;

use super::facts::{Facts, Hosts};
use super::login::{SessionLogin, WS};
use super::order::Order;
use super::order_facts::{Mark, OrderFacts, Unit, Whole};
use super::parameters::{ParameterPlace, after_number, named, query_raw};
use super::recipe::Exchange;
use super::scheme::{Binding, Scheme};
use super::table::Table;
use super::worth::ending_in;
use crate::algorithm::Algorithm;
use crate::draft::{Draft, Encoding, SIGNATURE_PLACEHOLDER, SessionDraft, Template};
use crate::json::Value;
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::Request;
use crate::scope::Scope;
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Bybit;

static FACTS: Facts = Facts {
    name: "bybit",
    documentation: "https://bybit-exchange.github.io/docs/v5/guide#authentication",
    algorithms: &[Algorithm::HmacSha256, Algorithm::RsaPkcs1v15Sha256],
    // The signed text is a query or a JSON body, which tells GET from POST.
    schemes: &[Scheme::of("/", Binding { path: false, ..Binding::FULL }).with_objects()],
    // The hosts of the guide, and those of regional sites that the guide and ccxt name. Only the
    // site where a key was made knows the key.
    hosts: &[
        Hosts {
            environment: Environment::Production,
            path_prefix: "/v5/",
            hosts: &[
                "api.bybit.com",
                "api.bytick.com",
                "api.bybit.ae",
                "api.bybit.eu",
                "api.bybit.id",
                "api.bybit.kz",
                "api.bybit.nl",
                "api.bybit.tr",
                "api.bybit-tr.com",
                "api.bybitgeorgia.ge",
                "api.manepa.jp",
            ],
        },
        Hosts {
            environment: Environment::Testnet,
            path_prefix: "/v5/",
            hosts: &[
                "api-testnet.bybit.com",
                "api-demo.bybit.com",
                "api-demo.bybit.eu",
                "api-demo.bybit.id",
                "api-testnet.bybit.eu",
                "api-testnet.bybit.id",
            ],
        },
    ],
    // The trade socket takes orders without a signature.
    session_grants: &[Scope::Read, Scope::Trade],
    orders: OrderFacts {
        priced: &["Limit"],
        unpriced: &["Market"],
        quoted: &["Market"],
        // An order with a size of zero is also one for a whole position.
        whole: Whole::By(
            &[Mark::of("tpslMode").unless(&["Partial"])],
            "https://bybit-exchange.github.io/docs/v5/order/create-order: Full",
        ),
        repricing: &[Mark::of("bboLevel"), Mark::of("bboSideType"), Mark::of("orderIv")],
        legs: &["slLimitPrice", "stopLoss", "takeProfit", "tpLimitPrice"],
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(&FACTS, include_str!("bybit.scopes"), include_str!("bybit.params"))
});

impl Exchange for Bybit {
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
        let place = ParameterPlace::but_get(request.method);
        place.check(request)?;
        let (now, window) = (stamp.now_ms, stamp.receive_window_ms.unwrap_or(WINDOW_MS));
        let (query, body) = match place {
            // The query is signed as it is sent. Page cursors come percent-encoded from the
            // exchange and go back as they came. Only reads have a query, so nothing depends on how
            // it is decoded.
            ParameterPlace::Query => {
                (format!("?{}", query_raw(request, &TABLE, after_number(named(request)?)?)?), None)
            }
            ParameterPlace::Body(_) => (String::new(), Some(body(request, now)?)),
        };
        let payload = body.as_deref().unwrap_or(query.trim_start_matches('?'));
        let message = format!("{now}{}{window}{payload}", key.api_key);
        let url = format!("https://{host}{}{query}", request.path);
        Ok(Draft::new(request, key, stamp, message, encoding(key), url)
            .header("Content-Type", "application/json")
            .header("X-BAPI-API-KEY", key.api_key.clone())
            .header("X-BAPI-TIMESTAMP", now.to_string())
            .header("X-BAPI-RECV-WINDOW", window.to_string())
            .header("X-BAPI-SIGN", Template::signature())
            .body(body))
    }

    fn session(
        &self,
        key: &Key,
        login: &SessionLogin,
        stamp: &Stamp,
    ) -> Result<SessionDraft, Refusal> {
        login.no_arguments()?;
        let socket =
            if login.one_of(&[WS, TRADE_SOCKET])? == TRADE_SOCKET { "trade" } else { "private" };
        let host = match key.environment {
            Environment::Production => "stream.bybit.com",
            Environment::Testnet => "stream-testnet.bybit.com",
        };
        let expires = stamp.now_ms + 10_000;
        let arguments = vec![
            key.api_key.as_str().into(),
            Value::Number(expires.to_string()),
            SIGNATURE_PLACEHOLDER.into(),
        ];
        let frame = Value::object([("op", "auth".into()), ("args", Value::Array(arguments))]);
        let (message, url) =
            (format!("GET/realtime{expires}"), format!("wss://{host}/v5/{socket}"));
        Ok(SessionDraft::new(key, stamp, message, encoding(key), &url)
            .frame(Template::json(&frame)))
    }

    fn unit(&self, order: &Order<'_>) -> Unit {
        let (kind, side) = (order.kind.as_deref(), order.side.as_deref());
        match (order.market.as_deref(), kind, order.extra("marketUnit"), side) {
            (Some("inverse"), ..) => {
                Unit::Unknown("an inverse contract is sized in its quote asset")
            }
            (Some("linear" | "option"), ..)
            | (Some("spot"), Some("Limit"), None | Some("baseCoin"), _) => Unit::Base,
            (Some("spot"), Some("Market"), Some("baseCoin"), _)
            | (Some("spot"), Some("Market"), None, Some("Sell")) => Unit::Base,
            (Some("spot"), Some("Market"), Some("quoteCoin"), _)
            | (Some("spot"), Some("Market"), None, Some("Buy")) => Unit::Quote,
            _ => Unit::Unknown("its size may be in either asset"),
        }
    }

    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        match order.market.as_deref() {
            Some("spot") => {
                ending_in(order.symbol.as_deref(), &["BTC", "ETH", "EUR", "USDC", "USDT"])
            }
            Some("linear") => ending_in(order.symbol.as_deref(), &["USDT"]),
            _ => Err("a contract's worth is not in its order"),
        }
    }
}

/// The socket that takes orders.
const TRADE_SOCKET: &str = "ws-trade";

/// Milliseconds for which the exchange takes a request.
const WINDOW_MS: u64 = 5_000;

/// The body as JSON. A withdrawal also has the time among its parameters.
fn body(request: &Request, now_ms: u64) -> Result<String, Refusal> {
    const TIME: &str = "timestamp";
    if request.path.as_str() != "/v5/asset/withdraw/create" || request.params.get(TIME).is_some() {
        return Ok(request.params.value().to_json());
    }
    let mut members = named(request)?.to_vec();
    members.push((TIME.to_owned(), Value::Number(now_ms.to_string())));
    Ok(Value::Object(members).to_json())
}

/// Hexadecimal for HMAC, base64 for RSA.
fn encoding(key: &Key) -> Encoding {
    if key.algorithm.is_hmac() { Encoding::Hex } else { Encoding::Base64 }
}
