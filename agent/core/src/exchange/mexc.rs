//! The recipe for MEXC. Spot v3 is signed as Binance's is, but everything stands in the query.
//! Contracts are signed as Bybit's are.
//!
//! <https://mexcdevelop.github.io/apidocs/spot_v3_en/#signed>,
//! <https://mexcdevelop.github.io/apidocs/contract_v1_en/>

use std::sync::LazyLock;

use super::facts::{Facts, Hosts, WindowParameter};
use super::login::SessionLogin;
use super::order::Order;
use super::order_facts::{Mark, OrderFacts, Whole};
use super::parameters::{Pairs, ParameterPlace, after_number, named, query, scalar, sorted};
use super::recipe::Exchange;
use super::scheme::{Binding, Scheme};
use super::table::Table;
use super::worth::ending_in;
use crate::draft::{Draft, Encoding, Piece, SIGNATURE_PLACEHOLDER, SessionDraft, Template};
use crate::json::Value;
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::{Method, Request};
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Mexc;

const WINDOW_PARAMETER: &str = "recvWindow";

static FACTS: Facts = Facts {
    name: "mexc",
    documentation: "https://mexcdevelop.github.io/apidocs/spot_v3_en/#signed",
    schemes: &[
        Scheme::of("/api/v3/", Binding::PARAMETERS).joined(),
        // The signed text is a query or a JSON body, which tells GET from POST.
        Scheme::of("/", Binding { path: false, ..Binding::FULL }).with_objects(),
    ],
    hosts: &[
        Hosts {
            environment: Environment::Production,
            path_prefix: "/api/v3/",
            hosts: &["api.mexc.com"],
        },
        Hosts {
            environment: Environment::Production,
            path_prefix: "/api/v1/private/",
            hosts: &["api.mexc.com", "contract.mexc.com"],
        },
    ],
    receive_window: Some(WindowParameter { name: WINDOW_PARAMETER, default_ms: 5_000 }),
    orders: OrderFacts {
        priced: &["FILL_OR_KILL", "IMMEDIATE_OR_CANCEL", "LIMIT", "LIMIT_MAKER"],
        unpriced: &["1", "2", "3", "4", "5", "6", "MARKET"],
        quoted: &["MARKET"],
        whole: Whole::By(
            &[
                Mark::of("flashClose").unless(&["false"]),
                Mark::of("marketCeiling").unless(&["false"]),
            ],
            "https://www.mexc.com/api-docs/futures/account-and-trading-endpoints: flashClose \
             closes, marketCeiling opens with 100%",
        ),
        repricing: &[Mark::of("bboTypeNum")],
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(&FACTS, include_str!("mexc.scopes"), include_str!("mexc.params"))
});

impl Exchange for Mexc {
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
        let url = format!("https://{host}{}", request.path);
        if request.path.as_str().starts_with("/api/v3/") {
            ParameterPlace::Query.check(request)?;
            let payload = spot(request, stamp)?;
            let url = Template::text(format!("{url}?{payload}&signature=")).then(Piece::Signature);
            let draft = Draft::new(request, key, stamp, payload, Encoding::Hex, url)
                .header("X-MEXC-APIKEY", key.api_key.clone());
            return Ok(if request.method == Method::Get {
                draft
            } else {
                draft.header("Content-Type", JSON)
            });
        }
        let place = ParameterPlace::but_get(request.method);
        place.check(request)?;
        let (payload, body) = match place {
            ParameterPlace::Query => (query(&sorted(after_number(named(request)?)?))?, None),
            ParameterPlace::Body(_) => {
                (request.params.value().to_json(), Some(request.params.value().to_json()))
            }
        };
        let url =
            if body.is_some() || payload.is_empty() { url } else { format!("{url}?{payload}") };
        let message = format!("{}{}{payload}", key.api_key, stamp.now_ms);
        Ok(Draft::new(request, key, stamp, message, Encoding::Hex, url)
            .header("ApiKey", key.api_key.clone())
            .header("Request-Time", stamp.now_ms.to_string())
            .header("Content-Type", JSON)
            .header("Signature", Template::signature())
            .body(body))
    }

    /// A login for contracts. The signed text is also that of a read of contracts without
    /// parameters.
    fn session(
        &self,
        key: &Key,
        login: &SessionLogin,
        stamp: &Stamp,
    ) -> Result<SessionDraft, Refusal> {
        login.plain()?;
        let now = stamp.now_ms.to_string();
        let message = format!("{}{now}", key.api_key);
        let parameters = Value::object([
            ("apiKey", key.api_key.as_str().into()),
            ("signature", SIGNATURE_PLACEHOLDER.into()),
            ("reqTime", now.into()),
        ]);
        let frame = Value::object([("method", "login".into()), ("param", parameters)]);
        let url = "wss://contract.mexc.com/edge";
        Ok(SessionDraft::new(key, stamp, message, Encoding::Hex, url).frame(Template::json(&frame)))
    }

    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        if order.member("vol").is_some() {
            return Err("a contract's worth is not in its order");
        }
        ending_in(order.symbol.as_deref(), &["BTC", "ETH", "EUR", "USDC", "USDT"])
    }
}

const JSON: &str = "application/json";

/// The query of a spot request as it is signed and sent, up to its signature. A list of orders
/// stands there as JSON text.
fn spot(request: &Request, stamp: &Stamp) -> Result<String, Refusal> {
    let mut pairs = Pairs::empty();
    for (name, value) in named(request)? {
        match value {
            Value::Array(_) if name == "batchOrders" => pairs.push_percent(name, &value.to_json()),
            value => pairs.push_percent(name, scalar(name, value)?),
        }
    }
    if request.params.get("timestamp").is_none() {
        pairs.push("timestamp", stamp.now_ms);
    }
    if let Some(window) =
        stamp.receive_window_ms.filter(|_| request.params.get(WINDOW_PARAMETER).is_none())
    {
        pairs.push(WINDOW_PARAMETER, window);
    }
    Ok(pairs.into_text())
}
