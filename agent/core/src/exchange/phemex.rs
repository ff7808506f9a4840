//! The recipe for Phemex. It signs path, query without its question mark, expiry and body, but not
//! the method.
//!
//! <https://phemex-docs.github.io/#rest-request-header>

use std::sync::LazyLock;

use super::facts::{Facts, Hosts};
use super::login::SessionLogin;
use super::order::Order;
use super::order_facts::{Mark, OrderFacts, Whole};
use super::parameters::{ParameterPlace, named, query_repeated, without_separators};
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
pub struct Phemex;

static FACTS: Facts = Facts {
    name: "phemex",
    documentation: "https://phemex-docs.github.io/#rest-request-header",
    schemes: &[Scheme::of("/", Binding { method: false, ..Binding::FULL }).running_on()],
    hosts: &[
        Hosts {
            environment: Environment::Production,
            path_prefix: "/",
            hosts: &["api.phemex.com", "vapi.phemex.com"],
        },
        Hosts {
            environment: Environment::Testnet,
            path_prefix: "/",
            hosts: &["testnet-api.phemex.com"],
        },
    ],
    managed: &["expiry"],
    orders: OrderFacts {
        unpriced: &["Limit", "LimitIfTouched", "Market", "MarketIfTouched", "Stop", "StopLimit"],
        whole: Whole::By(
            &[
                Mark::of("closeOnTrigger").unless(&["false"]),
                Mark::of("execInst").unless(&["None", "ReduceOnly"]),
            ],
            "https://phemex-docs.github.io/#place-order-http-put-prefered",
        ),
        resizing: &[Mark::of("baseQtyEV"), Mark::of("qtyType")],
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(&FACTS, include_str!("phemex.scopes"), include_str!("phemex.params"))
});

impl Exchange for Phemex {
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
        let both = request.path.as_str() == "/positions/assign";
        let place = match request.method {
            Method::Post if both => ParameterPlace::Body(ParamsIn::QueryAndJson),
            Method::Post => ParameterPlace::Body(ParamsIn::Json),
            _ => ParameterPlace::Query,
        };
        place.check(request)?;
        let in_query = (place == ParameterPlace::Query || both) && !request.params.is_empty();
        let query = if !in_query {
            String::new()
        } else if request.path.as_str().ends_with("/create") {
            query_repeated(&symbol_last(named(request)?)?)?
        } else {
            query_repeated(named(request)?)?
        };
        // A text with separators after the path could be read as a query with an expiry of the
        // client's own.
        let body = (request.method == Method::Post)
            .then(|| without_separators(request.params.value().to_json()));
        let body = body.transpose()?;
        let expiry = stamp.seconds() + 60;
        let message =
            format!("{}{query}{expiry}{}", request.path, body.as_deref().unwrap_or_default());
        let mark = if in_query { "?" } else { "" };
        let url = format!("https://{host}{}{mark}{query}", request.path);
        let mut draft = Draft::new(request, key, stamp, message, Encoding::Hex, url)
            .header("x-phemex-access-token", key.api_key.clone())
            .header("x-phemex-request-expiry", expiry.to_string())
            .header("x-phemex-request-signature", Template::signature());
        if body.is_some() {
            draft = draft.header("Content-Type", "application/json");
        }
        Ok(draft.body(body))
    }

    fn session(
        &self,
        key: &Key,
        login: &SessionLogin,
        stamp: &Stamp,
    ) -> Result<SessionDraft, Refusal> {
        login.plain()?;
        let expiry = stamp.seconds() + 120;
        let arguments = vec![
            "API".into(),
            key.api_key.as_str().into(),
            SIGNATURE_PLACEHOLDER.into(),
            Value::Number(expiry.to_string()),
        ];
        let frame =
            Value::object([("method", "user.auth".into()), ("params", Value::Array(arguments))]);
        let url = match key.environment {
            Environment::Production => "wss://ws.phemex.com",
            Environment::Testnet => "wss://testnet-api.phemex.com/ws",
        };
        let message = format!("{}{expiry}", key.api_key);
        Ok(SessionDraft::new(key, stamp, message, Encoding::Hex, url).frame(Template::json(&frame)))
    }

    fn quote_asset<'a>(&self, _order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        Err("its numbers are scaled, or of a contract")
    }
}

/// Puts the symbol of a new order last. The expiry follows without a separator. If the last value
/// ended in a digit, the sender could move digits to the expiry, and so place a smaller order again
/// and again.
fn symbol_last(params: &[(String, Value)]) -> Result<Vec<(String, Value)>, Refusal> {
    let (last, mut ordered): (Vec<_>, Vec<_>) =
        params.iter().cloned().partition(|(name, _)| name == "symbol");
    let cannot_be_cut = |(_, value): &(String, Value)| {
        value.scalar().is_some_and(|text| !text.ends_with(|last: char| last.is_ascii_digit()))
    };
    if !last.last().is_some_and(cannot_be_cut) {
        return Err(Refusal::malformed(
            "a new order in a query names its symbol, and the symbol does not end in a digit: the \
             expiry is signed right after it",
        ));
    }
    ordered.extend(last);
    Ok(ordered)
}
