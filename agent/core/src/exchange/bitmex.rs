//! The recipe for BitMEX.
//!
//! <https://www.bitmex.com/app/apiKeysUsage>

use std::sync::LazyLock;

use super::facts::{Facts, Hosts};
use super::login::SessionLogin;
use super::order::Order;
use super::order_facts::{Mark, OrderFacts, Whole};
use super::parameters::{ParameterPlace, WrittenRequest, query};
use super::recipe::Exchange;
use super::table::Table;
use crate::draft::{Draft, Encoding, SIGNATURE_PLACEHOLDER, SessionDraft, Template};
use crate::json::Value;
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::{Method, ParamsIn, Request};
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Bitmex;

static FACTS: Facts = Facts {
    name: "bitmex",
    documentation: "https://www.bitmex.com/app/apiKeysUsage",
    hosts: &[
        Hosts {
            environment: Environment::Production,
            path_prefix: "/",
            hosts: &["www.bitmex.com"],
        },
        Hosts {
            environment: Environment::Testnet,
            path_prefix: "/",
            hosts: &["testnet.bitmex.com"],
        },
    ],
    managed: &["api-expires", "api-signature"],
    orders: OrderFacts {
        unpriced: &[
            "Limit",
            "LimitIfTouched",
            "Market",
            "MarketIfTouched",
            "Pegged",
            "Stop",
            "StopLimit",
        ],
        whole: Whole::By(
            &[Mark::of("execInst").unless(&[
                "LastPrice",
                "MarkPrice",
                "IndexPrice",
                "ParticipateDoNotInitiate",
                "ReduceOnly",
                "ParticipateDoNotInitiate,ReduceOnly",
                "ReduceOnly,ParticipateDoNotInitiate",
                "LastPrice,ReduceOnly",
                "MarkPrice,ReduceOnly",
            ])],
            "https://www.bitmex.com/api/explorer/#!/Order/Order_new: Close",
        ),
        resizing: &[Mark::of("leavesQty"), Mark::of("simpleOrderQty"), Mark::of("simpleLeavesQty")],
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(&FACTS, include_str!("bitmex.scopes"), include_str!("bitmex.params"))
});

impl Exchange for Bitmex {
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
        let place = if request.method == Method::Get {
            ParameterPlace::Query
        } else {
            ParameterPlace::Body(ParamsIn::Json)
        };
        only_one_destination(request)?;
        let written = WrittenRequest::at(request, place, query)?;
        let expires = stamp.seconds() + LIFETIME_S;
        let message =
            format!("{}{}{expires}{}", request.method, written.target, written.body_text());
        let url = format!("https://{host}{}", written.target);
        Ok(Draft::new(request, key, stamp, message, Encoding::Hex, url)
            .header("Content-Type", "application/json")
            .header("api-key", key.api_key.clone())
            .header("api-expires", expires.to_string())
            .header("api-signature", Template::signature())
            .body(written.body))
    }

    fn session(
        &self,
        key: &Key,
        login: &SessionLogin,
        stamp: &Stamp,
    ) -> Result<SessionDraft, Refusal> {
        login.plain()?;
        let expires = (stamp.seconds() + LIFETIME_S).to_string();
        let url = match key.environment {
            Environment::Production => "wss://ws.bitmex.com/realtime",
            Environment::Testnet => "wss://ws.testnet.bitmex.com/realtime",
        };
        let message = format!("GET/realtime{expires}");
        let arguments =
            vec![key.api_key.as_str().into(), Value::Number(expires), SIGNATURE_PLACEHOLDER.into()];
        let frame =
            Value::object([("op", "authKeyExpires".into()), ("args", Value::Array(arguments))]);
        Ok(SessionDraft::new(key, stamp, message, Encoding::Hex, url).frame(Template::json(&frame)))
    }

    fn quote_asset<'a>(&self, _order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        Err("its size is in contracts, whose worth is not in the order")
    }
}

/// Seconds for which the exchange takes a request after it was made.
const LIFETIME_S: u64 = 5;

/// Refuses a withdrawal that names two destinations. A withdrawal to a saved address or to another
/// user names no address.
fn only_one_destination(request: &Request) -> Result<(), Refusal> {
    let named = ["address", "addressId", "targetUserId"]
        .into_iter()
        .filter(|name| request.params.get(name).is_some());
    if request.path.as_str() == "/api/v1/user/requestWithdrawal" && named.count() > 1 {
        return Err(Refusal::ambiguous(
            "a withdrawal names one of address, addressId and targetUserId",
        ));
    }
    Ok(())
}
