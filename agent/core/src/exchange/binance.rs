//! Binance: spot, wallet and margin, USD-M, COIN-M, options and portfolio margin, which share one key.
//!
//! <https://developers.binance.com/docs/binance-spot-api-docs/rest-api/request-security>

use std::sync::LazyLock;

use super::parameters::{Pairs, Place, named, query, raw, scalar};
use super::table::Table;
use super::{Binding, Exchange, Facts, Hosts, ReceiveWindow, SecretFormat, Stamp};
use crate::algorithm::Algorithm;
use crate::decimal::Amount;
use crate::draft::{Draft, Encoding, Piece, SessionDraft, Template};
use crate::exchange::classify::Order;
use crate::json::{Value, write_string};
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::{Method, ParamsIn, Request};
use crate::scope::Scope;

#[derive(Debug)]
pub struct Binance;

const WINDOW: &str = "recvWindow";

static FACTS: Facts = Facts {
    name: "binance",
    documentation: "https://developers.binance.com/docs/binance-spot-api-docs/rest-api/request-security",
    algorithms: &[Algorithm::HmacSha256, Algorithm::Ed25519, Algorithm::RsaPkcs1v15Sha256],
    secret: SecretFormat::Ascii,
    needs_passphrase: false,
    increasing_nonce: false,
    binding: Binding { method: false, path: false, body: true },
    hosts: &[
        production("/api/", SPOT),
        production("/sapi/", SPOT),
        production("/fapi/", &["fapi.binance.com"]),
        production("/dapi/", &["dapi.binance.com"]),
        production("/eapi/", &["eapi.binance.com"]),
        production("/papi/", &["papi.binance.com"]),
        // Wallet and portfolio margin have no test network. A demo key is a test key too.
        testnet("/api/", &["testnet.binance.vision", "demo-api.binance.com"]),
        testnet("/fapi/", &["testnet.binancefuture.com", "demo-fapi.binance.com"]),
        testnet("/dapi/", &["testnet.binancefuture.com", "demo-dapi.binance.com"]),
        testnet("/eapi/", &["testnet.binancefuture.com"]),
    ],
    managed: &["timestamp", "signature", "apiKey"],
    receive_window: Some(ReceiveWindow { name: WINDOW, default_ms: 10_000 }),
    session_grants: &[Scope::Read],
};

const SPOT: &[&str] = &[
    "api.binance.com",
    "api-gcp.binance.com",
    "api1.binance.com",
    "api2.binance.com",
    "api3.binance.com",
    "api4.binance.com",
];

