//! The recipe for Bitget v1, v2 and v3.
//!
//! <https://www.bitget.com/api-doc/common/signature>

use std::sync::LazyLock;

use percent_encoding::AsciiSet;

use super::facts::{Facts, Hosts, PassphraseKind};
use super::login::SessionLogin;
use super::order::Order;
use super::order_facts::{Mark, OrderFacts, Unit, Whole};
use super::parameters::{Pairs, ParameterPlace, named, raw_in, scalar, sorted};
use super::recipe::Exchange;
use super::table::Table;
use super::worth::ending_in;
use crate::draft::{
    Draft, Encoding, PASSPHRASE_PLACEHOLDER, SIGNATURE_PLACEHOLDER, SessionDraft, Template,
    UNRESERVED,
};
use crate::json::Value;
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::{ParamsIn, Request};
use crate::scope::Scope;
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Bitget;

static FACTS: Facts = Facts {
    name: "bitget",
    documentation: "https://www.bitget.com/api-doc/common/signature",
    passphrase: PassphraseKind::Plain,
    hosts: &[
        Hosts {
            environment: Environment::Production,
            path_prefix: "/",
            hosts: &["api.bitget.com"],
        },
        Hosts { environment: Environment::Testnet, path_prefix: "/", hosts: &["api.bitget.com"] },
    ],
    // The private socket of v3 places orders.
    session_grants: &[Scope::Read, Scope::Trade],
    orders: OrderFacts {
        priced: &["limit"],
        // The type of a strategy order is its `tpslMode`.
        unpriced: &["market", "partial"],
        quoted: &["market"],
        whole: Whole::By(
            &[
                Mark::of("planType").unless(&[
                    "amount",
                    "loss_plan",
                    "moving_plan",
                    "normal_plan",
                    "profit_plan",
                    "total",
                    "track_plan",
                ]),
                Mark::of("reverse").unless(&["false"]),
                Mark::of("tpslMode").unless(&["partial"]),
            ],
            "https://www.bitget.com/api-doc/contract/plan/Place-Tpsl-Order",
        ),
        // A trailing order takes no price:
        // https://www.bitget.com/api-doc/contract/plan/Place-Plan-Order
        repricing: &[
            Mark::of("callbackRatio").unless(&[""]),
            Mark::of("planType").unless(&["amount", "normal_plan", "total"]),
        ],
        legs: &[
            "executeStopLossPrice",
            "executeTakeProfitPrice",
            "presetStopLossExecutePrice",
            "presetStopLossPrice",
            "presetStopSurplusExecutePrice",
            "presetStopSurplusPrice",
            "presetTakeProfitPrice",
            "slLimitPrice",
            "stopLoss",
            "stopLossExecutePrice",
            "stopLossTriggerPrice",
            "stopSurplusExecutePrice",
            "stopSurplusTriggerPrice",
            "takeProfit",
            "tpLimitPrice",
        ],
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(&FACTS, include_str!("bitget.scopes"), include_str!("bitget.params"))
});

