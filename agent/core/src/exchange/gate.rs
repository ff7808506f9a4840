//! The recipe for Gate v4.
//!
//! <https://www.gate.com/docs/developers/apiv4/en/#apiv4-signed-request-requirements>

use std::sync::LazyLock;

use percent_encoding::AsciiSet;
use sha2::{Digest, Sha512};

use super::facts::{Facts, Hosts};
use super::login::{SessionLogin, WS};
use super::order::Order;
use super::order_facts::{Mark, OrderFacts, Unit, Whole};
use super::parameters::{Pairs, ParameterPlace, named, raw_in, scalar};
use super::recipe::Exchange;
use super::table::Table;
use super::text::hex;
use super::worth::quote_of;
use crate::algorithm::Algorithm;
use crate::draft::{Draft, Encoding, SIGNATURE_PLACEHOLDER, SessionDraft, Template, UNRESERVED};
use crate::json::Value;
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::{Method, ParamsIn, Request};
use crate::scope::Scope;
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Gate;

static FACTS: Facts = Facts {
    name: "gate",
    documentation: "https://www.gate.com/docs/developers/apiv4/en/\
                    #apiv4-signed-request-requirements",
    algorithms: &[Algorithm::HmacSha512],
    hosts: &[
        production("/api/v4/futures/", &["api.gateio.ws", "fx-api.gateio.ws"]),
        production("/", &["api.gateio.ws", "api.gateeu.com"]),
        testnet("/api/v4/account/"),
        testnet("/api/v4/delivery/"),
        testnet("/api/v4/futures/"),
        testnet("/api/v4/margin/"),
        testnet("/api/v4/options/"),
        testnet("/api/v4/spot/"),
        testnet("/api/v4/wallet/"),
    ],
    orders: OrderFacts {
        priced: &["", "limit"],
        unpriced: &["market"],
        quoted: &["market"],
        whole: Whole::By(
            &[
                Mark::of("auto_size"),
                Mark::of("close").unless(&["false"]),
                Mark::of("is_close").unless(&["false"]),
            ],
            "https://www.gate.com/docs/developers/apiv4/en/#create-a-futures-order",
        ),
        repricing: &[Mark::of("trade_quote")],
        signed_sizes: true,
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(&FACTS, include_str!("gate.scopes"), include_str!("gate.params"))
});

impl Exchange for Gate {
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
        let place = place(request);
        place.check(request)?;
        let queried = place != ParameterPlace::Body(ParamsIn::Json) && !request.params.is_empty();
        let (signed, sent) = if queried { queries(request)? } else { Default::default() };
        let body = (place != ParameterPlace::Query).then(|| json(request)).transpose()?;
        let hash = hex(Sha512::digest(body.as_deref().unwrap_or_default()));
        let (seconds, path) = (stamp.seconds().to_string(), &request.path);
        let message = format!("{}\n{path}\n{signed}\n{hash}\n{seconds}", request.method);
        let mark = if queried { "?" } else { "" };
        let mut draft = Draft::new(
            request,
            key,
            stamp,
            message,
            Encoding::Hex,
            format!("https://{host}{path}{mark}{sent}"),
        )
        .header("KEY", key.api_key.clone())
        .header("Timestamp", seconds)
        .header("SIGN", Template::signature())
        .header("Content-Type", "application/json");
        if path.as_str().starts_with("/api/v4/futures/") {
            // Sizes may have decimals.
            draft = draft.header("X-Gate-Size-Decimal", "1");
        }
        Ok(draft.body(body))
    }

    /// After a login to the API of the socket, the client can place orders there.
    fn session_grants(&self, _algorithm: Algorithm, login: &SessionLogin) -> &'static [Scope] {
        let trades = LOGINS.iter().any(|channel| login.is_for(channel));
        if trades { &[Scope::Read, Scope::Trade] } else { FACTS.session_grants }
    }

    /// Each private channel needs its own signature. A channel that is not listed is refused: its
    /// name could turn the text into that of something else.
    fn session(
        &self,
        key: &Key,
        login: &SessionLogin,
        stamp: &Stamp,
    ) -> Result<SessionDraft, Refusal> {
        login.one_of(&[WS])?;
        login.only(true, false, false)?;
        let seconds = stamp.seconds().to_string();
        let known = [CHANNELS, LOGINS].concat();
        let channel = login.channel(&known)?;
        let (message, frame) = if LOGINS.contains(&channel) {
            let payload = Value::object([
                ("api_key", key.api_key.as_str().into()),
                ("signature", SIGNATURE_PLACEHOLDER.into()),
                ("timestamp", seconds.as_str().into()),
                ("req_param", Value::object([])),
            ]);
            let time = Value::Number(seconds.clone());
            let frame = [
                ("event", "api".into()),
                ("channel", channel.into()),
                ("time", time),
                ("payload", payload),
            ];
            (format!("api\n{channel}\n{{}}\n{seconds}"), Value::object(frame))
        } else {
            let auth = Value::object([
                ("method", "api_key".into()),
                ("KEY", key.api_key.as_str().into()),
                ("SIGN", SIGNATURE_PLACEHOLDER.into()),
            ]);
            let time = Value::Number(seconds.clone());
            let frame = [
                ("channel", channel.into()),
                ("event", "subscribe".into()),
                ("time", time),
                ("auth", auth),
            ];
            (format!("channel={channel}&event=subscribe&time={seconds}"), Value::object(frame))
        };
        let draft =
            SessionDraft::new(key, stamp, message, Encoding::Hex, socket(channel, key.environment));
        Ok(draft.frame(Template::json(&frame)))
    }

    fn unit(&self, order: &Order<'_>) -> Unit {
        // A market buy on spot is sized in the quote asset.
        match (order.market.as_deref(), order.kind.as_deref(), order.side.as_deref()) {
            (Some("spot"), Some("market"), Some("buy")) => Unit::Quote,
            (Some("spot"), Some("market"), Some("sell")) => Unit::Base,
            (Some("spot"), Some("market"), _) => Unit::Unknown("its side is neither buy nor sell"),
            _ => Unit::Base,
        }
    }

    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        match order.market.as_deref() {
            Some("spot") => quote_of(order.symbol.as_deref(), '_'),
            _ => Err("a contract's worth is not in its order"),
        }
    }
}

