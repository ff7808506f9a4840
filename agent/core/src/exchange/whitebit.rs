//! The recipe for WhiteBIT v4. It signs the body in base64; the body holds path and nonce.
//!
//! <https://docs.whitebit.com/private/http-auth/>

use std::sync::LazyLock;

use super::facts::{Facts, Hosts, Nonce};
use super::login::SessionLogin;
use super::login_token::token;
use super::order::Order;
use super::order_facts::{Mark, OrderFacts, Unit, Whole};
use super::parameters::{ParameterPlace, named};
use super::recipe::Exchange;
use super::table::Table;
use super::text::base64;
use super::worth::quote_of;
use crate::algorithm::Algorithm;
use crate::draft::{Draft, Encoding, SessionDraft, Template};
use crate::json::Value;
use crate::key::{Environment, Key, NonceUnit};
use crate::refusal::Refusal;
use crate::request::{ParamsIn, Request};
use crate::scope::Scope;
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Whitebit;

static FACTS: Facts = Facts {
    name: "whitebit",
    documentation: "https://docs.whitebit.com/private/http-auth/",
    algorithms: &[Algorithm::HmacSha512],
    nonce: Nonce::Increasing(NonceUnit::Milliseconds),
    hosts: &[Hosts {
        environment: Environment::Production,
        path_prefix: "/",
        hosts: &["whitebit.com", "whitebit.eu"],
    }],
    managed: &["nonceWindow", "request"],
    session_grants: &[Scope::Read, Scope::Trade],
    orders: OrderFacts {
        priced: &["", "limit", "oco", "stop-limit"],
        unpriced: &["market", "stop-market", "trigger-market"],
        quoted: &["market", "stop-market"],
        whole: Whole::No(
            "https://docs.whitebit.com/private/http-trade-v4/: every order has an amount",
        ),
        resizing: &[Mark::of("total")],
        repricing: &[Mark::of("bboRole")],
        legs: &["stopLoss", "stop_limit_price", "takeProfit"],
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(&FACTS, include_str!("whitebit.scopes"), include_str!("whitebit.params"))
});

impl Exchange for Whitebit {
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
        ParameterPlace::Body(ParamsIn::Json).check(request)?;
        let mut members = vec![
            ("request".to_owned(), Value::String(request.path.to_string())),
            ("nonce".to_owned(), Value::String(stamp.nonce.to_string())),
            // With a window the exchange would take nonces that do not grow.
            ("nonceWindow".to_owned(), Value::Bool(false)),
        ];
        members.extend(named(request)?.iter().cloned());
        let body = Value::Object(members).to_json();
        let payload = base64(&body);
        let url = format!("https://{host}{}", request.path);
        Ok(Draft::new(request, key, stamp, payload.clone(), Encoding::Hex, url)
            .header("Content-Type", "application/json")
            .header("X-TXC-APIKEY", key.api_key.clone())
            .header("X-TXC-PAYLOAD", payload)
            .header("X-TXC-SIGNATURE", Template::signature())
            .body(Some(body)))
    }

    /// <https://docs.whitebit.com/private/websocket/>
    fn session(
        &self,
        key: &Key,
        login: &SessionLogin,
        stamp: &Stamp,
    ) -> Result<SessionDraft, Refusal> {
        login.plain()?;
        token(self, "whitebit.com", "/api/v4/profile/websocket_token", key, stamp)
    }

    fn unit(&self, order: &Order<'_>) -> Unit {
        // A market order that buys is sized in the quote asset. A market order that sells is sized
        // in the base asset.
        if order.quote.is_some() && order.side.as_deref() != Some("buy") {
            return Unit::Unknown("its size is in the base asset, unless it buys");
        }
        Unit::Base
    }

    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        match quote_of(order.symbol.as_deref(), '_')? {
            "PERP" => Err("a contract's worth is not in its order"),
            quote => Ok(quote),
        }
    }
}
