//! The recipe for bitFlyer Lightning.
//!
//! <https://lightning.bitflyer.com/docs?lang=en#authentication>

use std::sync::LazyLock;

use super::facts::{Facts, Hosts};
use super::order::Order;
use super::order_facts::{OrderFacts, Whole};
use super::parameters::{WrittenRequest, query};
use super::recipe::Exchange;
use super::table::Table;
use super::worth::quote_of;
use crate::draft::{Draft, Encoding, Template};
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::Request;
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Bitflyer;

static FACTS: Facts = Facts {
    name: "bitflyer",
    documentation: "https://lightning.bitflyer.com/docs?lang=en#authentication",
    hosts: &[Hosts {
        environment: Environment::Production,
        path_prefix: "/",
        hosts: &["api.bitflyer.com"],
    }],
    orders: OrderFacts {
        priced: &["LIMIT"],
        unpriced: &["MARKET", "STOP", "STOP_LIMIT", "TRAIL"],
        whole: Whole::No("https://lightning.bitflyer.com/docs: every order has a size"),
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(&FACTS, include_str!("bitflyer.scopes"), include_str!("bitflyer.params"))
});

impl Exchange for Bitflyer {
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
        let seconds = stamp.seconds();
        let message =
            format!("{seconds}{}{}{}", request.method, written.target, written.body_text());
        let url = format!("https://{host}{}", written.target);
        Ok(Draft::new(request, key, stamp, message, Encoding::Hex, url)
            .header("ACCESS-KEY", key.api_key.clone())
            .header("ACCESS-TIMESTAMP", seconds.to_string())
            .header("ACCESS-SIGN", Template::signature())
            .header("Content-Type", "application/json")
            .body(written.body))
    }

    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        // `BTC_JPY`, and `FX_BTC_JPY`, whose size is in BTC as well.
        quote_of(
            order.symbol.as_deref().map(|symbol| symbol.strip_prefix("FX_").unwrap_or(symbol)),
            '_',
        )
    }
}
