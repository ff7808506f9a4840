//! OKX v5.
//!
//! <https://www.okx.com/docs-v5/en/#overview-rest-authentication>

use std::sync::LazyLock;

use super::login::Login;
use super::parameters::{Place, Written, query};
use super::table::Table;
use super::text::iso8601_ms;
use super::{Exchange, Facts, Hosts, Passphrase, Stamp};
use crate::decimal::Amount;
use crate::draft::{Draft, Encoding, PASSPHRASE, SIGNATURE, SessionDraft, Template};
use crate::exchange::classify::Order;
use crate::json::Value;
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::Request;
use crate::scope::Scope;

#[derive(Debug)]
pub struct Okx;

static FACTS: Facts = Facts {
    name: "okx",
    documentation: "https://www.okx.com/docs-v5/en/#overview-rest-authentication",
    passphrase: Passphrase::Plain,
    other_symbols: &["instIdCode"],
    hosts: &[
        Hosts {
            environment: Environment::Production,
            path_prefix: "/",
            hosts: &["www.okx.com", "aws.okx.com", "eea.okx.com", "us.okx.com", "my.okx.com", "app.okx.com"],
        },
        // Demo trading is a header, not a host.
        Hosts {
            environment: Environment::Testnet,
            path_prefix: "/",
            hosts: &["www.okx.com", "eea.okx.com", "us.okx.com"],
        },
    ],
    session_grants: &[Scope::Read, Scope::Trade],
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

    fn draft(&self, request: &Request, key: &Key, host: &str, stamp: &Stamp) -> Result<Draft, Refusal> {
        let written = Written::new(request, query)?;
        let timestamp = iso8601_ms(stamp.now_ms);
        let message = format!("{timestamp}{}{}{}", request.method, written.target, written.body_text());
        let url = format!("https://{host}{}", written.target);
        let mut draft = Draft::new(request, key, stamp, message, Encoding::Base64, url)
            .header("OK-ACCESS-KEY", key.api_key.clone())
            .header("OK-ACCESS-PASSPHRASE", Template::passphrase())
            .header("OK-ACCESS-TIMESTAMP", timestamp)
            .header("OK-ACCESS-SIGN", Template::signature());
        if matches!(written.place, Place::Body(_)) {
            draft = draft.header("Content-Type", "application/json");
        }
        if key.environment == Environment::Testnet {
            draft = draft.header("x-simulated-trading", "1");
        }
        Ok(draft.body(written.body))
    }

    fn session(&self, key: &Key, login: &Login, stamp: &Stamp) -> Result<SessionDraft, Refusal> {
        login.plain()?;
        let seconds = stamp.seconds();
        let url = match key.environment {
            Environment::Production => "wss://ws.okx.com:8443/ws/v5/private",
            Environment::Testnet => "wss://wspap.okx.com:8443/ws/v5/private",
        };
        let arguments = Value::object([
            ("apiKey", key.api_key.as_str().into()),
            ("passphrase", PASSPHRASE.into()),
            ("timestamp", seconds.to_string().into()),
            ("sign", SIGNATURE.into()),
        ]);
        let frame = Value::object([("op", "login".into()), ("args", Value::Array(vec![arguments]))]);
        let message = format!("{seconds}GET/users/self/verify");
        Ok(SessionDraft::new(key, stamp, message, Encoding::Base64, url).frame(Template::json(&frame)))
    }

    fn base_quantity<'a>(&self, order: &'a Order<'_>) -> Option<&'a str> {
        let whole_position = order.extra("closeFraction").is_some();
        order.quantity.as_deref().filter(|_| sized_in_base(order) && !whole_position)
    }

    fn notional<'a>(&self, order: &'a Order<'_>) -> Result<(&'a str, Amount), &'static str> {
        // `BTC-USDT`: spot and margin. Contracts have a third part, and a size in contracts.
        let symbol = order.symbol.as_deref().ok_or("it names no instrument")?;
        let (Some((base, quote)), 1) = (symbol.split_once('-'), symbol.matches('-').count()) else {
            return Err("a contract's worth is not in its order");
        };
        if base.is_empty() || quote.is_empty() {
            return Err("its instrument is not of the form BASE-QUOTE");
        }
        if ["pxUsd", "pxVol", "closeFraction"].iter().any(|name| order.extra(name).is_some()) {
            return Err("its price or size is relative");
        }
        let size = order.quantity.as_deref().ok_or("it has no size")?;
        let parse = |text| Amount::parse(text).map_err(|_| "a number of it is not a plain decimal");
        let worth = match order.kind.as_deref() {
            Some("fok" | "ioc" | "limit" | "post_only") if sized_in_base(order) => {
                let price = parse(order.price.as_deref().ok_or("it has no price")?)?;
                parse(size)?.checked_mul_up(price).ok_or("it has too many digits")?
            }
            Some("market") if !sized_in_base(order) => parse(size)?,
            _ => return Err("it has no limit price and no size in the quote asset"),
        };
        Ok((quote, worth))
    }
}

/// True where the size is known to be in the base asset or in contracts: a market or triggered buy may be sized in quote.
fn sized_in_base(order: &Order<'_>) -> bool {
    let contract = order.symbol.as_deref().is_some_and(|symbol| symbol.matches('-').count() > 1);
    let priced = matches!(order.kind.as_deref(), None | Some("fok" | "ioc" | "limit" | "post_only"));
    match order.extra("tgtCcy") {
        Some(unit) => unit == "base_ccy",
        None => contract || priced || order.side.as_deref() == Some("sell"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order<'a>(kind: &'a str, side: &'a str, unit: Option<&str>, symbol: &'a str) -> Order<'a> {
        let unit = unit.map(|unit| ("tgtCcy".to_owned(), Value::String(unit.to_owned())));
        Order {
            symbol: Some(symbol.into()),
            side: Some(side.into()),
            kind: Some(kind.into()),
            quantity: Some("2".into()),
            price: (kind == "limit").then(|| "3".into()),
            sized: true,
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
            assert_eq!(Okx.base_quantity(&order).is_some(), base, "{order:?}");
            let known = Okx.notional(&order).ok().map(|(asset, amount)| format!("{amount} {asset}"));
            assert_eq!(known.as_deref(), worth, "{order:?}");
        }
    }
}
