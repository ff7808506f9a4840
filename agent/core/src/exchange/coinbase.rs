//! The recipe for Coinbase Advanced. Each request has a token, which binds only method and path.
//! Older keys sign with HMAC.
//!
//! <https://docs.cdp.coinbase.com/coinbase-app/authentication-authorization/api-key-authentication>

use std::sync::LazyLock;

use super::facts::{Facts, Hosts, Nonce};
use super::jwt;
use super::login::SessionLogin;
use super::order::Order;
use super::order_facts::{OrderFacts, Whole};
use super::parameters::{ParameterPlace, WrittenRequest, query_repeated};
use super::recipe::Exchange;
use super::scheme::{Binding, Scheme};
use super::table::Table;
use super::text::hex;
use crate::algorithm::Algorithm;
use crate::draft::{Draft, Encoding, SIGNATURE_PLACEHOLDER, SessionDraft, Template};
use crate::json::Value;
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::{Method, Request};
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Coinbase;

static FACTS: Facts = Facts {
    name: "coinbase",
    documentation: "https://docs.cdp.coinbase.com/coinbase-app/authentication-authorization/\
                    api-key-authentication",
    algorithms: &[Algorithm::EcdsaP256Sha256, Algorithm::Ed25519, Algorithm::HmacSha256],
    nonce: Nonce::Random,
    schemes: &[
        // Queries of v3 are not signed.
        Scheme::of("/api/v3/", Binding { query: false, ..Binding::FULL })
            .by(&[Algorithm::HmacSha256]),
        Scheme::of("/api/v3/", TOKEN),
        Scheme::of("/", Binding::FULL).by(&[Algorithm::HmacSha256]),
        Scheme::of("/", TOKEN),
    ],
    hosts: &[Hosts {
        environment: Environment::Production,
        path_prefix: "/",
        hosts: &["api.coinbase.com"],
    }],
    orders: OrderFacts {
        whole: Whole::No(
            "https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/orders/\
             create-order: sizes stand in a configuration",
        ),
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

const TOKEN: Binding = Binding { query: false, body: false, ..Binding::FULL };

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(&FACTS, include_str!("coinbase.scopes"), include_str!("coinbase.params"))
});

impl Exchange for Coinbase {
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
        let written =
            WrittenRequest::at(request, ParameterPlace::but_get(request.method), query_repeated)?;
        let url = format!("https://{host}{}", written.target);
        let draft = if key.algorithm.is_hmac() {
            let seconds = stamp.seconds();
            let unsigned_query =
                request.method == Method::Get && request.path.as_str().starts_with("/api/v3/");
            let target = if unsigned_query { request.path.as_str() } else { &written.target };
            let message = format!("{seconds}{}{target}{}", request.method, written.body_text());
            Draft::new(request, key, stamp, message, Encoding::Hex, url)
                .header("CB-ACCESS-KEY", key.api_key.clone())
                .header("CB-ACCESS-SIGN", Template::signature())
                .header("CB-ACCESS-TIMESTAMP", seconds.to_string())
        } else {
            let input = signing_input(
                key,
                stamp,
                Some(format!("{} {host}{}", request.method, request.path)),
            );
            let token = jwt::token("Bearer ", &input);
            Draft::new(request, key, stamp, input, Encoding::Base64Url, url)
                .header("Authorization", token)
        };
        Ok(draft.header("Content-Type", "application/json").body(written.body))
    }

    /// Subscribes to a channel.
    fn session(
        &self,
        key: &Key,
        login: &SessionLogin,
        stamp: &Stamp,
    ) -> Result<SessionDraft, Refusal> {
        login.one_of(&["ws"])?;
        login.only(true, false, true)?;
        let (channel, products) = (login.channel(CHANNELS)?, login.symbols());
        let mut frame = vec![
            ("type", "subscribe".into()),
            (
                "product_ids",
                Value::Array(products.iter().map(|product| product.as_str().into()).collect()),
            ),
            ("channel", channel.into()),
        ];
        let url = "wss://advanced-trade-ws.coinbase.com";
        if key.algorithm.is_hmac() {
            let seconds = stamp.seconds();
            frame.push(("api_key", key.api_key.as_str().into()));
            frame.push(("timestamp", seconds.to_string().into()));
            frame.push(("signature", SIGNATURE_PLACEHOLDER.into()));
            let message = format!("{seconds}{channel}{}", products.join(","));
            let frame = Template::json(&Value::object(frame));
            return Ok(SessionDraft::new(key, stamp, message, Encoding::Hex, url).frame(frame));
        }
        let input = signing_input(key, stamp, None);
        frame.push(("jwt", format!("{input}.{SIGNATURE_PLACEHOLDER}").into()));
        let frame = Template::json(&Value::object(frame));
        Ok(SessionDraft::new(key, stamp, input, Encoding::Base64Url, url).frame(frame))
    }

    fn quote_asset<'a>(&self, _order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        Err("its price and size are parts of a configuration")
    }
}

/// No other word is signed as a channel: it could be the method of a request.
const CHANNELS: &[&str] = &[
    "user",
    "candles",
    "futures_balance_summary",
    "heartbeats",
    "level2",
    "market_trades",
    "status",
    "ticker",
    "ticker_batch",
];

/// The text of a token that is valid for two minutes, for one request or for a WebSocket.
fn signing_input(key: &Key, stamp: &Stamp, uri: Option<String>) -> String {
    let (seconds, kid) = (stamp.seconds(), key.api_key.as_str());
    let (algorithm, audience, issuer) = match key.algorithm {
        Algorithm::Ed25519 => ("EdDSA", "cdp_service", "cdp"),
        _ => ("ES256", "retail_rest_api_proxy", "coinbase-cloud"),
    };
    let header = [
        ("alg", algorithm.into()),
        ("typ", "JWT".into()),
        ("kid", kid.into()),
        ("nonce", hex(stamp.random).into()),
    ];
    let mut claims = vec![
        ("aud", Value::Array(vec![audience.into()])),
        ("iss", issuer.into()),
        ("nbf", seconds.into()),
        ("exp", (seconds + 120).into()),
        ("sub", kid.into()),
        ("iat", seconds.into()),
    ];
    claims.extend(uri.map(|uri| match key.algorithm {
        Algorithm::Ed25519 => ("uris", Value::Array(vec![uri.into()])),
        _ => ("uri", uri.into()),
    }));
    jwt::signing_input(&Value::object(header), &Value::object(claims))
}
