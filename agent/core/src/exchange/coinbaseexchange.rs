//! The recipe for Coinbase Exchange.
//!
//! <https://docs.cdp.coinbase.com/exchange/docs/rest-auth>

use std::sync::LazyLock;

use super::facts::{Facts, Hosts, PassphraseKind, SecretFormat};
use super::login::SessionLogin;
use super::order::Order;
use super::order_facts::{OrderFacts, Whole};
use super::parameters::{ParameterPlace, WrittenRequest, query};
use super::recipe::Exchange;
use super::table::Table;
use super::worth::quote_of;
use crate::draft::{
    Draft, Encoding, PASSPHRASE_PLACEHOLDER, SIGNATURE_PLACEHOLDER, SessionDraft, Template,
};
use crate::json::Value;
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::Request;
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct CoinbaseExchange;

static FACTS: Facts = Facts {
    name: "coinbaseexchange",
    documentation: "https://docs.cdp.coinbase.com/exchange/docs/rest-auth",
    secret: SecretFormat::Base64,
    passphrase: PassphraseKind::Plain,
    hosts: &[
        Hosts {
            environment: Environment::Production,
            path_prefix: "/",
            hosts: &["api.exchange.coinbase.com"],
        },
        Hosts {
            environment: Environment::Testnet,
            path_prefix: "/",
            hosts: &["api-public.sandbox.exchange.coinbase.com"],
        },
    ],
    orders: OrderFacts {
        priced: &["limit"],
        unpriced: &["market", "stop"],
        quoted: &["market"],
        whole: Whole::No(
            "https://docs.cdp.coinbase.com/api-reference/exchange-api/rest-api/orders/\
             create-new-order: spot alone",
        ),
        legs: &["stop_limit_price"],
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(
        &FACTS,
        include_str!("coinbaseexchange.scopes"),
        include_str!("coinbaseexchange.params"),
    )
});

impl Exchange for CoinbaseExchange {
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
        let written = WrittenRequest::at(request, ParameterPlace::but_get(request.method), query)?;
        let seconds = stamp.seconds();
        let message =
            format!("{seconds}{}{}{}", request.method, written.target, written.body_text());
        let url = format!("https://{host}{}", written.target);
        Ok(Draft::new(request, key, stamp, message, Encoding::Base64, url)
            .header("CB-ACCESS-KEY", key.api_key.clone())
            .header("CB-ACCESS-SIGN", Template::signature())
            .header("CB-ACCESS-TIMESTAMP", seconds.to_string())
            .header("CB-ACCESS-PASSPHRASE", Template::passphrase())
            .header("Content-Type", "application/json")
            .body(written.body))
    }

    /// The members that a client adds to its message that subscribes to the feed.
    fn session(
        &self,
        key: &Key,
        login: &SessionLogin,
        stamp: &Stamp,
    ) -> Result<SessionDraft, Refusal> {
        login.plain()?;
        let seconds = stamp.seconds();
        let frame = Value::object([
            ("key", key.api_key.as_str().into()),
            ("passphrase", PASSPHRASE_PLACEHOLDER.into()),
            ("timestamp", seconds.to_string().into()),
            ("signature", SIGNATURE_PLACEHOLDER.into()),
        ]);
        let url = match key.environment {
            Environment::Production => "wss://ws-feed.exchange.coinbase.com",
            Environment::Testnet => "wss://ws-feed-public.sandbox.exchange.coinbase.com",
        };
        let message = format!("{seconds}GET/users/self/verify");
        Ok(SessionDraft::new(key, stamp, message, Encoding::Base64, url)
            .frame(Template::json(&frame)))
    }

    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        quote_of(order.symbol.as_deref(), '-')
    }
}