const fn production(path_prefix: &'static str, hosts: &'static [&'static str]) -> Hosts {
    Hosts { environment: Environment::Production, path_prefix, hosts }
}

const fn testnet(path_prefix: &'static str, hosts: &'static [&'static str]) -> Hosts {
    Hosts { environment: Environment::Testnet, path_prefix, hosts }
}

static TABLE: LazyLock<Table> =
    LazyLock::new(|| Table::parse(include_str!("binance.scopes"), include_str!("binance.params"), FACTS.managed));

impl Exchange for Binance {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn table(&self) -> &'static Table {
        &TABLE
    }

    fn draft(&self, request: &Request, key: &Key, host: &str, stamp: &Stamp) -> Result<Draft, Refusal> {
        let place = Place::of(request.method, ParamsIn::Form);
        place.check(request)?;
        if UNSIGNED.contains(&request.path.as_str()) {
            return unsigned(request, key, host, stamp);
        }
        let payload = payload(request, stamp)?;
        let (encoding, signature) = match key.algorithm {
            Algorithm::HmacSha256 => (Encoding::Hex, Piece::Signature),
            _ => (Encoding::Base64, Piece::SignaturePercentEncoded),
        };
        let signed = |text: String| Template::text(text + "&signature=").then(signature.clone());
        let url = format!("https://{host}{}", request.path);
        let mut headers = vec![("X-MBX-APIKEY", key.api_key.clone().into())];
        let (url, body) = match place {
            Place::Query => (signed(format!("{url}?{payload}")), None),
            Place::Body(_) => {
                headers.push(("Content-Type", "application/x-www-form-urlencoded".into()));
                (url.into(), Some(signed(payload.clone())))
            }
        };
        Ok(Draft {
            algorithm: key.algorithm,
            message: payload.into_bytes(),
            encoding,
            method: request.method,
            url,
            headers,
            body,
            timestamp_ms: stamp.now_ms,
        })
    }

    /// Subscribes to the account's own events; nothing can be placed or moved in it.
    fn session(&self, key: &Key, purpose: &str, stamp: &Stamp) -> Result<SessionDraft, Refusal> {
        if purpose != "ws" {
            return Err(Refusal::malformed("the purpose of a session with this exchange is \"ws\""));
        }
        let (api_key, now) = (&key.api_key, stamp.now_ms);
        let mut frame = r#"{"method":"userDataStream.subscribe.signature","params":{"apiKey":"#.to_owned();
        write_string(&mut frame, api_key);
        frame.push_str(&format!(r#","timestamp":{now},"signature":""#));
        Ok(SessionDraft {
            algorithm: key.algorithm,
            // Sorted by name, not escaped.
            message: format!("apiKey={}&timestamp={now}", raw("apiKey", api_key)?).into_bytes(),
            encoding: if key.algorithm.is_hmac() { Encoding::Hex } else { Encoding::Base64 },
            url: match key.environment {
                Environment::Production => "wss://ws-api.binance.com:443/ws-api/v3".to_owned(),
                Environment::Testnet => "wss://ws-api.testnet.binance.vision/ws-api/v3".to_owned(),
            },
            frame: Some(Template::text(frame).then(Piece::Signature).then_text("\"}}")),
            headers: Vec::new(),
            timestamp_ms: now,
        })
    }

    fn notional(&self, order: &Order) -> Result<(String, Amount), &'static str> {
        notional(order)
    }
}

/// Listen keys: the exchange wants the API key's id and nothing signed.
const UNSIGNED: &[&str] = &[
    "/api/v3/userDataStream",
    "/dapi/v1/listenKey",
    "/eapi/v1/listenKey",
    "/fapi/v1/listenKey",
    "/papi/v1/listenKey",
    "/sapi/v1/userDataStream",
    "/sapi/v1/userListenToken",
];

/// A request that needs no signature. What is signed beside it has no timestamp, so that it opens nothing.
fn unsigned(request: &Request, key: &Key, host: &str, stamp: &Stamp) -> Result<Draft, Refusal> {
    Ok(Draft {
        algorithm: key.algorithm,
        message: b"unsigned".to_vec(),
        encoding: Encoding::Hex,
        method: request.method,
        url: format!("https://{host}{}", request.path).into(),
        headers: vec![
            ("X-MBX-APIKEY", key.api_key.clone().into()),
            ("Content-Type", "application/x-www-form-urlencoded".into()),
        ],
        body: Some(query(named(request)?)?.into()),
        timestamp_ms: stamp.now_ms,
    })
}

/// The bytes to sign: `timestamp`, the parameters in the caller's order, the receive window last.
fn payload(request: &Request, stamp: &Stamp) -> Result<String, Refusal> {
    let params = named(request)?;
    let writing = Writing::of(request);
    let given = |name: &str| params.iter().any(|(candidate, _)| candidate == name);
    let mut pairs = Pairs::default();
    let now = stamp.now_ms.to_string();
    // Only a vector carries a timestamp of its own: the agent refuses it from a client.
    let timestamp = request.scalar("timestamp").unwrap_or(&now);
    pairs.push("timestamp", timestamp);
    for (name, value) in params.iter().filter(|(name, _)| name != "timestamp" && !writing.is_list(name)) {
        writing.push(&mut pairs, name, value)?;
    }
    if let Some(window) = stamp.receive_window_ms.filter(|_| !given(WINDOW)) {
        pairs.push(WINDOW, window);
    }
    for name in writing.lists() {
        if let Some(list) = request.params.get(name) {
            push_list(&mut pairs, name, list)?;
        }
    }
    Ok(pairs.into_text())
}

/// How one endpoint wants its values written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Writing {
    /// Unescaped, `batchOrders` as JSON text.
    Batch,
    /// Lists of ids at the end, in escaped brackets; everything else unescaped but the symbol.
    CancelBatch,
    Percent,
    Raw,
    /// A list is its name repeated.
    Repeat,
}

impl Writing {
    fn of(request: &Request) -> Self {
        let path = request.path.as_str();
        let unescaped = ["sub-account", "staking", "simple-earn"].iter().any(|part| path.contains(part));
        match request.method {
            Method::Delete if path.ends_with("/batchOrders") => Self::CancelBatch,
            _ if path.ends_with("/batchOrders") => Self::Batch,
            _ if path == "/sapi/v1/asset/dust" => Self::Repeat,
            _ if unescaped || path == "/sapi/v1/capital/withdraw/apply" => Self::Raw,
            _ => Self::Percent,
        }
    }

    const fn lists(self) -> &'static [&'static str] {
        match self {
            Self::CancelBatch => &[
                "orderidlist",
                "origclientorderidlist",
                "orderIdList",
                "origClientOrderIdList",
                "orderIds",
                "clientOrderIds",
            ],
            _ => &[],
        }
    }

    fn is_list(self, name: &str) -> bool {
        self.lists().contains(&name)
    }

    fn push(self, pairs: &mut Pairs, name: &str, value: &Value) -> Result<(), Refusal> {
        match (self, value) {
            (Self::Batch, Value::Array(_)) if name == "batchOrders" || name == "orders" => {
                pairs.push(name, raw(name, value.to_json())?);
            }
            (Self::CancelBatch, _) if name == "symbol" => pairs.push_percent(name, scalar(name, value)?),
            (Self::Repeat, Value::Array(items)) => {
                for item in items {
                    pairs.push_percent(name, scalar(name, item)?);
                }
            }
            (Self::Percent | Self::Repeat, _) => pairs.push_percent(name, scalar(name, value)?),
            (Self::Batch | Self::CancelBatch | Self::Raw, _) => pairs.push(name, raw(name, scalar(name, value)?)?),
        }
        Ok(())
    }
}

