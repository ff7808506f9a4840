//! The recipe for Bitstamp v2.
//!
//! <https://www.bitstamp.net/api/#section/Authentication>

use std::sync::LazyLock;

use super::facts::{Facts, Hosts, Nonce};
use super::login::SessionLogin;
use super::login_token::token;
use super::order::Order;
use super::order_facts::{Mark, OrderFacts, Whole};
use super::parameters::{ParameterPlace, named, query};
use super::recipe::Exchange;
use super::table::Table;
use super::worth::ending_in;
use crate::draft::{Draft, Encoding, SessionDraft, Template};
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::{Method, ParamsIn, Request};
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Bitstamp;

static FACTS: Facts = Facts {
    name: "bitstamp",
    documentation: "https://www.bitstamp.net/api/#section/Authentication",
    nonce: Nonce::Uuid,
    hosts: &[Hosts {
        environment: Environment::Production,
        path_prefix: "/",
        hosts: &["www.bitstamp.net"],
    }],
    // A parameter of the older signature, which stood in the form.
    managed: &["key"],
    orders: OrderFacts {
        priced: &["limit"],
        unpriced: &["instant", "market"],
        quoted: &["instant"],
        whole: Whole::No("https://www.bitstamp.net/api/: every order has an amount"),
        resizing: &[Mark::of("amount_in_counter").unless(&["False", "false"])],
        legs: &["limit_price"],
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(&FACTS, include_str!("bitstamp.scopes"), include_str!("bitstamp.params"))
});

impl Exchange for Bitstamp {
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
        ParameterPlace::Body(ParamsIn::Form).check(request)?;
        let (body, content_type) = match (request.method, named(request)?) {
            (Method::Post, []) => (Some(EMPTY.to_owned()), FORM_CONTENT_TYPE),
            (Method::Post, params) => (Some(query(params)?), FORM_CONTENT_TYPE),
            (_, []) => (None, ""),
            (..) => {
                return Err(Refusal::malformed("only a POST of this exchange takes parameters"));
            }
        };
        let (id, nonce, now) =
            (format!("BITSTAMP {}", key.api_key), stamp.uuid(), stamp.now_ms.to_string());
        let form = body.as_deref().unwrap_or_default();
        let message = format!(
            "{id}{}{host}{}{content_type}{nonce}{now}v2{form}",
            request.method, request.path
        );
        let url = format!("https://{host}{}", request.path);
        let mut draft = Draft::new(request, key, stamp, message, Encoding::Hex, url)
            .header("X-Auth", id)
            .header("X-Auth-Nonce", nonce)
            .header("X-Auth-Timestamp", now)
            .header("X-Auth-Version", "v2")
            .header("X-Auth-Signature", Template::signature());
        if body.is_some() {
            draft = draft.header("Content-Type", FORM_CONTENT_TYPE);
        }
        Ok(draft.body(body))
    }

    /// <https://www.bitstamp.net/websocket/v2/>
    fn session(
        &self,
        key: &Key,
        login: &SessionLogin,
        stamp: &Stamp,
    ) -> Result<SessionDraft, Refusal> {
        login.plain()?;
        token(self, "www.bitstamp.net", "/api/v2/websockets_token/", key, stamp)
    }

    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        ending_in(order.symbol.as_deref(), QUOTES)
    }
}

const FORM_CONTENT_TYPE: &str = "application/x-www-form-urlencoded";

/// The exchange refuses a form without any name (API0020).
const EMPTY: &str = "foo=bar";

/// Endings of a pair: `btcusd`.
const QUOTES: &[&str] = &["btc", "eth", "eur", "gbp", "pax", "usd", "usdc", "usdt"];
