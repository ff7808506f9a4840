//! The recipe for Crypto.com Exchange. It signs a method's name, an id and the parameters, without
//! separators.
//!
//! <https://exchange-docs.crypto.com/exchange/v1/rest-ws/index.html#digital-signature>

use std::sync::LazyLock;

use super::facts::{Facts, Hosts, Nonce};
use super::login::SessionLogin;
use super::order::Order;
use super::order_facts::{Flags, OrderFacts, Unit, Whole};
use super::parameters::{ParameterPlace, named, sorted};
use super::recipe::Exchange;
use super::table::Table;
use super::worth::quote_of;
use crate::draft::{Draft, Encoding, SIGNATURE_PLACEHOLDER, SessionDraft, Template};
use crate::json::Value;
use crate::key::{Environment, Key, NonceUnit};
use crate::refusal::Refusal;
use crate::request::{ParamsIn, Request};
use crate::scope::Scope;
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Cryptocom;

static FACTS: Facts = Facts {
    name: "cryptocom",
    documentation: "https://exchange-docs.crypto.com/exchange/v1/rest-ws/index.html\
                    #digital-signature",
    nonce: Nonce::Increasing(NonceUnit::Milliseconds),
    // The version before the method's name is not signed. A method does the same in every version,
    // as a test checks.
    hosts: &[
        Hosts {
            environment: Environment::Production,
            path_prefix: "/v1/",
            hosts: &["deriv-api.crypto.com"],
        },
        Hosts {
            environment: Environment::Production,
            path_prefix: "/",
            hosts: &["api.crypto.com"],
        },
        Hosts {
            environment: Environment::Testnet,
            path_prefix: "/exchange/v1/",
            hosts: &["uat-api.3ona.co"],
        },
        Hosts {
            environment: Environment::Testnet,
            path_prefix: "/v2/",
            hosts: &["uat-api.3ona.co"],
        },
    ],
    managed: &["api_key", "id", "sig"],
    // Any method of the API can be called over the socket.
    session_grants: &[Scope::Read, Scope::Trade, Scope::Account, Scope::Transfer, Scope::Withdraw],
    orders: OrderFacts {
        priced: &["LIMIT"],
        unpriced: &["MARKET", "STOP_LIMIT", "STOP_LOSS", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"],
        quoted: &["MARKET"],
        whole: Whole::No(
            "https://exchange-docs.crypto.com/exchange/v1/rest-ws/index.html#private-create-order: \
             private/close-position closes one",
        ),
        flags: &[Flags { name: "exec_inst", words: &["POST_ONLY"] }],
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(&FACTS, include_str!("cryptocom.scopes"), include_str!("cryptocom.params"))
});

impl Exchange for Cryptocom {
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
        ParameterPlace::Body(ParamsIn::Json).check(request)?;
        let (nonce, method) = (stamp.nonce.to_string(), method_of(request.path.as_str()));
        let params = unambiguous(named(request)?, &known_names(request))?;
        let message = format!("{method}{nonce}{}{params}{nonce}", key.api_key);
        let body = Value::object([
            ("id", nonce.as_str().into()),
            ("method", method.into()),
            ("params", request.params.value().clone()),
            ("api_key", key.api_key.as_str().into()),
            ("sig", SIGNATURE_PLACEHOLDER.into()),
            ("nonce", nonce.as_str().into()),
        ]);
        let url = format!("https://{host}{}", request.path);
        let mut draft = Draft::new(request, key, stamp, message, Encoding::Hex, url)
            .header("Content-Type", "application/json");
        draft.body = Some(Template::json(&body));
        Ok(draft)
    }

    fn session(
        &self,
        key: &Key,
        login: &SessionLogin,
        stamp: &Stamp,
    ) -> Result<SessionDraft, Refusal> {
        login.plain()?;
        let nonce = stamp.nonce.to_string();
        let frame = Value::object([
            ("id", nonce.as_str().into()),
            ("nonce", nonce.as_str().into()),
            ("method", "public/auth".into()),
            ("api_key", key.api_key.as_str().into()),
            ("sig", SIGNATURE_PLACEHOLDER.into()),
        ]);
        let url = match key.environment {
            Environment::Production => "wss://stream.crypto.com/exchange/v1/user",
            Environment::Testnet => "wss://uat-stream.3ona.co/exchange/v1/user",
        };
        let message = format!("public/auth{nonce}{}{nonce}", key.api_key);
        Ok(SessionDraft::new(key, stamp, message, Encoding::Hex, url).frame(Template::json(&frame)))
    }

    fn unit(&self, order: &Order<'_>) -> Unit {
        // A sale is sized in the base asset only.
        if order.quote.is_some() && order.side.as_deref() != Some("BUY") {
            return Unit::Unknown("only an order that buys has a notional");
        }
        Unit::Base
    }

    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        quote_of(order.symbol.as_deref(), '_')
    }
}