/// `[1,2]` or `["a","b"]` with brackets, commas and quotes escaped.
fn push_list(pairs: &mut Pairs, name: &str, list: &Value) -> Result<(), Refusal> {
    let Value::Array(items) = list else {
        return Err(Refusal::malformed(format!("the parameter {name:?} is not a list of ids")));
    };
    if items.is_empty() {
        return Ok(());
    }
    let quote = if name.to_ascii_lowercase().contains("client") { "%22" } else { "" };
    let ids: Result<Vec<_>, Refusal> =
        items.iter().map(|id| Ok(format!("{quote}{}{quote}", raw(name, scalar(name, id)?)?))).collect();
    // The API knows the list of client ids by one spelling.
    let name = if name == "origClientOrderIdList" { "origclientorderidlist" } else { name };
    pairs.push(name, format_args!("%5B{}%5D", ids?.join("%2C")));
    Ok(())
}

/// Assets a symbol may end in.
const QUOTES: &[&str] = &[
    "ARS", "AUD", "BIDR", "BNB", "BRL", "BTC", "BUSD", "COP", "CZK", "DAI", "DOGE", "ETH", "EUR", "EURI", "FDUSD",
    "GBP", "IDRT", "JPY", "MXN", "NGN", "PLN", "RON", "RUB", "SOL", "TRX", "TRY", "TUSD", "UAH", "USD1", "USDC",
    "USDP", "USDT", "VAI", "XRP", "ZAR",
];

/// Quantity by price in the quote asset. A sell is worth its limit price: the least it can bring.
fn notional(order: &Order) -> Result<(String, Amount), &'static str> {
    let symbol = order.symbol.as_deref().ok_or("it names no symbol")?;
    let quote = QUOTES.iter().filter(|quote| symbol.len() > quote.len() && symbol.ends_with(**quote));
    // `BTCUSD_PERP` and `BTC-240628-60000-C` end in no asset: inverse contracts and options are not counted.
    let asset = *quote.max_by_key(|quote| quote.len()).ok_or("the quote asset of its symbol is not known")?;
    let set = |name: &str| order.extra(name).is_some_and(|value| value != "false" && value != "NONE");
    if ["priceMatch", "pegPriceType", "closePosition"].into_iter().any(set) {
        return Err("its price or size is relative");
    }
    if order.kind.is_none() && order.extra("stopPrice").is_some() {
        return Err("it is a pair of orders with two prices");
    }
    let amount = |text: &Option<String>| text.as_deref().map(Amount::parse).transpose();
    let parsed = |text| amount(text).map_err(|_| "a number of it is not a plain decimal");
    let (quantity, price, quote) = (parsed(&order.quantity)?, parsed(&order.price)?, parsed(&order.quote)?);
    let worth = match (order.kind.as_deref(), quantity, price, quote) {
        (Some("MARKET"), None, None, Some(quote)) => quote,
        (
            None | Some("LIMIT" | "LIMIT_MAKER" | "STOP" | "STOP_LOSS_LIMIT" | "TAKE_PROFIT" | "TAKE_PROFIT_LIMIT"),
            Some(quantity),
            Some(price),
            None,
        ) => quantity.checked_mul_up(price).ok_or("it has too many digits")?,
        _ => return Err("it has no limit price and no size in the quote asset"),
    };
    Ok((asset.to_owned(), worth))
}
