//! Kraken Futures: parameters, nonce and path are hashed, then signed; the method is not.
//!
//! <https://docs.kraken.com/api/docs/guides/futures-rest>

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use super::login::{Login, WS};
use super::parameters::{Place, named, query, query_repeated, raw};
use super::table::Table;
use super::{Binding, Exchange, Facts, Hosts, Mark, Nonce, OrderFacts, Scheme, SecretFormat, Stamp, Whole};
use crate::algorithm::Algorithm;
use crate::draft::{Draft, Encoding, SIGNATURE, SessionDraft, Template};
use crate::exchange::classify::Order;
use crate::json::Value;
use crate::key::{Environment, Key, NonceUnit};
use crate::refusal::Refusal;
use crate::request::{ParamsIn, Request};

#[derive(Debug)]
pub struct KrakenFutures;

static FACTS: Facts = Facts {
    name: "krakenfutures",
    documentation: "https://docs.kraken.com/api/docs/guides/futures-rest",
    algorithms: &[Algorithm::HmacSha512],
    secret: SecretFormat::Base64,
    nonce: Nonce::Increasing(NonceUnit::Milliseconds),
    schemes: &[Scheme::of("/", Binding { method: false, ..Binding::FULL })],
    hosts: &[
        Hosts { environment: Environment::Production, path_prefix: "/", hosts: &["futures.kraken.com"] },
        Hosts { environment: Environment::Testnet, path_prefix: "/", hosts: &["demo-futures.kraken.com"] },
    ],
    // In a batch, an amendment or a cancel names its order by an id: a symbol beside that is not read.
    other_symbols: &[Mark::of("order").unless(&["send"])],
    orders: OrderFacts {
        unpriced: &["fok", "ioc", "lmt", "mkt", "post", "stp", "take_profit", "trailing_stop"],
        whole: Whole::No("https://docs.kraken.com/api/docs/futures-api/trading/send-order: every order has a size"),
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> =
    LazyLock::new(|| Table::parse(&FACTS, include_str!("krakenfutures.scopes"), include_str!("krakenfutures.params")));

impl Exchange for KrakenFutures {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn table(&self) -> &'static Table {
        &TABLE
    }

    fn draft(&self, request: &Request, key: &Key, host: &str, stamp: &Stamp) -> Result<Draft, Refusal> {
        let place = match request.path.as_str() {
            "/derivatives/api/v3/batchorder" => Place::Body(ParamsIn::Form),
            _ => Place::Query,
        };
        place.check(request)?;
        let params = named(request)?;
        let data = match place {
            Place::Body(_) => format!("json={}", raw("batchOrder", request.params.value().to_json())?),
            Place::Query if params.iter().any(|(name, _)| name == "orderIds") => query_repeated(params)?,
            Place::Query => query(params)?,
        };
        let path = request.path.as_str();
        // Without a nonce a signature would be good for ever; the cases of the vectors have none.
        let nonce = (stamp.nonce > 0).then(|| stamp.nonce.to_string());
        let signed = path.strip_prefix("/derivatives").unwrap_or(path);
        let hash = Sha256::digest(format!("{data}{}{signed}", nonce.as_deref().unwrap_or_default()));
        let (url, body) = match place {
            Place::Query if data.is_empty() => (format!("https://{host}{path}"), None),
            Place::Query => (format!("https://{host}{path}?{data}"), None),
            Place::Body(_) => (format!("https://{host}{path}"), Some(data)),
        };
        let mut draft = Draft::new(request, key, stamp, hash.to_vec(), Encoding::Base64, url)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header("APIKey", key.api_key.clone())
            .header("Authent", Template::signature());
        if let Some(nonce) = nonce {
            draft = draft.header("Nonce", nonce);
        }
        Ok(draft.body(body))
    }

    /// The challenge is signed as a request would be: it has to be a UUID, which no request is
    /// (<https://docs.kraken.com/api/docs/guides/futures-websockets>).
    fn session(&self, key: &Key, login: &Login, stamp: &Stamp) -> Result<SessionDraft, Refusal> {
        login.one_of(&[WS])?;
        login.only(false, true, false)?;
        let challenge = login.challenge()?;
        let frame = Value::object([
            ("original_challenge", challenge.into()),
            ("signed_challenge", SIGNATURE.into()),
            ("api_key", key.api_key.as_str().into()),
        ]);
        let url = match key.environment {
            Environment::Production => "wss://futures.kraken.com/ws/v1",
            Environment::Testnet => "wss://demo-futures.kraken.com/ws/v1",
        };
        let hash = Sha256::digest(challenge).to_vec();
        Ok(SessionDraft::new(key, stamp, hash, Encoding::Base64, url).frame(Template::json(&frame)))
    }

    fn quote_asset<'a>(&self, _order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        Err("a contract's worth is not in its order")
    }
}
