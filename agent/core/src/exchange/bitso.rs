//! The recipe for Bitso.
//!
//! <https://docs.bitso.com/bitso-api/docs/create-signed-requests>

use std::sync::LazyLock;

use super::facts::{Facts, Hosts, Nonce};
use super::order::Order;
use super::order_facts::{OrderFacts, Whole};
use super::parameters::{WrittenRequest, query};
use super::recipe::Exchange;
use super::table::Table;
use super::worth::quote_of;
use crate::draft::{Draft, Encoding, Piece, Template};
use crate::key::{Environment, Key, NonceUnit};
use crate::refusal::Refusal;
use crate::request::Request;
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Bitso;

static FACTS: Facts = Facts {
    name: "bitso",
    documentation: "https://docs.bitso.com/bitso-api/docs/create-signed-requests",
    nonce: Nonce::Increasing(NonceUnit::Milliseconds),
    hosts: &[
        Hosts {
            environment: Environment::Production,
            path_prefix: "/",
            hosts: &["bitso.com", "api.bitso.com"],
        },
        Hosts { environment: Environment::Testnet, path_prefix: "/", hosts: &["stage.bitso.com"] },
    ],
    orders: OrderFacts {
        priced: &["limit"],
        unpriced: &["market"],
        quoted: &["limit", "market"],
        whole: Whole::No("https://docs.bitso.com/bitso-api/docs/place-an-order: spot alone"),
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(&FACTS, include_str!("bitso.scopes"), include_str!("bitso.params"))
});

impl Exchange for Bitso {
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
        let written = WrittenRequest::new(request, query)?;
        let nonce = stamp.nonce;
        let message = format!("{nonce}{}{}{}", request.method, written.target, written.body_text());
        let url = format!("https://{host}{}", written.target);
        let authorization =
            Template::text(format!("Bitso {}:{nonce}:", key.api_key)).then(Piece::Signature);
        Ok(Draft::new(request, key, stamp, message, Encoding::Hex, url)
            .header("Authorization", authorization)
            .body(written.body))
    }

    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        // `btc_mxn`: `major` is the size in the first asset, `minor` in the second.
        quote_of(order.symbol.as_deref(), '_')
    }
}
