//! OKX v5.
//!
//! <https://www.okx.com/docs-v5/en/#overview-rest-authentication>

use std::sync::LazyLock;

use super::parameters::{Place, named, query};
use super::table::Table;
use super::{Binding, Exchange, Facts, Hosts, SecretFormat, Stamp};
use crate::algorithm::Algorithm;
use crate::decimal::Amount;
use crate::draft::{Draft, Encoding, Piece, SessionDraft, Template};
use crate::exchange::classify::Order;
use crate::json::write_string;
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::{ParamsIn, Request};
use crate::scope::Scope;

#[derive(Debug)]
pub struct Okx;

static FACTS: Facts = Facts {
    name: "okx",
    documentation: "https://www.okx.com/docs-v5/en/#overview-rest-authentication",
    algorithms: &[Algorithm::HmacSha256],
    secret: SecretFormat::Ascii,
    needs_passphrase: true,
    other_symbols: &["instIdCode"],
    increasing_nonce: false,
    binding: Binding::FULL,
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
    managed: &[],
    receive_window: None,
    session_grants: &[Scope::Read, Scope::Trade],
};

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(FACTS.binding, include_str!("okx.scopes"), include_str!("okx.params"), FACTS.managed)
});

impl Exchange for Okx {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn table(&self) -> &'static Table {
        &TABLE
    }

    fn draft(&self, request: &Request, key: &Key, host: &str, stamp: &Stamp) -> Result<Draft, Refusal> {
        let place = Place::of(request.method, ParamsIn::Json);
        place.check(request)?;
        let (mut target, mut body) = (request.path.to_string(), None);
        match place {
            Place::Query if request.params.is_empty() => {}
            Place::Query => target += &format!("?{}", query(named(request)?)?),
            // An empty object is no body at all; an empty array is a body.
            Place::Body(_) if named(request).is_ok_and(<[_]>::is_empty) => {}
            Place::Body(_) => body = Some(request.params.value().to_json()),
        }
        let timestamp = iso8601(stamp.now_ms);
        let mut headers = vec![
            ("OK-ACCESS-KEY", key.api_key.clone().into()),
            ("OK-ACCESS-PASSPHRASE", Template::passphrase()),
            ("OK-ACCESS-TIMESTAMP", timestamp.clone().into()),
            ("OK-ACCESS-SIGN", Template::signature()),
        ];
        if matches!(place, Place::Body(_)) {
            headers.push(("Content-Type", "application/json".into()));
        }
        if key.environment == Environment::Testnet {
            headers.push(("x-simulated-trading", "1".into()));
        }
        Ok(Draft {
            algorithm: key.algorithm,
            message: format!("{timestamp}{}{target}{}", request.method, body.as_deref().unwrap_or_default())
                .into_bytes(),
            encoding: Encoding::Base64,
            method: request.method,
            url: format!("https://{host}{target}").into(),
            headers,
            body: body.map(Template::from),
            timestamp_ms: stamp.now_ms,
        })
    }

    fn session(&self, key: &Key, purpose: &str, stamp: &Stamp) -> Result<SessionDraft, Refusal> {
        if purpose != "ws" {
            return Err(Refusal::malformed("the purpose of a session with this exchange is \"ws\""));
        }
        let seconds = stamp.now_ms / 1000;
        let mut frame = r#"{"op":"login","args":[{"apiKey":"#.to_owned();
        write_string(&mut frame, &key.api_key);
        frame.push_str(r#","passphrase":""#);
        let frame = Template::text(frame)
            .then(Piece::PassphraseInJson)
            .then_text(&format!(r#"","timestamp":"{seconds}","sign":""#))
            .then(Piece::Signature)
            .then_text("\"}]}");
        Ok(SessionDraft {
            algorithm: key.algorithm,
            message: format!("{seconds}GET/users/self/verify").into_bytes(),
            encoding: Encoding::Base64,
            url: match key.environment {
                Environment::Production => "wss://ws.okx.com:8443/ws/v5/private".to_owned(),
                Environment::Testnet => "wss://wspap.okx.com:8443/ws/v5/private".to_owned(),
            },
            frame: Some(frame),
            headers: Vec::new(),
            timestamp_ms: stamp.now_ms,
        })
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

/// `2023-11-14T22:13:20.123Z`.
fn iso8601(unix_ms: u64) -> String {
    let (days, ms_of_day) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (seconds, ms) = (ms_of_day / 1000, ms_of_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month and day of a day since 1970 (<https://howardhinnant.github.io/date_algorithms.html#civil_from_days>).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months counted from March, so that the leap day is the year's last.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Value;

    #[test]
    fn times_are_utc_to_the_millisecond() {
        for (unix_ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
            (1_709_164_799_999, "2024-02-28T23:59:59.999Z"),
            (1_709_251_199_001, "2024-02-29T23:59:59.001Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(iso8601(unix_ms), expected);
        }
    }

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
