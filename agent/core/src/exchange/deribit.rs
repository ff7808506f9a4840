//! The recipe for Deribit: JSON-RPC as GET requests, each with a signature.
//!
//! <https://docs.deribit.com/#authentication-2>

use std::sync::LazyLock;

use super::facts::{Facts, Hosts};
use super::login::SessionLogin;
use super::order::Order;
use super::order_facts::{Mark, OrderFacts, Whole};
use super::parameters::{WrittenRequest, query};
use super::recipe::Exchange;
use super::table::Table;
use super::worth::quote_of;
use crate::draft::{Draft, Encoding, Piece, SIGNATURE_PLACEHOLDER, SessionDraft, Template};
use crate::json::Value;
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::{Method, Request};
use crate::scope::Scope;
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Deribit;

static FACTS: Facts = Facts {
    name: "deribit",
    documentation: "https://docs.deribit.com/#authentication-2",
    hosts: &[
        Hosts {
            environment: Environment::Production,
            path_prefix: "/",
            hosts: &["www.deribit.com"],
        },
        Hosts { environment: Environment::Testnet, path_prefix: "/", hosts: &["test.deribit.com"] },
    ],
    // Parameters of a block trade.
    taken: &["nonce", "signature", "timestamp"],
    // After the login the client needs no signature for anything that the key may do.
    session_grants: &[
        Scope::Read,
        Scope::Trade,
        Scope::Account,
        Scope::Transfer,
        Scope::Withdraw,
        Scope::Admin,
    ],
    orders: OrderFacts {
        priced: &["limit"],
        unpriced: &[
            "market",
            "market_limit",
            "stop_limit",
            "stop_market",
            "take_limit",
            "take_market",
            "trailing_stop",
        ],
        whole: Whole::No(
            "https://docs.deribit.com/#private-buy: private/close_position closes one",
        ),
        resizing: &[Mark::of("contracts")],
        repricing: &[Mark::of("advanced")],
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(&FACTS, include_str!("deribit.scopes"), include_str!("deribit.params"))
});

impl Exchange for Deribit {
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
        if request.method != Method::Get {
            return Err(Refusal::malformed("every private request of this exchange is a GET"));
        }
        only_of_block_trades(request)?;
        let written = WrittenRequest::new(request, query)?;
        // The time is enough as a nonce: a request may be repeated, but only with a new signature.
        let (now, id) = (stamp.now_ms, &key.api_key);
        let message = format!("{now}\n{now}\n{}\n{}\n\n", request.method, written.target);
        let authorization = Template::text(format!("deri-hmac-sha256 id={id},ts={now},sig="))
            .then(Piece::Signature)
            .then_text(&format!(",nonce={now}"));
        let url = format!("https://{host}{}", written.target);
        Ok(Draft::new(request, key, stamp, message, Encoding::Hex, url)
            .header("Authorization", authorization))
    }

    /// The signed text is time, nonce and data, each on a line. The data is empty. If a client
    /// could choose the data, the text could be a whole request.
    fn session(
        &self,
        key: &Key,
        login: &SessionLogin,
        stamp: &Stamp,
    ) -> Result<SessionDraft, Refusal> {
        login.plain()?;
        let now = stamp.now_ms.to_string();
        let url = match key.environment {
            Environment::Production => "wss://www.deribit.com/ws/api/v2",
            Environment::Testnet => "wss://test.deribit.com/ws/api/v2",
        };
        let params = Value::object([
            ("grant_type", "client_signature".into()),
            ("client_id", key.api_key.as_str().into()),
            ("timestamp", Value::Number(now.clone())),
            ("signature", SIGNATURE_PLACEHOLDER.into()),
            ("nonce", now.as_str().into()),
            ("data", "".into()),
        ]);
        let frame = Value::object([
            ("jsonrpc", "2.0".into()),
            ("method", "public/auth".into()),
            ("params", params),
        ]);
        let message = format!("{now}\n{now}\n");
        Ok(SessionDraft::new(key, stamp, message, Encoding::Hex, url).frame(Template::json(&frame)))
    }

    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        // `BTC_USDC` is spot; a contract has a `-` in its name.
        quote_of(order.symbol.as_deref().filter(|symbol| !symbol.contains('-')), '_')
    }
}

/// Refuses a time or a nonce of the client's own, except for a block trade. In all other requests
/// the agent sets them.
fn only_of_block_trades(request: &Request) -> Result<(), Refusal> {
    let set_by_agent = |name: &&str| request.params.get(name).is_some();
    match ["nonce", "sig", "signature", "timestamp"].iter().find(|name| set_by_agent(name)) {
        Some(name) if !request.path.as_str().contains("block_trade") => {
            Err(Refusal::forbidden_parameter(format!(
                "{name} is set by the agent and never taken from a client"
            )))
        }
        _ => Ok(()),
    }
}
