//! The recipe for Gemini. It signs a payload of path, nonce and parameters in base64.
//!
//! <https://docs.gemini.com/rest-api/#private-api-invocation>

use std::sync::LazyLock;

use super::facts::{Facts, Hosts, Nonce};
use super::login::SessionLogin;
use super::order::Order;
use super::order_facts::{Flags, OrderFacts, Whole};
use super::parameters::{ParameterPlace, named};
use super::recipe::Exchange;
use super::table::Table;
use super::text::base64;
use crate::algorithm::Algorithm;
use crate::draft::{Draft, Encoding, SessionDraft, Template};
use crate::json::Value;
use crate::key::{Environment, Key, NonceUnit};
use crate::refusal::Refusal;
use crate::request::{Method, ParamsIn, Request};
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Gemini;

static FACTS: Facts = Facts {
    name: "gemini",
    documentation: "https://docs.gemini.com/rest-api/#private-api-invocation",
    algorithms: &[Algorithm::HmacSha384],
    nonce: Nonce::Increasing(NonceUnit::Milliseconds),
    hosts: &[
        Hosts {
            environment: Environment::Production,
            path_prefix: "/",
            hosts: &["api.gemini.com"],
        },
        Hosts {
            environment: Environment::Testnet,
            path_prefix: "/",
            hosts: &["api.sandbox.gemini.com"],
        },
    ],
    managed: &["request"],
    // Here it is a parameter of a read: the time at which a list begins.
    taken: &["timestamp"],
    orders: OrderFacts {
        priced: &["exchange limit"],
        unpriced: &["exchange market", "exchange stop limit", "limit"],
        whole: Whole::No("https://docs.gemini.com/rest/orders: every order has an amount"),
        // With each of these options, an order trades at its price or better, and at most its
        // amount.
        flags: &[Flags {
            name: "options",
            words: &["fill-or-kill", "immediate-or-cancel", "maker-or-cancel"],
        }],
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(&FACTS, include_str!("gemini.scopes"), include_str!("gemini.params"))
});

impl Exchange for Gemini {
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
        ParameterPlace::Body(ParamsIn::PayloadJson).check(request)?;
        let nonce = Value::String(stamp.nonce.to_string());
        let payload = payload(request.path.as_str(), nonce, named(request)?);
        let url = format!("https://{host}{}", request.path);
        // The exchange reads only the header with the payload, not the body.
        let body = (request.method != Method::Get).then(|| request.params.value().to_json());
        Ok(Draft::new(request, key, stamp, payload.clone(), Encoding::Hex, url)
            .header("Content-Type", "text/plain")
            .header("X-GEMINI-APIKEY", key.api_key.clone())
            .header("X-GEMINI-PAYLOAD", payload)
            .header("X-GEMINI-SIGNATURE", Template::signature())
            .body(body))
    }

    /// A login for order events, in the headers of the connect request
    /// (<https://docs.gemini.com/websocket-api/#authentication>).
    fn session(
        &self,
        key: &Key,
        login: &SessionLogin,
        stamp: &Stamp,
    ) -> Result<SessionDraft, Refusal> {
        login.plain()?;
        let payload = payload("/v1/order/events", Value::Number(stamp.nonce.to_string()), &[]);
        let url = match key.environment {
            Environment::Production => "wss://api.gemini.com/v1/order/events",
            Environment::Testnet => "wss://api.sandbox.gemini.com/v1/order/events",
        };
        Ok(SessionDraft::new(key, stamp, payload.clone(), Encoding::Hex, url)
            .header("X-GEMINI-APIKEY", key.api_key.clone())
            .header("X-GEMINI-PAYLOAD", payload)
            .header("X-GEMINI-SIGNATURE", Template::signature()))
    }

    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        let symbol = order.symbol.as_deref().ok_or("it names no symbol")?;
        // PAXG in dollars: there is no asset PAX in GUSD.
        if symbol == "paxgusd" {
            return Ok("usd");
        }
        let quote =
            QUOTES.iter().find(|quote| symbol.len() > quote.len() && symbol.ends_with(**quote));
        quote.copied().ok_or("the quote asset of its symbol is not known")
    }
}

/// Endings of a symbol; `perp` contracts have none of them.
const QUOTES: &[&str] = &["usdt", "gusd", "usdc", "usd", "btc", "eth", "eur", "gbp", "sgd", "dai"];

fn payload(path: &str, nonce: Value, params: &[(String, Value)]) -> String {
    let mut members =
        vec![("request".to_owned(), Value::String(path.to_owned())), ("nonce".to_owned(), nonce)];
    members.extend(params.iter().cloned());
    base64(Value::Object(members).to_json())
}
