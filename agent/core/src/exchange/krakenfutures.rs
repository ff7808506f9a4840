//! The recipe for Kraken Futures. Parameters, nonce and path are hashed, then signed. The method is
//! not signed.
//!
//! <https://docs.kraken.com/api/docs/guides/futures-rest>

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use super::facts::{Facts, Hosts, Nonce, SecretFormat};
use super::login::{SessionLogin, WS};
use super::order::Order;
use super::order_facts::{Mark, OrderFacts, Whole};
use super::parameters::{ParameterPlace, named, query, query_repeated, raw};
use super::recipe::Exchange;
use super::scheme::{Binding, Scheme};
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
pub struct KrakenFutures;

static FACTS: Facts = Facts {
    name: "krakenfutures",
    documentation: "https://docs.kraken.com/api/docs/guides/futures-rest",
    algorithms: &[Algorithm::HmacSha512],
    secret: SecretFormat::Base64,
    nonce: Nonce::Increasing(NonceUnit::Milliseconds),
    schemes: &[Scheme::of("/", Binding { method: false, ..Binding::FULL })],
    hosts: &[
        Hosts {
            environment: Environment::Production,
            path_prefix: "/",
            hosts: &["futures.kraken.com"],
        },
        Hosts {
            environment: Environment::Testnet,
            path_prefix: "/",
            hosts: &["demo-futures.kraken.com"],
        },
    ],
    // In a batch, an amendment or a cancel names its order by an id. A symbol beside the id is not
    // read.
    other_symbols: &[Mark::of("order").unless(&["send"])],
    orders: OrderFacts {
        unpriced: &["fok", "ioc", "lmt", "mkt", "post", "stp", "take_profit", "trailing_stop"],
        whole: Whole::No(
            "https://docs.kraken.com/api/docs/futures-api/trading/send-order: every order has a \
             size",
        ),
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(&FACTS, include_str!("krakenfutures.scopes"), include_str!("krakenfutures.params"))
});

