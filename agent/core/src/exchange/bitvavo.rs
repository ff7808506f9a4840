//! The recipe for Bitvavo.
//!
//! <https://docs.bitvavo.com/docs/authentication/>

use std::sync::LazyLock;

use super::facts::{Facts, Hosts};
use super::login::SessionLogin;
use super::order::Order;
use super::order_facts::{Mark, OrderFacts, Whole};
use super::parameters::{WrittenRequest, query};
use super::recipe::Exchange;
use super::table::Table;
use super::worth::quote_of;
use crate::draft::{Draft, Encoding, SIGNATURE_PLACEHOLDER, SessionDraft, Template};
use crate::json::Value;
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::{Method, Request};
use crate::scope::Scope;
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Bitvavo;

static FACTS: Facts = Facts {
    name: "bitvavo",
    documentation: "https://docs.bitvavo.com/docs/authentication/",
    hosts: &[Hosts {
        environment: Environment::Production,
        path_prefix: "/",
        hosts: &["api.bitvavo.com"],
    }],
    managed: &["window"],
    // `privateWithdrawAssets` is one of the WebSocket's actions.
    session_grants: &[Scope::Read, Scope::Trade, Scope::Withdraw],
    orders: OrderFacts {
        priced: &["limit", "stopLossLimit", "takeProfitLimit"],
        unpriced: &["market", "stopLoss", "takeProfit"],
        quoted: &["market"],
        whole: Whole::No("https://docs.bitvavo.com/docs/rest-api/create-order/: spot alone"),
        resizing: &[Mark::of("amountRemaining")],
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(&FACTS, include_str!("bitvavo.scopes"), include_str!("bitvavo.params"))
});

impl Exchange for Bitvavo {
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
        let (now, window) = (stamp.now_ms, stamp.receive_window_ms.unwrap_or(WINDOW_MS));
        let message = format!("{now}{}{}{}", request.method, written.target, written.body_text());
        let url = format!("https://{host}{}", written.target);
        let mut draft = Draft::new(request, key, stamp, message, Encoding::Hex, url)
            .header("BITVAVO-ACCESS-KEY", key.api_key.clone())
            .header("BITVAVO-ACCESS-SIGNATURE", Template::signature())
            .header("BITVAVO-ACCESS-TIMESTAMP", now.to_string())
            .header("BITVAVO-ACCESS-WINDOW", window.to_string());
        if !matches!(request.method, Method::Delete | Method::Get) {
            draft = draft.header("Content-Type", "application/json");
        }
        Ok(draft.body(written.body))
    }

    fn session(
        &self,
        key: &Key,
        login: &SessionLogin,
        stamp: &Stamp,
    ) -> Result<SessionDraft, Refusal> {
        login.plain()?;
        let frame = Value::object([
            ("action", "authenticate".into()),
            ("key", key.api_key.as_str().into()),
            ("signature", SIGNATURE_PLACEHOLDER.into()),
            ("timestamp", Value::Number(stamp.now_ms.to_string())),
        ]);
        let message = format!("{}GET/v2/websocket", stamp.now_ms);
        let url = "wss://ws.bitvavo.com/v2/";
        Ok(SessionDraft::new(key, stamp, message, Encoding::Hex, url).frame(Template::json(&frame)))
    }

    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        quote_of(order.symbol.as_deref(), '-')
    }
}

/// Milliseconds. The window is a header that is not signed: the sender of the request can change
/// it, up to the exchange's own limit.
const WINDOW_MS: u64 = 10_000;