/// `private/create-order` of `/exchange/v1/private/create-order`.
fn method_of(path: &str) -> &str {
    path.find("private/").map_or(path, |start| &path[start..])
}

/// The names that the method of a request may take. If its row lists none, all names.
fn known_names(request: &Request) -> Vec<&'static str> {
    let row = TABLE.find(request.method, request.path.as_str());
    let listed: Vec<_> = row
        .into_iter()
        .flat_map(|(index, _)| TABLE.openings_of(index))
        .flat_map(|opening| opening.names())
        .collect();
    if listed.is_empty() { METHOD_PARAMETERS.to_vec() } else { listed }
}

/// The text of the parameters, if it can be read only as these parameters.
///
/// The exchange overlooks names that it does not know. So the sender of a request may cut the text
/// anywhere. Wherever the letters of a known name stand, the sender can give that name the value
/// that follows. So these letters may stand only inside a known name.
fn unambiguous(params: &[(String, Value)], known: &[&str]) -> Result<String, Refusal> {
    let mut signed = SignedText { text: String::new(), names: Vec::new() };
    signed.push_all(params)?;
    let in_a_name = |place: usize, name: &str| {
        signed.names.iter().any(|(start, end)| {
            *start <= place
                && place + name.len() <= *end
                && known.contains(&&signed.text[*start..*end])
        })
    };
    for name in known {
        if let Some((place, _)) =
            signed.text.match_indices(name).find(|(place, _)| !in_a_name(*place, name))
        {
            let near: String = signed.text[place..].chars().take(name.len() + 8).collect();
            return Err(Refusal::malformed(format!(
                "signed without separators, {near:?} could be read as the parameter {name:?}: no \
                 other name and no value may \
                 hold that name, also not together"
            )));
        }
    }
    Ok(signed.text)
}

/// The signed text of the parameters, and the positions of the names in it.
struct SignedText {
    text: String,
    names: Vec<(usize, usize)>,
}

impl SignedText {
    /// Names sorted, each followed by its value, with nothing between them.
    fn push_all(&mut self, params: &[(String, Value)]) -> Result<(), Refusal> {
        for (name, value) in sorted(params) {
            let start = self.text.len();
            self.text.push_str(&name);
            self.names.push((start, self.text.len()));
            self.push_value(&name, &value)?;
        }
        Ok(())
    }

    fn push_value(&mut self, name: &str, value: &Value) -> Result<(), Refusal> {
        match value {
            Value::Array(items) => {
                for item in items {
                    match item {
                        Value::Object(members) => self.push_all(members)?,
                        Value::String(item) => self.text.push_str(item),
                        _ => {
                            return Err(Refusal::malformed(format!(
                                "{name:?} holds neither texts nor objects"
                            )));
                        }
                    }
                }
            }
            // The clients in Python use this spelling, as the page does.
            Value::Bool(true) => self.text.push_str("True"),
            Value::Bool(false) => self.text.push_str("False"),
            Value::Number(value) | Value::String(value) => self.text.push_str(value),
            Value::Null | Value::Object(_) => {
                return Err(Refusal::malformed(format!(
                    "the parameter {name:?} is null or an object"
                )));
            }
        }
        Ok(())
    }
}

