//! Builds frames for Binance's WebSocket API, from the spot requests that have a method there.
//!
//! <https://developers.binance.com/docs/binance-spot-api-docs/web-socket-api/request-security>

use super::{TABLE, WINDOW_PARAMETER};
use crate::draft::{Draft, Encoding, SIGNATURE_PLACEHOLDER, Template};
use crate::exchange::parameters::{Pairs, named, raw_in, scalar, sorted};
use crate::exchange::text::hex;
use crate::json::Value;
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::{Method, Request};
use crate::stamp::Stamp;

/// The address of the socket. No other host takes its requests.
pub(super) fn socket(environment: Environment) -> &'static str {
    match environment {
        Environment::Production => "wss://ws-api.binance.com:443/ws-api/v3",
        Environment::Testnet => "wss://ws-api.testnet.binance.vision/ws-api/v3",
    }
}

/// Drafts a frame with the same parameters as over REST. The signed text is a query too, so the
/// request is judged alike. Its parameters are sorted by name and not escaped, and the id of the
/// key is among them.
pub(super) fn draft(request: &Request, key: &Key, stamp: &Stamp) -> Result<Draft, Refusal> {
    let row = (request.method, request.path.as_str());
    let known = METHODS.iter().find(|(method, path, _)| (*method, *path) == row);
    let (_, _, method) = known
        .ok_or_else(|| Refusal::malformed("the WebSocket API has no method for this endpoint"))?;
    if request.host.is_some() {
        return Err(Refusal::malformed("the WebSocket API has one host, which no request names"));
    }
    let mut params = named(request)?.to_vec();
    let own = [
        ("apiKey", Some(key.api_key.as_str().into())),
        ("timestamp", Some(stamp.now_ms.into())),
        (WINDOW_PARAMETER, stamp.receive_window_ms.map(Value::from)),
    ];
    // Of these, a client may name only the window. A vector may bring them all.
    let missing = own.into_iter().filter(|(name, _)| request.params.get(name).is_none());
    params.extend(missing.filter_map(|(name, value)| Some((name.to_owned(), value?))));
    let mut signed = Pairs::empty();
    for (name, value) in sorted(&params) {
        signed.push(&name, raw_in(request, &TABLE, &name, scalar(&name, &value)?)?);
    }
    params.push(("signature".to_owned(), SIGNATURE_PLACEHOLDER.into()));
    let frame = Value::object([
        ("id", hex(stamp.random).as_str().into()),
        ("method", (*method).into()),
        ("params", Value::Object(params)),
    ]);
    let encoding = if key.algorithm.is_hmac() { Encoding::Hex } else { Encoding::Base64 };
    let mut draft =
        Draft::new(request, key, stamp, signed.into_text(), encoding, socket(key.environment));
    draft.body = Some(Template::json(&frame));
    Ok(draft)
}

const METHODS: &[(Method, &str, &str)] = &[
    (Method::Get, "/api/v3/account", "account.status"),
    (Method::Get, "/api/v3/account/commission", "account.commission"),
    (Method::Get, "/api/v3/allOrderList", "allOrderLists"),
    (Method::Get, "/api/v3/allOrders", "allOrders"),
    (Method::Get, "/api/v3/myAllocations", "myAllocations"),
    (Method::Get, "/api/v3/myPreventedMatches", "myPreventedMatches"),
    (Method::Get, "/api/v3/myTrades", "myTrades"),
    (Method::Get, "/api/v3/openOrderList", "openOrderLists.status"),
    (Method::Delete, "/api/v3/openOrders", "openOrders.cancelAll"),
    (Method::Get, "/api/v3/openOrders", "openOrders.status"),
    (Method::Delete, "/api/v3/order", "order.cancel"),
    (Method::Get, "/api/v3/order", "order.status"),
    (Method::Post, "/api/v3/order", "order.place"),
    (Method::Put, "/api/v3/order/amend/keepPriority", "order.amend.keepPriority"),
    (Method::Get, "/api/v3/order/amendments", "order.amendments"),
    (Method::Post, "/api/v3/order/cancelReplace", "order.cancelReplace"),
    (Method::Post, "/api/v3/order/test", "order.test"),
    (Method::Delete, "/api/v3/orderList", "orderList.cancel"),
    (Method::Get, "/api/v3/orderList", "orderList.status"),
    (Method::Post, "/api/v3/orderList/oco", "orderList.place.oco"),
    (Method::Post, "/api/v3/orderList/oto", "orderList.place.oto"),
    (Method::Post, "/api/v3/orderList/otoco", "orderList.place.otoco"),
    (Method::Get, "/api/v3/rateLimit/order", "account.rateLimits.orders"),
    (Method::Post, "/api/v3/sor/order", "sor.order.place"),
    (Method::Post, "/api/v3/sor/order/test", "sor.order.test"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::binance::Binance;
    use crate::exchange::recipe::Exchange;

    #[test]
    fn every_method_is_a_row_of_the_table() {
        for (method, path, name) in METHODS {
            assert!(Binance.table().find(*method, path).is_some(), "{name}");
        }
    }
}
