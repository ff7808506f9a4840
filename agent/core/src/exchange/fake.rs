//! An exchange for tests. It binds neither method nor path, so that every rule about effective
//! scopes applies.

use std::sync::LazyLock;

use super::facts::{Facts, Hosts, WindowParameter};
use super::order::Order;
use super::order_facts::OrderFacts;
use super::recipe::Exchange;
use super::scheme::{Binding, Scheme};
use super::table::Table;
use crate::algorithm::Algorithm;
use crate::draft::{Draft, Encoding, Template};
use crate::key::{Environment, Key, KeyName, NonceUnit, Tier};
use crate::refusal::Refusal;
use crate::request::Request;
use crate::scope::{Scope, Scopes};
use crate::stamp::Stamp;

#[derive(Debug)]
pub(crate) struct Fake;

const SCOPES: &str = "\
DELETE /order trade
GET /account read
GET /order read
POST /batch trade
POST /move transfer
! POST /old/move transfer # of an API that is gone
POST /opaque trade
POST /order trade
POST /withdraw withdraw
";

const PARAMS: &str = "\
harmless page # a page of a list
- DELETE /order symbol=symbol
GET /account symbol? side? type? quantity? price? timeInForce? asset? amount? to? coin? \
    address? network? tag? pocket?
GET /order symbol? side? type? quantity? price?
POST /batch list=orders symbol=symbol? quantity=quantity? price=price? side? type? asset? amount?
POST /move asset=asset amount=amount to=to?
POST /old/move pocket
POST /order symbol=symbol side type quantity=quantity? price=price? timeInForce?
POST /withdraw asset=coin amount=amount address=address network=network? memo=tag? name?
";

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::parse(&FACTS, SCOPES, PARAMS));

static FACTS: Facts = Facts {
    name: "fake",
    documentation: "none",
    schemes: &[Scheme::of("/", Binding::PARAMETERS)],
    hosts: &[Hosts {
        environment: Environment::Production,
        path_prefix: "/",
        hosts: &["fake.example", "alt.example"],
    }],
    managed: &["timestamp", "signature"],
    receive_window: Some(WindowParameter { name: "recvWindow", default_ms: 5_000 }),
    orders: OrderFacts { priced: &[""], ..OrderFacts::UNKNOWN },
    ..Facts::PLAIN
};

impl Exchange for Fake {
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
        let message = format!("{}{}", stamp.now_ms, request.params.value().to_json());
        Ok(Draft {
            algorithm: key.algorithm,
            encoding: Encoding::Hex,
            method: request.method,
            url: format!("https://{host}{}?signature=", request.path).into(),
            headers: vec![("Signature", Template::signature())],
            body: None,
            timestamp_ms: stamp.now_ms,
            message: message.into_bytes(),
        })
    }

    fn quote_asset<'a>(&self, _order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        Ok("USDT")
    }
}

pub(crate) fn key(scopes: impl IntoIterator<Item = Scope>) -> Key {
    Key {
        name: KeyName::parse("fake-key").expect("a plain name"),
        exchange: "fake",
        environment: Environment::Production,
        algorithm: Algorithm::HmacSha256,
        api_key: "id".to_owned(),
        scopes: scopes.into_iter().collect::<Scopes>(),
        tier: Tier::Software,
        token: "token".to_owned(),
        nonce_unit: NonceUnit::Milliseconds,
        in_vault: false,
    }
}