/// The parameters of all methods that do more than read.
const METHOD_PARAMETERS: &[&str] = &[
    "account_id",
    "address",
    "address_tag",
    "amount",
    "base_currency",
    "broker_id",
    "client_oid",
    "client_wid",
    "contingency_type",
    "currency",
    "direction",
    "exec_inst",
    "from",
    "instrument_name",
    "isolated_margin_amount",
    "isolation_id",
    "isolation_type",
    "leverage",
    "network_id",
    "new_price",
    "new_quantity",
    "notional",
    "order_id",
    "order_list",
    "payment_networks",
    "price",
    "quantity",
    "quote_id",
    "ref_price",
    "ref_price_type",
    "scope",
    "side",
    "spot_margin",
    "stp_id",
    "stp_inst",
    "stp_scope",
    "time_in_force",
    "to",
    "trigger_price",
    "trigger_price_type",
    "type",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn text(params: &str) -> Result<String, Refusal> {
        unambiguous(
            Value::parse(params).expect("JSON").members().expect("an object"),
            METHOD_PARAMETERS,
        )
    }

    #[test]
    fn parameters_stand_without_separators() {
        for (params, expected) in [
            ("{}", Some("")),
            (r#"{"b":"2","a":1.50}"#, Some("a1.50b2")),
            (r#"{"l":[{"b":"x","a":"y"},{"c":["d","e"]}],"on":true}"#, Some("laybxcdeonTrue")),
            (r#"{"a":null}"#, None),
            (r#"{"a":{"b":1}}"#, None),
            (r#"{"a":[1]}"#, None),
            (r#"{"client_oid":"a b+c/d&e=f"}"#, Some("client_oida b+c/d&e=f")),
            (r#"{"address":"Xamount9","currency":"BTC"}"#, None),
            (r#"{"order_list":[{"client_oid":"1quantity9"}]}"#, None),
            (r#"{"to":"from"}"#, None),
            (r#"{"addre":"ssEVIL","address":"GOOD","amount":"1"}"#, None),
            (r#"{"address":"GOOD","amou":"nt1000","amount":"1"}"#, None),
            (r#"{"address":"GOOD","amount":"1","client_wid":"addressEVILamount1000"}"#, None),
            (r#"{"client_wid":"addre","ssEVIL":"x"}"#, None),
            (r#"{"address":"_tag7"}"#, None),
            (r#"{"fee_instrument_name":"ETH_USDT","instrument_name":"BTC_USDT"}"#, None),
            (r#"{"address":"GOOD","address_tag":"7"}"#, Some("addressGOODaddress_tag7")),
            (
                r#"{"price":"1","trigger_price":"2","unknown":"3"}"#,
                Some("price1trigger_price2unknown3"),
            ),
        ] {
            assert_eq!(text(params).ok().as_deref(), expected, "{params}");
        }
    }

    #[test]
    fn a_method_does_the_same_in_every_version() {
        for one in TABLE.endpoints() {
            let same = |other: &&super::super::table::Endpoint| {
                method_of(one.path) == method_of(other.path)
            };
            assert!(
                TABLE.endpoints().iter().filter(same).all(|other| other.scope == one.scope),
                "{}",
                one.path
            );
        }
    }

    #[test]
    fn every_name_that_could_hide_in_a_value_is_known() {
        for opening in TABLE.openings() {
            let roles = opening.roles.iter().filter_map(|(_, source)| source.parameter());
            for name in opening.required.iter().copied().chain(roles) {
                assert!(METHOD_PARAMETERS.contains(&name), "{name}");
            }
        }
        assert!(METHOD_PARAMETERS.is_sorted());
    }
}
