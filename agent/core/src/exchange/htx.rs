//! The recipe for HTX. It signs method, host, path and query, but not the body of a POST.
//!
//! <https://www.htx.com/en-us/opend/newApiPages/?id=419>

use std::sync::LazyLock;

use super::facts::{Facts, Hosts};
use super::login::{SessionLogin, WS};
use super::order::Order;
use super::order_facts::{OrderFacts, Unit, Whole};
use super::parameters::{Pairs, ParameterPlace, named, query_repeated, sorted};
use super::recipe::Exchange;
use super::scheme::{Binding, Scheme};
use super::table::Table;
use crate::calendar::iso8601;
use crate::draft::{Draft, Encoding, Piece, SIGNATURE_PLACEHOLDER, SessionDraft, Template};
use crate::json::Value;
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::{Method, ParamsIn, Request};
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Htx;

const CONTRACTS: &[&str] = &["api.hbdm.vn", "api.hbdm.com"];

static FACTS: Facts = Facts {
    name: "htx",
    documentation: "https://www.htx.com/en-us/opend/newApiPages/?id=419",
    schemes: &[Scheme::of("/", Binding { body: false, ..Binding::FULL })],
    hosts: &[
        Hosts {
            environment: Environment::Production,
            path_prefix: "/v5/account/universal_transfer",
            hosts: SPOT_HOSTS,
        },
        Hosts { environment: Environment::Production, path_prefix: "/api/", hosts: CONTRACTS },
        Hosts {
            environment: Environment::Production,
            path_prefix: "/linear-swap-notification",
            hosts: CONTRACTS,
        },
        Hosts {
            environment: Environment::Production,
            path_prefix: "/notification",
            hosts: CONTRACTS,
        },
        Hosts { environment: Environment::Production, path_prefix: "/swap-", hosts: CONTRACTS },
        Hosts { environment: Environment::Production, path_prefix: "/v5/", hosts: CONTRACTS },
        Hosts { environment: Environment::Production, path_prefix: "/ws/v5/", hosts: CONTRACTS },
        Hosts { environment: Environment::Production, path_prefix: "/", hosts: SPOT_HOSTS },
    ],
    managed: &["AccessKeyId", "Signature", "SignatureMethod", "SignatureVersion", "Timestamp"],
    orders: OrderFacts {
        whole: Whole::No("its body is not signed, so that no order is read"),
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

const SPOT_HOSTS: &[&str] = &["api.huobi.pro", "api-aws.huobi.pro"];

static TABLE: LazyLock<Table> =
    LazyLock::new(|| Table::parse(&FACTS, include_str!("htx.scopes"), include_str!("htx.params")));

impl Exchange for Htx {
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
        let place = if request.method == Method::Post {
            ParameterPlace::Body(ParamsIn::Json)
        } else {
            ParameterPlace::Query
        };
        place.check(request)?;
        let timestamp = iso8601(nearest_second(stamp.now_ms));
        let mut query = vec![
            ("AccessKeyId".to_owned(), key.api_key.as_str().into()),
            ("SignatureMethod".to_owned(), "HmacSHA256".into()),
            ("SignatureVersion".to_owned(), "2".into()),
            ("Timestamp".to_owned(), timestamp.into()),
        ];
        if place == ParameterPlace::Query {
            query.extend(named(request)?.iter().cloned());
        }
        let query = query_repeated(&sorted(&query))?;
        let (content, body) = match place {
            ParameterPlace::Query => ("application/x-www-form-urlencoded", None),
            ParameterPlace::Body(_) => ("application/json", Some(request.params.value().to_json())),
        };
        let message = format!("{}\n{host}\n{}\n{query}", request.method, request.path);
        let url = Template::text(format!("https://{host}{}?{query}&Signature=", request.path))
            .then(Piece::SignaturePercentEncoded);
        let draft = Draft::new(request, key, stamp, message, Encoding::Base64, url);
        Ok(draft.header("Content-Type", content).body(body))
    }

    /// A login for the account's own events of spot
    /// (<https://www.htx.com/en-us/opend/newApiPages/?id=662>), or of contracts.
    fn session(
        &self,
        key: &Key,
        login: &SessionLogin,
        stamp: &Stamp,
    ) -> Result<SessionDraft, Refusal> {
        login.no_arguments()?;
        let purpose = login.one_of(&PRIVATE_SOCKETS.map(|(purpose, ..)| purpose))?;
        let (_, host, path) = PRIVATE_SOCKETS
            .into_iter()
            .find(|(name, ..)| *name == purpose)
            .unwrap_or(PRIVATE_SOCKETS[0]);
        let timestamp = iso8601(nearest_second(stamp.now_ms));
        // The same four names, written in two ways.
        let (names, version): ([&'static str; 4], _) = match purpose {
            WS => (["accessKey", "signatureMethod", "signatureVersion", "timestamp"], "2.1"),
            _ => (["AccessKeyId", "SignatureMethod", "SignatureVersion", "Timestamp"], "2"),
        };
        let mut query = Pairs::empty();
        query.push_percent(names[0], &key.api_key);
        query.push(names[1], "HmacSHA256");
        query.push(names[2], version);
        query.push_percent(names[3], &timestamp);
        let values = [key.api_key.as_str(), "HmacSHA256", version, timestamp.as_str()];
        let shown = names.into_iter().zip(values.map(Value::from));
        let frame = match purpose {
            WS => {
                let params = [("authType", "api".into())].into_iter().chain(shown);
                let params =
                    Value::object(params.chain([("signature", SIGNATURE_PLACEHOLDER.into())]));
                Value::object([("action", "req".into()), ("ch", "auth".into()), ("params", params)])
            }
            _ => {
                let kind = [("op", "auth".into()), ("type", "api".into())];
                Value::object(
                    kind.into_iter()
                        .chain(shown)
                        .chain([("Signature", SIGNATURE_PLACEHOLDER.into())]),
                )
            }
        };
        let message = format!("GET\n{host}\n{path}\n{}", query.into_text());
        let url = format!("wss://{host}{path}");
        Ok(SessionDraft::new(key, stamp, message, Encoding::Base64, &url)
            .frame(Template::json(&frame)))
    }

    fn unit(&self, _order: &Order<'_>) -> Unit {
        Unit::Unknown("its body is not signed")
    }

    fn quote_asset<'a>(&self, _order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        Err("its body is not signed")
    }
}

/// Purpose, host and path of each private WebSocket.
const PRIVATE_SOCKETS: [(&str, &str, &str); 5] = [
    (WS, SPOT_HOSTS[0], "/ws/v2"),
    ("ws-futures", CONTRACTS[0], "/notification"),
    ("ws-inverse", CONTRACTS[0], "/swap-notification"),
    ("ws-linear", CONTRACTS[0], "/linear-swap-notification"),
    ("ws-linear-v5", CONTRACTS[0], "/ws/v5/notification"),
];

/// Rounds to seconds as the clients in Python do: a half goes to the even second.
fn nearest_second(ms: u64) -> u64 {
    let (seconds, rest) = (ms / 1000, ms % 1000);
    seconds + u64::from(rest > 500 || rest == 500 && seconds % 2 == 1)
}
