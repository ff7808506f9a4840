//! The recipe for Bitfinex v2. Every private request is a POST, signed with its nonce between path
//! and body.
//!
//! <https://docs.bitfinex.com/docs/rest-auth>

use std::sync::LazyLock;

use super::facts::{Facts, Hosts, Nonce};
use super::login::SessionLogin;
use super::order::Order;
use super::order_facts::{Mark, OrderFacts, Whole};
use super::parameters::ParameterPlace;
use super::recipe::Exchange;
use super::table::Table;
use crate::algorithm::Algorithm;
use crate::draft::{Draft, Encoding, SIGNATURE_PLACEHOLDER, SessionDraft, Template};
use crate::json::Value;
use crate::key::{Environment, Key, NonceUnit};
use crate::refusal::Refusal;
use crate::request::{ParamsIn, Request};
use crate::scope::Scope;
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Bitfinex;

static FACTS: Facts = Facts {
    name: "bitfinex",
    documentation: "https://docs.bitfinex.com/docs/rest-auth",
    algorithms: &[Algorithm::HmacSha384],
    nonce: Nonce::Increasing(NonceUnit::Milliseconds),
    hosts: &[Hosts {
        environment: Environment::Production,
        path_prefix: "/",
        hosts: &["api.bitfinex.com"],
    }],
    // A token of `auth/w/token` works for REST as well
    // (<https://docs.bitfinex.com/reference/generate-token>).
    session_grants: &[
        Scope::Read,
        Scope::Trade,
        Scope::Account,
        Scope::Transfer,
        Scope::Withdraw,
        Scope::Admin,
    ],
    orders: OrderFacts {
        priced: &["EXCHANGE FOK", "EXCHANGE IOC", "EXCHANGE LIMIT", "FOK", "IOC", "LIMIT"],
        unpriced: &[
            "EXCHANGE MARKET",
            "EXCHANGE STOP",
            "EXCHANGE STOP LIMIT",
            "EXCHANGE TRAILING STOP",
            "FRRDELTAFIX",
            "FRRDELTAVAR",
            "MARKET",
            "STOP",
            "STOP LIMIT",
            "TRAILING STOP",
        ],
        whole: Whole::By(
            &[Mark::of("flags")
                .unless(&["0", "64", "1024", "1088", "4096", "4160", "5120", "5184"])],
            "https://docs.bitfinex.com/docs/flag-values: 512",
        ),
        legs: &["price_oco_stop"],
        signed_sizes: true,
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(&FACTS, include_str!("bitfinex.scopes"), include_str!("bitfinex.params"))
});

impl Exchange for Bitfinex {
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
        ParameterPlace::Body(ParamsIn::Json).check(request)?;
        if ["user_id_dst", "userIdDst"].iter().any(|name| request.params.get(name).is_some()) {
            return Err(Refusal::malformed("name the account that money goes to by email_dst"));
        }
        let (nonce, body) = (stamp.nonce.to_string(), request.params.value().to_json());
        let message = format!("/api{}{nonce}{body}", request.path);
        let url = format!("https://{host}{}", request.path);
        Ok(Draft::new(request, key, stamp, message, Encoding::Hex, url)
            .header("bfx-nonce", nonce)
            .header("bfx-apikey", key.api_key.clone())
            .header("bfx-signature", Template::signature())
            .header("Content-Type", "application/json")
            .body(Some(body)))
    }

    /// The socket takes orders. Everything else needs REST.
    fn session_grants(&self, _algorithm: Algorithm, _login: &SessionLogin) -> &'static [Scope] {
        &[Scope::Read, Scope::Trade]
    }

    /// <https://docs.bitfinex.com/docs/ws-auth>
    fn session(
        &self,
        key: &Key,
        login: &SessionLogin,
        stamp: &Stamp,
    ) -> Result<SessionDraft, Refusal> {
        login.plain()?;
        let payload = format!("AUTH{}", stamp.nonce);
        let frame = Value::object([
            ("event", "auth".into()),
            ("apiKey", key.api_key.as_str().into()),
            ("authSig", SIGNATURE_PLACEHOLDER.into()),
            ("authNonce", stamp.nonce.to_string().into()),
            ("authPayload", payload.as_str().into()),
        ]);
        let url = "wss://api.bitfinex.com/ws/2";
        Ok(SessionDraft::new(key, stamp, payload, Encoding::Hex, url).frame(Template::json(&frame)))
    }

    /// A sale is a negative amount.
    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        quote_of(order.symbol.as_deref().ok_or("it names no symbol")?)
    }
}

/// `tBTCUSD`, `tDUSK:USD`; a derivative's symbol has `F0` in it.
fn quote_of(symbol: &str) -> Result<&str, &'static str> {
    let pair = symbol.strip_prefix('t').filter(|pair| pair.is_ascii() && !pair.contains("F0"));
    let pair = pair.ok_or("its symbol is no pair of currencies")?;
    match pair.split_once(':') {
        Some((_, quote)) if !quote.is_empty() => Ok(quote),
        None if pair.len() == 6 => Ok(&pair[3..]),
        _ => Err("the quote asset of its pair is not known"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::worth;

    #[test]
    fn worth_is_in_the_quote_of_the_pair() {
        fn order<'a>(symbol: &'a str, kind: &'a str, amount: &'a str) -> Order<'a> {
            let price = Some("3".into());
            Order {
                symbol: Some(symbol.into()),
                kind: Some(kind.into()),
                quantity: Some(amount.into()),
                price,
                typed: true,
                ..Order::default()
            }
        }
        for (order, worth) in [
            (order("tBTCUSD", "EXCHANGE LIMIT", "2"), Some("6 USD")),
            (order("tDUSK:UST", "LIMIT", "-2"), Some("6 UST")),
            (order("tBTCUSD", "EXCHANGE MARKET", "2"), None),
            (order("tBTCUSD", "EXCHANGE STOP LIMIT", "2"), None),
            (order("tBTCF0:USTF0", "LIMIT", "2"), None),
            (order("fUSD", "LIMIT", "2"), None),
            (order("tBTCUSD", "LIMIT", "--2"), None),
        ] {
            let known = worth::notional(&Bitfinex, &order)
                .ok()
                .map(|(asset, amount)| format!("{amount} {asset}"));
            assert_eq!(known.as_deref(), worth, "{order:?}");
        }
    }
}
