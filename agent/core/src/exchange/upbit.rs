//! The recipe for Upbit. Each request has a token, which holds a hash of the parameters and nothing
//! of method and path.
//!
//! <https://global-docs.upbit.com/reference/auth>

use std::sync::LazyLock;

use sha2::{Digest, Sha512};

use super::facts::{Facts, Hosts, Nonce};
use super::login::SessionLogin;
use super::order::Order;
use super::order_facts::{OrderFacts, Whole};
use super::parameters::{ParameterPlace, named, query, query_raw};
use super::recipe::Exchange;
use super::scheme::{Binding, Scheme};
use super::table::Table;
use super::{jwt, text};
use crate::draft::{Draft, Encoding, SessionDraft};
use crate::json::Value;
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::{ParamsIn, Request};
use crate::scope::Scope;
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Upbit;

static FACTS: Facts = Facts {
    name: "upbit",
    documentation: "https://global-docs.upbit.com/reference/auth",
    nonce: Nonce::Uuid,
    schemes: &[Scheme::of("/", Binding::PARAMETERS)],
    hosts: &[Hosts {
        environment: Environment::Production,
        path_prefix: "/v1/",
        hosts: &["api.upbit.com", "sg-api.upbit.com", "id-api.upbit.com", "th-api.upbit.com"],
    }],
    // The token of a login fits every request without parameters. One of these cancels open orders.
    session_grants: &[Scope::Read, Scope::Trade],
    orders: OrderFacts {
        priced: &["limit"],
        unpriced: &["best", "market", "price"],
        quoted: &["price"],
        whole: Whole::No("https://docs.upbit.com/kr/reference/new-order: spot alone"),
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(&FACTS, include_str!("upbit.scopes"), include_str!("upbit.params"))
});

impl Exchange for Upbit {
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
        let place = ParameterPlace::of(request.method, ParamsIn::Json);
        place.check(request)?;
        let params = named(request)?;
        let mut url = format!("https://{host}{}", request.path);
        let body = match place {
            ParameterPlace::Query if params.is_empty() => None,
            ParameterPlace::Query => {
                url = format!("{url}?{}", query(params)?);
                None
            }
            ParameterPlace::Body(_) => Some(request.params.value().to_json()),
        };
        // A body is also hashed as an unescaped query.
        let hashed =
            if params.is_empty() { None } else { Some(query_raw(request, &TABLE, params)?) };
        let input = token(key, stamp, hashed);
        let bearer = jwt::token("Bearer ", &input);
        let draft = Draft::new(request, key, stamp, input, Encoding::Base64Url, url)
            .header("Authorization", bearer);
        let draft =
            if body.is_some() { draft.header("Content-Type", "application/json") } else { draft };
        Ok(draft.body(body))
    }

    fn session(
        &self,
        key: &Key,
        login: &SessionLogin,
        stamp: &Stamp,
    ) -> Result<SessionDraft, Refusal> {
        login.plain()?;
        let input = token(key, stamp, None);
        let bearer = jwt::token("Bearer ", &input);
        let url = "wss://api.upbit.com/websocket/v1/private";
        Ok(SessionDraft::new(key, stamp, input, Encoding::Base64Url, url)
            .header("Authorization", bearer))
    }

    fn cost<'a>(&self, order: &'a Order<'_>) -> Option<&'a str> {
        // The price of a market buy is the amount that it spends. With the other types that do not
        // keep to a price, a price is a second size.
        order.price.as_deref().filter(|_| order.kind.as_deref() != Some("limit"))
    }

    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        // `KRW-BTC`: the quote asset stands first.
        let symbol = order.symbol.as_deref().ok_or("it names no symbol")?;
        Ok(symbol.split_once('-').ok_or("its symbol is no pair of assets")?.0)
    }
}

/// The text to sign: header and claims.
fn token(key: &Key, stamp: &Stamp, hashed: Option<String>) -> String {
    let header = Value::object([("alg", "HS256".into()), ("typ", "JWT".into())]);
    let mut claims =
        vec![("access_key", key.api_key.as_str().into()), ("nonce", stamp.uuid().into())];
    if let Some(hashed) = hashed {
        claims.push(("query_hash", text::hex(Sha512::digest(hashed)).into()));
        claims.push(("query_hash_alg", "SHA512".into()));
    }
    jwt::signing_input(&header, &Value::object(claims))
}