impl Exchange for KrakenFutures {
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
            "/derivatives/api/v3/batchorder" => ParameterPlace::Body(ParamsIn::Form),
            _ => ParameterPlace::Query,
        };
        place.check(request)?;
        let params = named(request)?;
        // Without a nonce a signature would be valid for ever. Only the cases of the vectors have
        // none.
        let nonce = (stamp.nonce > 0).then(|| stamp.nonce.to_string());
        let ordered = match place {
            ParameterPlace::Query if nonce.is_some() => Some(before_the_nonce(request, params)?),
            // A body is JSON, which ends with a bracket.
            ParameterPlace::Body(_) | ParameterPlace::Query => None,
        };
        let params = ordered.as_deref().unwrap_or(params);
        let data = match place {
            ParameterPlace::Body(_) => {
                format!("json={}", raw("batchOrder", request.params.value().to_json())?)
            }
            ParameterPlace::Query if params.iter().any(|(name, _)| name == "orderIds") => {
                query_repeated(params)?
            }
            ParameterPlace::Query => query(params)?,
        };
        let path = request.path.as_str();
        let signed = path.strip_prefix("/derivatives").unwrap_or(path);
        let hash =
            Sha256::digest(format!("{data}{}{signed}", nonce.as_deref().unwrap_or_default()));
        let (url, body) = match place {
            ParameterPlace::Query if data.is_empty() => (format!("https://{host}{path}"), None),
            ParameterPlace::Query => (format!("https://{host}{path}?{data}"), None),
            ParameterPlace::Body(_) => (format!("https://{host}{path}"), Some(data)),
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

    /// The challenge is signed as a request would be. So it has to be a UUID, which no request is
    /// (<https://docs.kraken.com/api/docs/guides/futures-websockets>).
    fn session(
        &self,
        key: &Key,
        login: &SessionLogin,
        stamp: &Stamp,
    ) -> Result<SessionDraft, Refusal> {
        login.one_of(&[WS])?;
        login.only(false, true, false)?;
        let challenge = login.challenge()?;
        let frame = Value::object([
            ("original_challenge", challenge.into()),
            ("signed_challenge", SIGNATURE_PLACEHOLDER.into()),
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

/// Parameters that may stand right before the nonce, the best ones first. More or fewer digits at
/// the end of their values change no size, amount, price, asset or address. `id`, `timeout` and
/// `maxLeverage` are numbers, but no limit counts them, and each is the only one of its request.
const LAST_PARAMETERS: &[&str] = &[
    "symbol",
    "unit",
    "currency",
    "side",
    "orderId",
    "order_id",
    "cliOrdId",
    "clientOrderId",
    "contractType",
    "contract",
    "acceptLong",
    "acceptShort",
    "enabled",
    "timeFrame",
    "fromAccount",
    "sourceWallet",
    "pnlPreference",
    "strategy",
    "tradingEnabled",
    "id",
    "timeout",
    "maxLeverage",
];

/// Those of them that would be another asset or account if digits were cut off (`LUNA2`, `LUNA`).
const NAMES_WITHOUT_DIGITS: &[&str] = &["unit", "currency", "fromAccount", "sourceWallet"];

/// Orders the parameters so that no size and no amount stands last. The nonce follows without a
/// separator, so that the sender of a request may move digits between the two. A request for which
/// there is no such order is refused, unless it reads.
fn before_the_nonce(
    request: &Request,
    params: &[(String, Value)],
) -> Result<Vec<(String, Value)>, Refusal> {
    let mut ordered = params.to_vec();
    let fits = |end: &str, (name, value): &(String, Value)| {
        name == end && !(NAMES_WITHOUT_DIGITS.contains(&end) && ends_in_a_digit(value))
    };
    let place = LAST_PARAMETERS
        .iter()
        .find_map(|end| ordered.iter().position(|parameter| fits(end, parameter)));
    if let Some(place) = place {
        let last = ordered.remove(place);
        ordered.push(last);
        return Ok(ordered);
    }
    let row = TABLE.find(request.method, request.path.as_str());
    let reads = row.is_some_and(|(_, row)| row.scope == Scope::Read);
    if ordered.is_empty() || reads {
        return Ok(ordered);
    }
    Err(Refusal::malformed(
        "none of its parameters can stand before the nonce: add the symbol, the asset or the id \
         that it is about; an asset or account may not end in a digit",
    ))
}

fn ends_in_a_digit(value: &Value) -> bool {
    value.scalar().is_none_or(|text| text.ends_with(|last: char| last.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::classify::classify;
    use crate::key::{KeyName, Tier};
    use crate::request::{Method, Params, Path};

    fn signed_query(nonce: u64, method: Method, path: &str, params: &str) -> String {
        let params = Params::new(Value::parse(params).expect("JSON")).expect("plain names");
        let request = Request {
            method,
            path: Path::parse(path).expect("a path"),
            params,
            params_in: None,
            host: None,
        };
        classify(&KrakenFutures, Algorithm::HmacSha512, &request).expect("names of its row");
        let key = Key {
            name: KeyName::parse("key").expect("a plain name"),
            exchange: "krakenfutures",
            environment: Environment::Production,
            algorithm: Algorithm::HmacSha512,
            api_key: "k".to_owned(),
            scopes: Scope::ALL.into_iter().collect(),
            tier: Tier::Software,
            token: "none".to_owned(),
            nonce_unit: NonceUnit::Milliseconds,
            in_vault: false,
        };
        let stamp =
            Stamp { now_ms: 1_700_000_000_123, nonce, random: [0; 16], receive_window_ms: None };
        let draft =
            KrakenFutures.draft(&request, &key, "futures.kraken.com", &stamp).expect("a draft");
        let query = format!("{:?}", draft.url)
            .split_once('?')
            .map(|(_, query)| query.to_owned())
            .expect("a query");
        let data = query.split('"').next().unwrap_or_default().to_owned();
        let nonce = if nonce > 0 { nonce.to_string() } else { String::new() };
        let signed = path.strip_prefix("/derivatives").expect("a path of the API");
        assert_eq!(
            draft.message,
            Sha256::digest(format!("{data}{nonce}{signed}")).to_vec(),
            "what is sent is signed"
        );
        data
    }

    /// `size=1` with the first digits of the nonce behind it would be a larger order under the same
    /// signature.
    #[test]
    fn no_size_and_no_amount_stands_right_before_the_nonce() {
        use Method::{Post, Put};
        let order =
            r#"{"symbol":"PF_XBTUSD","side":"buy","orderType":"lmt","limitPrice":9,"size":1}"#;
        let v3 = |path: &str| format!("/derivatives/api/v3/{path}");
        for (method, path, params, end) in [
            (Post, "sendorder", order, "symbol=PF_XBTUSD"),
            (
                Post,
                "editorder",
                r#"{"orderId":"7d0f3d1e-050f","size":1,"limitPrice":9}"#,
                "orderId=7d0f3d1e-050f",
            ),
            (Post, "editorder", r#"{"cliOrdId":"a","limitPrice":9}"#, "cliOrdId=a"),
            (
                Post,
                "transfer",
                r#"{"fromAccount":"a","toAccount":"b","unit":"USD","amount":1}"#,
                "unit=USD",
            ),
            (
                Post,
                "transfer/subaccount",
                r#"{"unit":"USD","fromUser":"a","toUser":"b","toAccount":"c","fromAccount":"d",
                    "amount":1}"#,
                "unit=USD",
            ),
            (Post, "withdrawal", r#"{"currency":"XBT","amount":1}"#, "currency=XBT"),
            (
                Put,
                "leveragepreferences",
                r#"{"symbol":"PF_XBTUSD","maxLeverage":5}"#,
                "symbol=PF_XBTUSD",
            ),
        ] {
            let data = signed_query(1_700_000_000_777, method, &v3(path), params);
            assert!(data.ends_with(end), "{path}: {data}");
        }
        let as_it_came = "symbol=PF_XBTUSD&side=buy&orderType=lmt&limitPrice=9&size=1";
        assert_eq!(
            signed_query(0, Post, &v3("sendorder"), order),
            as_it_came,
            "without a nonce nothing is moved"
        );
    }
}