const fn production(path_prefix: &'static str, hosts: &'static [&'static str]) -> Hosts {
    Hosts { environment: Environment::Production, path_prefix, hosts }
}

const fn testnet(path_prefix: &'static str) -> Hosts {
    Hosts { environment: Environment::Testnet, path_prefix, hosts: &["api-testnet.gateapi.io"] }
}

/// Private channels. The first is used if the client asks for none.
const CHANNELS: &[&str] = &[
    "spot.orders",
    "futures.auto_deleverages",
    "futures.autoorders",
    "futures.balances",
    "futures.liquidates",
    "futures.orders",
    "futures.position_closes",
    "futures.positions",
    "futures.reduce_risk_limits",
    "futures.usertrades",
    "options.balances",
    "options.liquidates",
    "options.orders",
    "options.position_closes",
    "options.positions",
    "options.settlements",
    "options.usertrades",
    "spot.balances",
    "spot.cross_balances",
    "spot.funding_balances",
    "spot.margin_balances",
    "spot.orders_v2",
    "spot.priceorders",
    "spot.usertrades",
    "spot.usertrades_v2",
];

/// Logins after which orders are placed on the socket.
const LOGINS: &[&str] = &["futures.login", "spot.login"];

fn socket(channel: &str, environment: Environment) -> &'static str {
    match (channel.split('.').next(), environment) {
        (Some("futures"), Environment::Production) => "wss://fx-ws.gateio.ws/v4/ws/usdt",
        (Some("futures"), Environment::Testnet) => "wss://fx-ws-testnet.gateio.ws/v4/ws/usdt",
        (Some("options"), Environment::Production) => "wss://op-ws.gateio.live/v4/ws",
        (Some("options"), Environment::Testnet) => "wss://op-ws-testnet.gateio.live/v4/ws",
        (_, Environment::Production) => "wss://api.gateio.ws/ws/v4/",
        (_, Environment::Testnet) => "wss://ws-testnet.gate.com/v4/ws/spot",
    }
}

/// GET and DELETE carry a query. PATCH carries the same in query and body. Some settings of
/// positions carry a query on a POST.
fn place(request: &Request) -> ParameterPlace {
    let mut parts = request.path.as_str().split('/').skip(3);
    let contracts = matches!(parts.next(), Some("delivery" | "futures"));
    let positions =
        parts.nth(1).is_some_and(|part| part.contains("dual") || part.contains("positions"));
    match request.method {
        Method::Patch => ParameterPlace::Body(ParamsIn::QueryAndJson),
        Method::Post if contracts && positions => ParameterPlace::Query,
        method => ParameterPlace::of(method, ParamsIn::Json),
    }
}

fn json(request: &Request) -> Result<String, Refusal> {
    // Some client libraries take a parameter of this name for the query, which is then not signed.
    if request.params.get("query").is_some() {
        return Err(Refusal::forbidden_parameter(
            "a body of this exchange has no parameter named \"query\"",
        ));
    }
    Ok(request.params.value().to_json())
}

/// The query as it is signed, which is unescaped, and as it is sent, which is escaped.
fn queries(request: &Request) -> Result<(String, String), Refusal> {
    const LIST: &AsciiSet = &UNRESERVED.remove(b',');
    let listed = request.params.members().iter().any(|(name, _)| name.ends_with("currencies"));
    let (mut signed, mut sent) = (Pairs::empty(), Pairs::empty());
    for (name, value) in named(request)? {
        let text = raw_in(request, &TABLE, name, scalar(name, value)?)?;
        signed.push(name, text);
        sent.push_encoded(name, text, if listed { LIST } else { UNRESERVED });
    }
    Ok((signed.into_text(), sent.into_text()))
}
