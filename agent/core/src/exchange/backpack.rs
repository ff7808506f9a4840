//! The recipe for Backpack. The signed text names an instruction, which stands for method and path.
//!
//! <https://docs.backpack.exchange/#section/Authentication/Signing-requests>

use std::sync::LazyLock;

use super::facts::{Facts, Hosts, SecretFormat};
use super::login::SessionLogin;
use super::order::Order;
use super::order_facts::{Mark, OrderFacts, Whole};
use super::parameters::{ParameterPlace, named, query, sorted};
use super::recipe::Exchange;
use super::table::Table;
use super::worth::quote_of;
use crate::algorithm::Algorithm;
use crate::draft::{Draft, Encoding, SIGNATURE_PLACEHOLDER, SessionDraft, Template};
use crate::json::Value;
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::{Method, ParamsIn, Request};
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Backpack;

const WINDOW_MS: u64 = 5000;

static FACTS: Facts = Facts {
    name: "backpack",
    documentation: "https://docs.backpack.exchange/#section/Authentication/Signing-requests",
    algorithms: &[Algorithm::Ed25519],
    secret: SecretFormat::Base64,
    hosts: &[Hosts {
        environment: Environment::Production,
        path_prefix: "/",
        hosts: &["api.backpack.exchange"],
    }],
    managed: &["instruction", "window"],
    orders: OrderFacts {
        priced: &["Limit"],
        unpriced: &["Market"],
        quoted: &["Market"],
        whole: Whole::No("https://docs.backpack.exchange/: reduceOnly keeps to the size"),
        resizing: &[Mark::of("triggerQuantity")],
        legs: &[
            "stopLossLimitPrice",
            "stopLossTriggerPrice",
            "takeProfitLimitPrice",
            "takeProfitTriggerPrice",
        ],
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(&FACTS, include_str!("backpack.scopes"), include_str!("backpack.params"))
});

impl Exchange for Backpack {
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
        let place = if request.method == Method::Get {
            ParameterPlace::Query
        } else {
            ParameterPlace::Body(ParamsIn::Json)
        };
        place.check(request)?;
        let instruction = instruction(request.method, request.path.as_str())?;
        let (params, signed) = match request.params.value() {
            Value::Array(orders) if instruction == "orderExecute" => batch(orders)?,
            // For this path the exchange takes a list.
            Value::Object(members)
                if !members.is_empty()
                    && request.method == Method::Post
                    && request.path.as_str() == BATCH =>
            {
                return Err(Refusal::malformed("this path takes a list of orders"));
            }
            _ => single(instruction, named(request)?)?,
        };
        let window = stamp.receive_window_ms.unwrap_or(WINDOW_MS);
        let body = params.to_json();
        let message = format!("{signed}timestamp={}&window={window}", stamp.now_ms);
        let (url, body) = match place {
            ParameterPlace::Query if request.params.is_empty() => {
                (format!("https://{host}{}", request.path), None)
            }
            ParameterPlace::Query => {
                let query = query(params.members().unwrap_or_default())?;
                (format!("https://{host}{}?{query}", request.path), None)
            }
            ParameterPlace::Body(_) => (format!("https://{host}{}", request.path), Some(body)),
        };
        let mut draft = Draft::new(request, key, stamp, message, Encoding::Base64, url)
            .header("X-Timestamp", stamp.now_ms.to_string())
            .header("X-Window", window.to_string())
            .header("X-API-Key", key.api_key.clone())
            .header("X-Signature", Template::signature());
        if body.is_some() {
            draft = draft.header("Content-Type", "application/json");
        }
        Ok(draft.body(body))
    }

    /// Private streams have no login of their own: each subscription carries this signature.
    fn session(
        &self,
        key: &Key,
        login: &SessionLogin,
        stamp: &Stamp,
    ) -> Result<SessionDraft, Refusal> {
        login.plain()?;
        let now = stamp.now_ms.to_string();
        let message = format!("instruction=subscribe&timestamp={now}&window={WINDOW_MS}");
        let shown = vec![
            key.api_key.as_str().into(),
            SIGNATURE_PLACEHOLDER.into(),
            now.into(),
            WINDOW_MS.to_string().as_str().into(),
        ];
        let frame = Value::object([
            ("method", "SUBSCRIBE".into()),
            ("params", Value::Array(Vec::new())),
            ("signature", Value::Array(shown)),
        ]);
        let url = "wss://ws.backpack.exchange";
        Ok(SessionDraft::new(key, stamp, message, Encoding::Base64, url)
            .frame(Template::json(&frame)))
    }

    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        // `SOL_USDC`; a perpetual has a third part.
        quote_of(order.symbol.as_deref(), '_')
    }
}

