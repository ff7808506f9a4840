//! The recipe for WOO. v3 signs the whole request, v1 only its parameters.
//!
//! <https://docs.woox.io/#authentication>

use std::sync::LazyLock;

use super::facts::{Facts, Hosts};
use super::login::SessionLogin;
use super::order::Order;
use super::order_facts::{Mark, OrderFacts, Whole};
use super::parameters::{ParameterPlace, named, query, sorted};
use super::recipe::Exchange;
use super::scheme::{Binding, Scheme};
use super::table::Table;
use crate::draft::{Draft, Encoding, SIGNATURE_PLACEHOLDER, SessionDraft, Template};
use crate::json::Value;
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::{Method, ParamsIn, Request};
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Woo;

static FACTS: Facts = Facts {
    name: "woo",
    documentation: "https://docs.woox.io/#authentication",
    // For v1 the exchange verifies the parameters sorted by name, so no text can be cut into other
    // parameters.
    schemes: &[Scheme::of("/v1/", Binding::PARAMETERS), Scheme::FULL],
    hosts: &[
        Hosts {
            environment: Environment::Production,
            path_prefix: "/",
            hosts: &["api.woox.io", "api.woo.org"],
        },
        Hosts {
            environment: Environment::Testnet,
            path_prefix: "/",
            hosts: &["api.staging.woox.io", "api.staging.woo.org"],
        },
    ],
    orders: OrderFacts {
        priced: &["FOK", "IOC", "LIMIT", "POST_ONLY"],
        unpriced: &["ASK", "BID", "MARKET"],
        quoted: &["MARKET"],
        // Orders of these kinds have a quantity. An order inside another may have the type
        // CLOSE_POSITION, which is on no list.
        whole: Whole::By(
            &[Mark::of("algoType").unless(&["BRACKET", "OCO", "STOP", "TRAILING_STOP"])],
            "https://docs.woox.io/#send-algo-order: a quantity is only optional for \
             POSITIONAL_TP_SL",
        ),
        // A stop of the type LIMIT keeps to its price. The other kinds trail, or bring orders of
        // their own.
        repricing: &[
            Mark::of("algoType").unless(&["STOP"]),
            Mark::of("bidAskLevel"),
            Mark::of("bid_ask_level"),
            Mark::of("callbackRate"),
            Mark::of("callbackValue"),
            Mark::of("reference"),
            Mark::of("orderCombinationType").unless(&["STOP_LIMIT"]),
        ],
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> =
    LazyLock::new(|| Table::parse(&FACTS, include_str!("woo.scopes"), include_str!("woo.params")));

impl Exchange for Woo {
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
        let v1 = request.path.as_str().starts_with("/v1/");
        let place = match request.method {
            Method::Get => ParameterPlace::Query,
            _ if v1 => ParameterPlace::Body(ParamsIn::Form),
            method => ParameterPlace::of(method, ParamsIn::Json),
        };
        place.check(request)?;
        let (params, now) = (sorted(named(request)?), stamp.now_ms);
        let text = match place {
            ParameterPlace::Body(ParamsIn::Json) => Value::Object(params).to_json(),
            _ => query(&params)?,
        };
        let (query, body) = match place {
            ParameterPlace::Body(_) => (String::new(), Some(text.clone())),
            ParameterPlace::Query if text.is_empty() => (String::new(), None),
            ParameterPlace::Query => (format!("?{text}"), None),
        };
        let message = if v1 {
            format!("{text}|{now}")
        } else {
            format!(
                "{now}{}{}{query}{}",
                request.method,
                request.path,
                body.as_deref().unwrap_or_default()
            )
        };
        let url = format!("https://{host}{}{query}", request.path);
        let mut draft = Draft::new(request, key, stamp, message, Encoding::Hex, url)
            .header("x-api-key", key.api_key.clone())
            .header("x-api-timestamp", now.to_string())
            .header("x-api-signature", Template::signature());
        if v1 {
            draft = draft.header("content-type", "application/x-www-form-urlencoded");
        } else if body.is_some() {
            draft = draft.header("content-type", "application/json");
        }
        Ok(draft.body(body))
    }

    /// The signed text is also that of a read of v1 without parameters.
    fn session(
        &self,
        key: &Key,
        login: &SessionLogin,
        stamp: &Stamp,
    ) -> Result<SessionDraft, Refusal> {
        login.plain()?;
        let now = stamp.now_ms.to_string();
        let message = format!("|{now}");
        let parameters = Value::object([
            ("apikey", key.api_key.as_str().into()),
            ("sign", SIGNATURE_PLACEHOLDER.into()),
            ("timestamp", now.into()),
        ]);
        let frame = Value::object([("event", "auth".into()), ("params", parameters)]);
        let url = match key.environment {
            Environment::Production => "wss://wss.woox.io/v2/ws/private/stream",
            Environment::Testnet => "wss://wss.staging.woox.io/v2/ws/private/stream",
        };
        Ok(SessionDraft::new(key, stamp, message, Encoding::Hex, url).frame(Template::json(&frame)))
    }

    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        // `SPOT_BTC_USDT`, `PERP_BTC_USDT`: both are sized in the base asset.
        match order
            .symbol
            .as_deref()
            .ok_or(
                "it names no \
                                             symbol",
            )?
            .split('_')
            .collect::<Vec<_>>()[..]
        {
            [_, _, quote] => Ok(quote),
            _ => Err("its symbol is no pair of assets"),
        }
    }
}
