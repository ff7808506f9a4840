//! The recipe for OKX v5.
//!
//! <https://www.okx.com/docs-v5/en/#overview-rest-authentication>

use std::sync::LazyLock;

use super::facts::{Facts, Hosts, PassphraseKind};
use super::login::SessionLogin;
use super::order::Order;
use super::order_facts::{Mark, OrderFacts, Unit, Whole};
use super::parameters::{ParameterPlace, WrittenRequest, query};
use super::recipe::Exchange;
use super::table::Table;
use super::worth::quote_of;
use crate::calendar::iso8601_ms;
use crate::draft::{
    Draft, Encoding, PASSPHRASE_PLACEHOLDER, SIGNATURE_PLACEHOLDER, SessionDraft, Template,
};
use crate::json::Value;
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::Request;
use crate::scope::Scope;
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Okx;

static FACTS: Facts = Facts {
    name: "okx",
    documentation: "https://www.okx.com/docs-v5/en/#overview-rest-authentication",
    passphrase: PassphraseKind::Plain,
    other_symbols: &[Mark::of("instIdCode")],
    hosts: &[
        Hosts {
            environment: Environment::Production,
            path_prefix: "/",
            hosts: &[
                "www.okx.com",
                "aws.okx.com",
                "eea.okx.com",
                "us.okx.com",
                "my.okx.com",
                "app.okx.com",
            ],
        },
        // Demo trading is a header, not a host.
        Hosts {
            environment: Environment::Testnet,
            path_prefix: "/",
            hosts: &["www.okx.com", "eea.okx.com", "us.okx.com"],
        },
    ],
    session_grants: &[Scope::Read, Scope::Trade],
    orders: OrderFacts {
        priced: &["fok", "ioc", "limit", "post_only"],
        unpriced: &[
            "chase",
            "conditional",
            "iceberg",
            "market",
            "mmp",
            "mmp_and_post_only",
            "move_order_stop",
            "oco",
            "op_fok",
            "optimal_limit_ioc",
            "trigger",
            "twap",
        ],
        quoted: &["market"],
        whole: Whole::By(
            &[Mark::of("closeFraction")],
            "https://www.okx.com/docs-v5/en/#order-book-trading-algo-trading-post-place-algo-order",
        ),
        repricing: &[
            Mark::of("newPxUsd"),
            Mark::of("newPxVol"),
            Mark::of("pxAmendType").unless(&["0"]),
            Mark::of("pxUsd"),
            Mark::of("pxVol"),
            Mark::of("rpiPxRound").unless(&["false"]),
            Mark::of("tradeQuoteCcy"),
        ],
        legs: &["slOrdPx", "slTriggerPx", "tpOrdPx", "tpTriggerPx"],
        empty_is_absent: true,
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> =
    LazyLock::new(|| Table::parse(&FACTS, include_str!("okx.scopes"), include_str!("okx.params")));

impl Exchange for Okx {
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
        let timestamp = iso8601_ms(stamp.now_ms);
        let message =
            format!("{timestamp}{}{}{}", request.method, written.target, written.body_text());
        let url = format!("https://{host}{}", written.target);
        let mut draft = Draft::new(request, key, stamp, message, Encoding::Base64, url)
            .header("OK-ACCESS-KEY", key.api_key.clone())
            .header("OK-ACCESS-PASSPHRASE", Template::passphrase())
            .header("OK-ACCESS-TIMESTAMP", timestamp)
            .header("OK-ACCESS-SIGN", Template::signature());
        if matches!(written.place, ParameterPlace::Body(_)) {
            draft = draft.header("Content-Type", "application/json");
        }
        if key.environment == Environment::Testnet {
            draft = draft.header("x-simulated-trading", "1");
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
        let seconds = stamp.seconds();
        let url = match key.environment {
            Environment::Production => "wss://ws.okx.com:8443/ws/v5/private",
            Environment::Testnet => "wss://wspap.okx.com:8443/ws/v5/private",
        };
        let arguments = Value::object([
            ("apiKey", key.api_key.as_str().into()),
            ("passphrase", PASSPHRASE_PLACEHOLDER.into()),
            ("timestamp", seconds.to_string().into()),
            ("sign", SIGNATURE_PLACEHOLDER.into()),
        ]);
        let frame =
            Value::object([("op", "login".into()), ("args", Value::Array(vec![arguments]))]);
        let message = format!("{seconds}GET/users/self/verify");
        Ok(SessionDraft::new(key, stamp, message, Encoding::Base64, url)
            .frame(Template::json(&frame)))
    }

    fn unit(&self, order: &Order<'_>) -> Unit {
        // A market or triggered buy on spot may be sized in the quote asset.
        let contract =
            order.symbol.as_deref().is_some_and(|symbol| symbol.matches('-').count() > 1);
        if !contract
            && ["algoClOrdId", "algoId"]
                .iter()
                .any(|name| !order.typed && order.member(name).is_some())
        {
            return Unit::Unknown("it amends an order whose size may be in either asset");
        }
        let priced = !order.typed
            || matches!(order.kind.as_deref(), Some("fok" | "ioc" | "limit" | "post_only"));
        // `tgtCcy` is documented for orders on spot. It is not known if it counts on margin.
        let on_margin = !contract && order.extra("tdMode").is_some_and(|mode| mode != "cash");
        match (order.extra("tgtCcy").filter(|unit| !unit.is_empty()), order.side.as_deref()) {
            (Some("base_ccy"), Some("sell")) => Unit::Base,
            (Some(_), _) if on_margin && !priced => {
                Unit::Unknown("its unit is one of orders on spot, and it is on margin")
            }
            (Some("base_ccy"), _) | (None, Some("sell")) => Unit::Base,
            (None, _) if contract || priced => Unit::Base,
            (Some("quote_ccy"), _) if !contract && !priced => Unit::Quote,
            (None, Some("buy")) => Unit::Quote,
            _ => Unit::Unknown("its size may be in either asset"),
        }
    }

    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        // `BTC-USDT`: spot and margin. Contracts have a third part, and a size in contracts.
        match quote_of(order.symbol.as_deref(), '-') {
            Err(_)
                if order
                    .symbol
                    .as_deref()
                    .is_some_and(|symbol| symbol.matches('-').count() > 1) =>
            {
                Err("a contract's worth is not in its order")
            }
            quote => quote,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::worth;

    fn order<'a>(kind: &'a str, side: &'a str, unit: Option<&str>, symbol: &'a str) -> Order<'a> {
        let unit = unit.map(|unit| ("tgtCcy".to_owned(), Value::String(unit.to_owned())));
        Order {
            symbol: Some(symbol.into()),
            side: Some(side.into()),
            kind: Some(kind.into()),
            quantity: Some("2".into()),
            price: (kind == "limit").then(|| "3".into()),
            sized: true,
            typed: true,
            members: unit.into_iter().collect(),
            ..Order::default()
        }
    }

    #[test]
    fn a_size_is_in_base_or_in_quote() {
        for (order, base, worth) in [
            (order("limit", "buy", None, "BTC-USDT"), true, Some("6 USDT")),
            (order("limit", "sell", None, "BTC-USDT"), true, Some("6 USDT")),
            (order("market", "buy", None, "BTC-USDT"), false, Some("2 USDT")),
            (order("market", "buy", Some("quote_ccy"), "BTC-USDT"), false, Some("2 USDT")),
            (order("market", "buy", Some("base_ccy"), "BTC-USDT"), true, None),
            (order("market", "sell", None, "BTC-USDT"), true, None),
            (order("limit", "buy", Some("quote_ccy"), "BTC-USDT"), false, None),
            (order("trigger", "buy", None, "BTC-USDT"), false, None),
            (order("limit", "buy", None, "BTC-USDT-SWAP"), true, None),
            (order("market", "buy", None, "BTC-USDT-SWAP"), true, None),
            (order("limit", "buy", None, "BTC"), true, None),
        ] {
            assert_eq!(worth::size(&Okx, &order).is_ok(), base, "{order:?}");
            let known = worth::notional(&Okx, &order)
                .ok()
                .map(|(asset, amount)| format!("{amount} {asset}"));
            assert_eq!(known.as_deref(), worth, "{order:?}");
        }
    }
}