/// The parameters as they are sent, and the text that is signed of them. The text is one block; a
/// batch has a block for each order.
fn single(instruction: &str, params: &[(String, Value)]) -> Result<(Value, String), Refusal> {
    let params = sorted(params);
    let mut signed = format!("instruction={instruction}&{}", query(&params)?);
    if !params.is_empty() {
        signed.push('&');
    }
    Ok((Value::Object(params), signed))
}

fn batch(orders: &[Value]) -> Result<(Value, String), Refusal> {
    let mut signed = String::new();
    for order in orders {
        let members =
            order.members().ok_or_else(|| Refusal::malformed("a batch holds orders only"))?;
        signed += &single("orderExecute", members)?.1;
    }
    Ok((Value::Array(orders.to_vec()), signed))
}

const BATCH: &str = "/api/v1/orders";

fn instruction(method: Method, path: &str) -> Result<&'static str, Refusal> {
    let row = (method, path);
    let known = INSTRUCTIONS.iter().find(|(method, path, _)| (*method, *path) == row);
    known
        .map(|(_, _, instruction)| *instruction)
        .ok_or_else(|| Refusal::malformed("no instruction is known for this path"))
}

const INSTRUCTIONS: &[(Method, &str, &str)] = &[
    (Method::Get, "/api/v1/account", "accountQuery"),
    (Method::Patch, "/api/v1/account", "accountUpdate"),
    (Method::Post, "/api/v1/account/convertDust", "convertDust"),
    (Method::Get, "/api/v1/account/limits/borrow", "maxBorrowQuantity"),
    (Method::Get, "/api/v1/account/limits/order", "maxOrderQuantity"),
    (Method::Get, "/api/v1/account/limits/withdrawal", "maxWithdrawalQuantity"),
    (Method::Post, "/api/v1/borrowLend", "borrowLendExecute"),
    (Method::Get, "/api/v1/borrowLend/positions", "borrowLendPositionQuery"),
    (Method::Get, "/api/v1/capital", "balanceQuery"),
    (Method::Get, "/api/v1/capital/collateral", "collateralQuery"),
    (Method::Delete, "/api/v1/order", "orderCancel"),
    (Method::Get, "/api/v1/order", "orderQuery"),
    (Method::Post, "/api/v1/order", "orderExecute"),
    (Method::Delete, "/api/v1/orders", "orderCancelAll"),
    (Method::Get, "/api/v1/orders", "orderQueryAll"),
    (Method::Post, "/api/v1/orders", "orderExecute"),
    (Method::Get, "/api/v1/position", "positionQuery"),
    (Method::Post, "/api/v1/rfq", "rfqSubmit"),
    (Method::Post, "/api/v1/rfq/accept", "quoteAccept"),
    (Method::Post, "/api/v1/rfq/cancel", "rfqCancel"),
    (Method::Post, "/api/v1/rfq/quote", "quoteSubmit"),
    (Method::Get, "/api/v1/rfqs", "rfqQuery"),
    (Method::Delete, "/api/v1/strategies", "strategyCancelAll"),
    (Method::Get, "/api/v1/strategies", "strategyQueryAll"),
    (Method::Delete, "/api/v1/strategy", "strategyCancel"),
    (Method::Get, "/api/v1/strategy", "strategyQuery"),
    (Method::Post, "/api/v1/strategy", "strategyCreate"),
    (Method::Get, "/wapi/v1/capital/deposit/address", "depositAddressQuery"),
    (Method::Get, "/wapi/v1/capital/deposits", "depositQueryAll"),
    (Method::Get, "/wapi/v1/capital/withdrawals", "withdrawalQueryAll"),
    (Method::Post, "/wapi/v1/capital/withdrawals", "withdraw"),
    (Method::Get, "/wapi/v1/history/borrowLend", "borrowHistoryQueryAll"),
    (Method::Get, "/wapi/v1/history/borrowLend/positions", "borrowPositionHistoryQueryAll"),
    (Method::Get, "/wapi/v1/history/dust", "dustHistoryQueryAll"),
    (Method::Get, "/wapi/v1/history/fills", "fillHistoryQueryAll"),
    (Method::Get, "/wapi/v1/history/funding", "fundingHistoryQueryAll"),
    (Method::Get, "/wapi/v1/history/interest", "interestHistoryQueryAll"),
    (Method::Get, "/wapi/v1/history/orders", "orderHistoryQueryAll"),
    (Method::Get, "/wapi/v1/history/position", "positionHistoryQueryAll"),
    (Method::Get, "/wapi/v1/history/quote", "quoteHistoryQueryAll"),
    (Method::Get, "/wapi/v1/history/quote/fill", "quoteFillHistoryQueryAll"),
    (Method::Get, "/wapi/v1/history/rfq", "rfqHistoryQueryAll"),
    (Method::Get, "/wapi/v1/history/rfq/fill", "rfqFillHistoryQueryAll"),
    (Method::Get, "/wapi/v1/history/settlement", "settlementHistoryQueryAll"),
    (Method::Get, "/wapi/v1/history/strategies", "strategyHistoryQueryAll"),
];
