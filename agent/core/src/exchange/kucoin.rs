//! The recipe for KuCoin: spot, margin, futures and the unified account are signed alike.
//!
//! <https://www.kucoin.com/docs-new/authentication>

use std::sync::LazyLock;

use super::facts::{Facts, Hosts, PassphraseKind};
use super::login::{SessionLogin, WS};
use super::login_token::token;
use super::order::Order;
use super::order_facts::{Mark, OrderFacts, Unit, Whole};
use super::parameters::{ParameterPlace, named, query_raw};
use super::recipe::Exchange;
use super::table::Table;
use super::worth::quote_of;
use crate::draft::{Draft, Encoding, SessionDraft, Template};
use crate::json::Value;
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::{ParamsIn, Request};
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Kucoin;

static FACTS: Facts = Facts {
    name: "kucoin",
    documentation: "https://www.kucoin.com/docs-new/authentication",
    passphrase: PassphraseKind::Mac,
    hosts: &[
        Hosts {
            environment: Environment::Production,
            path_prefix: "/api/v1/asset/ndbroker/",
            hosts: BROKER,
        },
        Hosts {
            environment: Environment::Production,
            path_prefix: "/api/v1/broker/nd/",
            hosts: BROKER,
        },
        Hosts { environment: Environment::Production, path_prefix: "/", hosts: TRADE_HOSTS },
    ],
    orders: OrderFacts {
        priced: &["LIMIT", "limit"],
        unpriced: &["MARKET", "market"],
        quoted: &["market"],
        whole: Whole::By(
            &[Mark::of("closeOrder").unless(&["false"])],
            "https://www.kucoin.com/docs-new/rest/futures-trading/orders/add-order",
        ),
        resizing: &[Mark::of("qty"), Mark::of("valueQty")],
        legs: &[
            "limitPrice",
            "slLimitPrice",
            "slTriggerPrice",
            "tpLimitPrice",
            "tpTriggerPrice",
            "triggerStopDownPrice",
            "triggerStopUpPrice",
        ],
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

const TRADE_HOSTS: &[&str] = &["api.kucoin.com", "api-futures.kucoin.com"];
const BROKER: &[&str] = &["api-broker.kucoin.com"];

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(&FACTS, include_str!("kucoin.scopes"), include_str!("kucoin.params"))
});

impl Exchange for Kucoin {
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
        let place = match request.path.as_str() {
            "/api/v1/orders/multi-cancel" => ParameterPlace::Body(ParamsIn::Json),
            _ => ParameterPlace::of(request.method, ParamsIn::Json),
        };
        place.check(request)?;
        let (mut target, mut body) = (request.path.to_string(), None);
        match place {
            ParameterPlace::Query if request.params.is_empty() => {}
            ParameterPlace::Query => {
                target += &format!("?{}", query_raw(request, &TABLE, named(request)?)?)
            }
            // For an empty object no body is sent.
            ParameterPlace::Body(_) if named(request).is_ok_and(<[_]>::is_empty) => {}
            ParameterPlace::Body(_) => body = Some(request.params.value().to_json()),
        }
        if IN_BOTH.contains(&request.path.as_str()) && body.is_some() {
            let trade_type =
                request.params.members().iter().filter(|(name, _)| name == "tradeType");
            target += &format!(
                "?{}",
                query_raw(request, &TABLE, &trade_type.cloned().collect::<Vec<_>>())?
            );
        }
        let timestamp = stamp.now_ms.to_string();
        let message =
            format!("{timestamp}{}{target}{}", request.method, body.as_deref().unwrap_or_default());
        let url = format!("https://{host}{target}");
        let mut draft = Draft::new(request, key, stamp, message, Encoding::Base64, url)
            .header("KC-API-KEY-VERSION", "2")
            .header("KC-API-KEY", key.api_key.clone())
            .header("KC-API-TIMESTAMP", timestamp)
            .header("KC-API-PASSPHRASE", Template::passphrase())
            .header("KC-API-SIGN", Template::signature());
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
        let host =
            if login.one_of(&[WS, "ws-futures"])? == WS { TRADE_HOSTS[0] } else { TRADE_HOSTS[1] };
        login.no_arguments()?;
        token(self, host, "/api/v1/bullet-private", key, stamp)
    }

    fn unit(&self, order: &Order<'_>) -> Unit {
        let contract = order.symbol.as_deref().is_some_and(|symbol| !symbol.contains('-'));
        match (contract, order.member("sizeUnit").map(Value::scalar), order.kind.as_deref()) {
            // An order for a contract is sized in contracts if it names no unit.
            (true, None | Some(Some("UNIT")), _) => Unit::Base,
            (true, ..) => Unit::Unknown("its sizeUnit is not the contract"),
            (false, Some(Some("BASECCY")), _) => Unit::Base,
            // Only orders of a unified account spell the type so. Elsewhere a size is in the base
            // asset.
            (false, None, Some("MARKET")) => Unit::Unknown("it does not say its sizeUnit"),
            (false, None, _) => Unit::Base,
            (false, ..) => Unit::Unknown("its sizeUnit is not the base asset"),
        }
    }

    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        // `BTC-USDT`; a contract's symbol has no separator, and its size is in contracts.
        quote_of(order.symbol.as_deref(), '-')
    }
}

/// Paths whose query repeats the kind of account that the body names.
const IN_BOTH: &[&str] = &["/api/ua/v1/classic/order/cancel", "/api/ua/v1/classic/order/place"];