impl Exchange for Bitget {
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
        let place = ParameterPlace::of(request.method, ParamsIn::Json);
        place.check(request)?;
        let (mut signed, mut sent, mut body) = (String::new(), String::new(), None);
        match place {
            ParameterPlace::Body(_) => body = Some(request.params.value().to_json()),
            ParameterPlace::Query if request.params.is_empty() => {}
            ParameterPlace::Query => (signed, sent) = queries(request)?,
        }
        let (now, path) = (stamp.now_ms.to_string(), &request.path);
        let message =
            format!("{now}{}{path}{signed}{}", request.method, body.as_deref().unwrap_or_default());
        let mut draft = Draft::new(
            request,
            key,
            stamp,
            message,
            Encoding::Base64,
            format!("https://{host}{path}{sent}"),
        )
        .header("ACCESS-KEY", key.api_key.clone())
        .header("ACCESS-SIGN", Template::signature())
        .header("ACCESS-TIMESTAMP", now)
        .header("ACCESS-PASSPHRASE", Template::passphrase());
        if body.is_some() {
            draft = draft.header("Content-Type", "application/json");
        }
        if key.environment == Environment::Testnet && !is_simulated(request) {
            draft = draft.header("PAPTRADING", "1");
        }
        Ok(draft.body(body))
    }

    fn session(
        &self,
        key: &Key,
        login: &SessionLogin,
        stamp: &Stamp,
    ) -> Result<SessionDraft, Refusal> {
        login.plain()?;
        let seconds = stamp.seconds();
        let url = match key.environment {
            Environment::Production => "wss://ws.bitget.com/v2/ws/private",
            Environment::Testnet => "wss://wspap.bitget.com/v2/ws/private",
        };
        let arguments = Value::object([
            ("apiKey", key.api_key.as_str().into()),
            ("passphrase", PASSPHRASE_PLACEHOLDER.into()),
            ("timestamp", seconds.to_string().into()),
            ("sign", SIGNATURE_PLACEHOLDER.into()),
        ]);
        let frame =
            Value::object([("op", "login".into()), ("args", Value::Array(vec![arguments]))]);
        let message = format!("{seconds}GET/user/verify");
        Ok(SessionDraft::new(key, stamp, message, Encoding::Base64, url)
            .frame(Template::json(&frame)))
    }

    fn unit(&self, order: &Order<'_>) -> Unit {
        const EITHER: Unit = Unit::Unknown("its size may be in either asset");
        let (kind, side) = (order.kind.as_deref(), order.side.as_deref());
        match order.market.as_deref() {
            // A market buy is sized in the quote asset.
            Some("MARGIN" | "SPOT") => match (kind, side) {
                (Some("limit"), _) | (_, Some("sell")) => Unit::Base,
                (Some("market"), Some("buy")) => Unit::Quote,
                _ => EITHER,
            },
            // A plan order names its unit itself:
            // https://www.bitget.com/api-doc/spot/plan/Place-Plan-Order
            Some("plan-order") => match (order.extra("planType"), kind) {
                (None | Some("amount"), _) => Unit::Base,
                (Some("total"), Some("market")) => Unit::Quote,
                _ => EITHER,
            },
            Some("margin-order" | "v1-order") => Unit::Base,
            Some(market)
                if CONTRACT_MARKETS
                    .iter()
                    .any(|known| market == *known || market == known.to_ascii_lowercase()) =>
            {
                Unit::Base
            }
            // An amendment may leave out its market.
            None if !order.typed => Unit::Base,
            _ => Unit::Unknown("its market is not one that is known"),
        }
    }

    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        if let (Some(price), Some(other)) = (order.extra("price"), order.extra("executePrice"))
            && price != other
        {
            return Err("it has two prices");
        }
        match order.market.as_deref() {
            Some("USDT-FUTURES" | "usdt-futures") => Ok("USDT"),
            Some("USDC-FUTURES" | "usdc-futures") => Ok("USDC"),
            Some("MARGIN" | "SPOT" | "margin-order" | "plan-order") => {
                ending_in(order.symbol.as_deref(), QUOTES)
            }
            _ => Err("a contract's worth is not in its order"),
        }
    }
}

/// The markets of contracts, which also stand in lower case. Those that begin with `S` are for
/// practice.
const CONTRACT_MARKETS: &[&str] = &[
    "COIN-FUTURES",
    "SCOIN-FUTURES",
    "SUSDC-FUTURES",
    "SUSDT-FUTURES",
    "USDC-FUTURES",
    "USDT-FUTURES",
];

/// The assets that spot symbols end in.
const QUOTES: &[&str] = &["BTC", "ETH", "EUR", "USDC", "USDT"];

/// The query as it is signed, which is unescaped, and as it is sent, which is escaped.
fn queries(request: &Request) -> Result<(String, String), Refusal> {
    const SENT: &AsciiSet = &UNRESERVED.remove(b'$');
    let (mut signed, mut sent) = (Pairs::empty(), Pairs::empty());
    for (name, value) in sorted(named(request)?) {
        let text = raw_in(request, &TABLE, &name, scalar(&name, &value)?)?;
        signed.push(&name, text);
        sent.push_encoded(&name, text, SENT);
    }
    Ok((format!("?{}", signed.into_text()), format!("?{}", sent.into_text())))
}

/// True for the instruments that exist for practice only. They are traded without the header of
/// demo trading.
fn is_simulated(request: &Request) -> bool {
    matches!(
        request.scalar("productType"),
        Some("SCOIN-FUTURES" | "SUSDC-FUTURES" | "SUSDT-FUTURES")
    )
}
