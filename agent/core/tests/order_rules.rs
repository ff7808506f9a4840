//! Tests that limits count only the numbers of an order that the exchange uses. Each rule is tried
//! on every row that places orders.

mod asked;

use std::collections::BTreeMap;

use asked::{key, request};
use countersign_core::algorithm::Algorithm;
use countersign_core::decimal::Amount;
use countersign_core::exchange::classify::classify;
use countersign_core::exchange::table::{Endpoint, Opening, Role, ValueSource, WHOLE_BODY};
use countersign_core::exchange::{ALL, Exchange, Mark, Whole, named};
use countersign_core::json::Value;
use countersign_core::key::KeyName;
use countersign_core::policy::{Client, Decision, Policy, Release, SpendLimit};
use countersign_core::refusal::Code;
use countersign_core::request::{Method, Request};
use countersign_core::scope::Scope;

use Method::{Get, Post};

/// The kinds of limits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Limit {
    Quantity,
    Symbols,
    Worth,
}

const LIMITS: [Limit; 3] = [Limit::Quantity, Limit::Symbols, Limit::Worth];

fn client(limit: Limit, symbol: &str, asset: &str) -> Client {
    let amount = |text| Amount::parse(text).expect("a decimal");
    let spend = SpendLimit { per_request: Some(amount("1000")), per_day: Some(amount("2000")) };
    let of = |wanted| limit == wanted;
    Client {
        name: "bot".to_owned(),
        uid: 1,
        keys: [KeyName::parse("key").expect("a plain name")].into(),
        scopes: Scope::ALL.into_iter().collect(),
        symbols: (!of(Limit::Worth)).then(|| [symbol.to_owned()].into()),
        max_quantity: of(Limit::Quantity)
            .then(|| (symbol.to_owned(), amount("1")))
            .into_iter()
            .collect(),
        limits: of(Limit::Worth)
            .then(|| (asset.to_owned(), spend))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        rate: None,
        unbound: Release::Signature,
    }
}

/// `Err` says why the client's limit refuses it.
fn judged(exchange: &dyn Exchange, client: &Client, request: &Request) -> Result<(), String> {
    let algorithm = *exchange.facts().algorithms.last().expect("an algorithm");
    let algorithm = if exchange.facts().name == "coinbase" {
        algorithm
    } else {
        exchange.facts().algorithms[0]
    };
    let classified = classify(exchange, algorithm, request).map_err(|refusal| refusal.message)?;
    match Policy::default().decide(client, &key(exchange, algorithm), exchange, &classified) {
        Decision::Allow { .. } => Ok(()),
        Decision::Ask { .. } => Err("asks".to_owned()),
        Decision::Deny(denied) => {
            Err(format!("{}: {}", denied.refusal.code, denied.refusal.message))
        }
    }
}

/// For each exchange: an instrument, the asset in which its price is counted, and the kind of
/// market if a parameter names it. The test fails for a new exchange until it is listed here.
const INSTRUMENTS: &[(&str, &str, &str, &str)] = &[
    ("backpack", "BTC_USDC", "USDC", ""),
    ("binance", "BTCUSDT", "USDT", ""),
    ("bitfinex", "tBTCUSD", "USD", ""),
    ("bitflyer", "BTC_JPY", "JPY", ""),
    ("bitget", "BTCUSDT", "USDT", "USDT-FUTURES"),
    ("bitmex", "XBTUSD", "USD", ""),
    ("bitso", "btc_mxn", "mxn", ""),
    ("bitstamp", "btcusd", "usd", ""),
    ("bitvavo", "BTC-EUR", "EUR", ""),
    ("bybit", "BTCUSDT", "USDT", "linear"),
    ("coinbase", "BTC-USD", "USD", ""),
    ("coinbaseexchange", "BTC-USD", "USD", ""),
    ("coinex", "BTCUSDT", "USDT", "SPOT"),
    ("cryptocom", "BTC_USDT", "USDT", ""),
    ("deribit", "BTC_USDC", "USDC", ""),
    ("gate", "BTC_USDT", "USDT", ""),
    ("gemini", "btcusd", "usd", ""),
    ("htx", "btcusdt", "usdt", ""),
    ("kraken", "XBTUSD", "USD", ""),
    ("krakenfutures", "PF_XBTUSD", "USD", ""),
    ("kucoin", "BTC-USDT", "USDT", ""),
    ("mexc", "BTCUSDT", "USDT", ""),
    ("okx", "BTC-USDT", "USDT", ""),
    ("phemex", "BTCUSDT", "USDT", ""),
    ("upbit", "KRW-BTC", "KRW", ""),
    ("whitebit", "BTC_USDT", "USDT", ""),
    ("woo", "SPOT_BTC_USDT", "USDT", ""),
];

/// One row that places orders, and the parts of an order for it that is within all limits, if they
/// can be computed.
struct Row {
    exchange: &'static dyn Exchange,
    endpoint: &'static Endpoint,
    opening: &'static Opening,
    symbol: &'static str,
    asset: &'static str,
    market: &'static str,
}

impl Row {
    fn name(&self) -> String {
        format!("{} {} {}", self.exchange.facts().name, self.endpoint.method, self.endpoint.path)
    }

    fn value(&self, role: Role) -> &'static str {
        let facts = &self.exchange.facts().orders;
        let kinds = facts.priced.iter().chain(facts.unpriced).copied();
        match role {
            Role::Symbol | Role::Common => self.symbol,
            Role::Quantity => "0.5",
            Role::Side => "buy",
            Role::Type => kinds.into_iter().find(|kind| !kind.is_empty()).unwrap_or("limit"),
            Role::Price => "100",
            Role::Market => self.market,
            _ => "x",
        }
    }

    /// The order with `set` in it. It has a size in the quote asset only if the row requires one or
    /// `set` has one.
    fn order(&self, set: &[(&str, Value)]) -> Request {
        let list = self.opening.name_of(Role::List);
        let (mut item, mut beside) = (Vec::<(String, Value)>::new(), Vec::<(String, Value)>::new());
        let reads = |name: &str| {
            self.opening.roles.iter().any(|(_, source)| source.parameter() == Some(name))
        };
        for (role, source) in &self.opening.roles {
            let Some(name) = source.parameter() else { continue };
            match role {
                Role::List => {}
                Role::Quote if !self.opening.required.contains(&name) => {}
                Role::Common => beside.push((name.to_owned(), self.value(*role).into())),
                Role::Quote => item.push((name.to_owned(), "50".into())),
                _ => item.push((name.to_owned(), self.value(*role).into())),
            }
        }
        for name in self.opening.required.iter().filter(|name| !reads(name)) {
            let value = if *name == "category" { self.market } else { "x" };
            if list.is_some() { &mut beside } else { &mut item }
                .push(((*name).to_owned(), value.into()));
        }
        for (name, value) in set {
            item.retain(|(known, _)| known != name);
            item.push(((*name).to_owned(), value.clone()));
        }
        let params = match list {
            None => Value::Object(item),
            Some(WHOLE_BODY) => Value::Array(vec![Value::Object(item)]),
            Some(name) => {
                beside.retain(|(known, _)| known != name);
                beside.push((name.to_owned(), Value::Array(vec![Value::Object(item)])));
                Value::Object(beside)
            }
        };
        let filled = |(index, part): (usize, &str)| {
            let role = self
                .opening
                .roles
                .iter()
                .find(|(_, source)| *source == ValueSource::PathPart(index));
            role.map_or_else(
                || part.replace(['{', '}'], ""),
                |(role, _)| self.value(*role).to_owned(),
            )
        };
        let path: Vec<_> = self.endpoint.path.split('/').enumerate().map(filled).collect();
        request(self.endpoint.method, &path.join("/"), params).expect("a row's names are plain")
    }

    fn allows(&self, limit: Limit, set: &[(&str, Value)]) -> bool {
        judged(self.exchange, &client(limit, self.symbol, self.asset), &self.order(set)).is_ok()
    }

    /// Asserts that the order is refused, or cannot be asked for, if it repeats a name in another
    /// spelling.
    fn refuses_second(&self, spelling: &str) -> usize {
        let order = self.order(&[]).params.value().to_json();
        let more = order.replacen(
            '{',
            &format!(r#"{{{:?}:"90000000","#, spelling),
            order.matches('{').count(),
        );
        let path = self.order(&[]).path;
        let Some(asked) =
            request(self.endpoint.method, path.as_str(), Value::parse(&more).expect("JSON"))
        else {
            return 1;
        };
        for limit in LIMITS {
            let client = client(limit, self.symbol, self.asset);
            assert!(
                judged(self.exchange, &client, &asked).is_err(),
                "{}: {spelling} is within {limit:?}",
                self.name()
            );
        }
        1
    }

    fn refuses(&self, limits: &[Limit], set: &[(&str, Value)], rule: &str) -> usize {
        for limit in limits {
            assert!(
                !self.allows(*limit, set),
                "{}: {rule}: {set:?} is within {limit:?}",
                self.name()
            );
        }
        limits.iter().filter(|limit| self.allows(**limit, &[])).count()
    }
}

fn rows() -> impl Iterator<Item = Row> {
    ALL.iter().copied().flat_map(|exchange| {
        let name = exchange.facts().name;
        let (_, symbol, asset, market) = *INSTRUMENTS
            .iter()
            .find(|(known, ..)| *known == name)
            .unwrap_or_else(|| panic!("no instrument of {name}"));
        let table = exchange.table();
        let places = |opening: &&Opening| {
            table.endpoint(opening).scope == Scope::Trade
                && !opening.places_no_order
                && opening.says_orders()
        };
        table.openings().iter().filter(places).map(move |opening| {
            let endpoint = table.endpoint(opening);
            Row { exchange, endpoint, opening, symbol, asset, market }
        })
    })
}

/// Turns `name` into `Name`.
fn capital(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

fn values() -> [Value; 3] {
    ["1".into(), Value::Bool(true), Value::Number("2".to_owned())]
}

/// Runs a rule on every row. At least `least` rows must be within limits without the rule's
/// parameter, else the rule tests nothing.
fn tried(rule: &str, least: usize, one_row: impl Fn(&Row) -> usize) {
    let found: usize = rows().map(|row| one_row(&row)).sum();
    assert!(
        found >= least,
        "{rule}: only {found} rows are within limits otherwise, so that nothing is tried"
    );
}

const COUNTED: &[Limit] = &[Limit::Quantity, Limit::Worth];

#[test]
fn every_exchange_says_how_an_order_closes_a_whole_position() {
    for exchange in ALL {
        let answered = match &exchange.facts().orders.whole {
            Whole::By(marks, source) => !marks.is_empty() && !source.is_empty(),
            Whole::No(source) => !source.is_empty(),
            Whole::Unanswered => false,
        };
        assert!(answered, "{}", exchange.facts().name);
    }
}

#[test]
fn every_exchange_whose_orders_have_types_says_which_keep_to_a_price() {
    let typed = rows().filter(|row| row.opening.source_of(Role::Type).is_some());
    // If the body is not signed, no order is read.
    let is_signed = |row: &Row| {
        let facts = row.exchange.facts();
        let covers = |algorithm: &Algorithm| {
            facts
                .scheme(*algorithm, row.endpoint.path)
                .binding
                .covers_parameters(row.endpoint.method)
        };
        facts.algorithms.iter().any(covers)
    };
    for row in typed.filter(is_signed) {
        let facts = &row.exchange.facts().orders;
        assert!(!facts.priced.is_empty() || !facts.unpriced.is_empty(), "{}", row.name());
    }
}

#[test]
fn a_parameter_that_the_row_does_not_list_is_refused() {
    tried("unlisted", 100, |row| {
        let foreign = [
            "category",
            "productType",
            "market_type",
            "instType",
            "settle",
            "marginCoin",
            "someNewSize",
        ];
        let unlisted = foreign.into_iter().filter(|name| !row.opening.takes(name));
        unlisted
            .map(|name| row.refuses(&LIMITS, &[(name, row.value(Role::Market).into())], "unlisted"))
            .sum()
    });
}

#[test]
fn two_sizes_are_refused() {
    tried("two sizes", 10, |row| {
        let sizes = [Role::Quantity, Role::Quote].map(|role| row.opening.name_of(role));
        let [Some(quantity), Some(quote)] = sizes else { return 0 };
        row.refuses(COUNTED, &[(quantity, "0.5".into()), (quote, "50".into())], "two sizes")
    });
}

#[test]
fn a_price_counts_only_for_types_that_keep_to_it() {
    tried("types", 50, |row| {
        let Some(name) = row.opening.name_of(Role::Type) else { return 0 };
        // The order is within limits if they use its price, and above them if they take the
        // quantity as its cost.
        let roles = [(Role::Quantity, "5000"), (Role::Price, "0.01")];
        let numbers = roles.map(|(role, number)| {
            row.opening.name_of(role).map(|name| (name, Value::from(number)))
        });
        let of = |kind: &str| {
            [(name, Value::from(kind))].into_iter().chain(numbers.clone().into_iter().flatten())
        };
        let facts = &row.exchange.facts().orders;
        let unpriced = facts.unpriced.iter().map(|kind| (*kind).to_owned());
        let other_case =
            facts.priced.iter().flat_map(|kind| [kind.to_lowercase(), kind.to_uppercase()]);
        let kinds =
            unpriced.chain(other_case).filter(|kind| !facts.priced.contains(&kind.as_str()));
        let unpriced: usize = kinds
            .map(|kind| row.refuses(&[Limit::Worth], &of(&kind).collect::<Vec<_>>(), "type"))
            .sum();
        unpriced + row.refuses(COUNTED, &[(name, "no such type".into())], "unknown type")
    });
}

/// Odd values of a flag. None of them says on every exchange that the flag is not set.
fn odd_values() -> impl Iterator<Item = Value> {
    let texts = ["TRUE", "yes", " false", "False", "FALSE", "false,true"].map(Value::from);
    values().into_iter().chain(texts).chain([Value::Null, Value::Array(Vec::new())])
}

#[test]
fn marks_of_another_size_or_price_are_refused() {
    tried("marks", 50, |row| {
        let facts = &row.exchange.facts().orders;
        let sizes = facts.whole.marks().iter().chain(facts.resizing).map(|mark| (mark, COUNTED));
        let prices = facts.repricing.iter().map(|mark| (mark, &[Limit::Worth][..]));
        let says_no = |mark: &Mark, value: &Value| {
            value.scalar().is_some_and(|text| mark.unless.contains(&text))
        };
        let marks = sizes.chain(prices).flat_map(|(mark, limits)| {
            odd_values()
                .filter(|value| !says_no(mark, value))
                .map(move |value| (mark, limits, value))
        });
        marks.map(|(mark, limits, value)| row.refuses(limits, &[(mark.name, value)], "mark")).sum()
    });
}

#[test]
fn further_legs_count() {
    tried("legs", 20, |row| {
        let legs = row.exchange.facts().orders.legs.iter();
        legs.map(|leg| row.refuses(&[Limit::Worth], &[(leg, "90000000".into())], "leg")).sum()
    });
}

#[test]
fn a_size_of_zero_is_refused() {
    tried("zero", 50, |row| {
        let Some(name) = row.opening.name_of(Role::Quantity) else { return 0 };
        let zeros = ["0", "0.0", "-0"];
        zeros.iter().map(|zero| row.refuses(COUNTED, &[(name, (*zero).into())], "zero")).sum()
    });
}

#[test]
fn numbers_in_another_form_are_refused() {
    let forms = [
        "1e-1",
        "5E-1",
        "+0.5",
        "0x1",
        " 0.5",
        "0.5 ",
        "0.5\n",
        "0,5",
        ".5",
        "1.",
        "00.5",
        "0_5",
        "\u{660}.\u{665}",
    ];
    let texts = ["", "NaN", "Infinity", "all", "50%", "0.5 BTC"];
    let parsed = ["[0.5]", r#"["0.5"]"#, r#"{"value":0.5}"#, "true", "5e-1"]
        .map(|text| Value::parse(text).expect(text));
    let values: Vec<_> = forms.into_iter().chain(texts).map(Value::from).chain(parsed).collect();
    tried("numbers", 50, |row| {
        let of = |role, limits| row.opening.name_of(role).map(|name| (name, limits));
        let read = [of(Role::Quantity, COUNTED), of(Role::Price, &[Limit::Worth])];
        let read = read.into_iter().flatten();
        let pairs =
            read.flat_map(|(name, limits)| values.iter().map(move |value| (name, limits, value)));
        pairs
            .map(|(name, limits, value)| row.refuses(limits, &[(name, value.clone())], "form"))
            .sum()
    });
}

#[test]
fn a_second_spelling_of_a_name_is_refused() {
    tried("spelling", 100, |row| {
        let names = row
            .opening
            .roles
            .iter()
            .filter_map(|(role, source)| Some((*role, source.parameter()?)));
        let names = names.filter(|(role, name)| *role != Role::List && *name != WHOLE_BODY);
        let spellings = names.flat_map(|(_, name)| {
            [name.to_uppercase(), name.to_lowercase(), capital(name)].map(|other| (name, other))
        });
        let second = spellings.filter(|(name, other)| name != other);
        second.map(|(_, other)| row.refuses_second(&other)).sum()
    });
}

#[test]
fn a_price_of_zero_is_refused() {
    tried("price of zero", 50, |row| {
        let Some(name) = row.opening.name_of(Role::Price) else { return 0 };
        let zeros = ["0", "0.0", "0.00", "-0"];
        zeros
            .iter()
            .map(|zero| row.refuses(&[Limit::Worth], &[(name, (*zero).into())], "price of zero"))
            .sum()
    });
}

#[test]
fn orders_inside_a_parameter_are_refused() {
    tried("attached", 50, |row| {
        let Some(name) = row.opening.optional.first() else { return 0 };
        let texts = [r#"[{"amount":1000}]"#, " {\"amount\":1}", "\n\t[1]", "\u{feff}[1]"];
        texts.iter().map(|text| row.refuses(COUNTED, &[(name, (*text).into())], "attached")).sum()
    });
}

#[test]
fn a_part_of_an_order_beside_the_list_of_orders_is_refused() {
    tried("beside", 10, |row| {
        let list = row.opening.name_of(Role::List).is_some_and(|name| name != WHOLE_BODY);
        let roles = [Role::Quantity, Role::Price, Role::Quote, Role::Symbol, Role::Type];
        let names = roles
            .into_iter()
            .filter_map(|role| Some((row.opening.name_of(role)?, row.value(role))));
        let refused = |(name, value): (&'static str, &'static str)| {
            let order = row.order(&[]);
            let mut members = order.params.members().to_vec();
            members.push((name.to_owned(), value.into()));
            let asked = request(order.method, order.path.as_str(), Value::Object(members))
                .expect("plain names");
            let is_within = |limit: &Limit, asked| {
                judged(row.exchange, &client(*limit, row.symbol, row.asset), asked)
            };
            assert!(
                LIMITS.iter().all(|limit| is_within(limit, &asked).is_err()),
                "{}: {name} beside",
                row.name()
            );
            LIMITS.iter().filter(|limit| is_within(limit, &order).is_ok()).count()
        };
        if list { names.map(refused).sum() } else { 0 }
    });
}

#[test]
fn an_empty_text_is_a_value_where_nobody_says_otherwise() {
    tried("empty", 20, |row| {
        let facts = &row.exchange.facts().orders;
        let marks = facts
            .whole
            .marks()
            .iter()
            .chain(facts.resizing)
            .filter(|mark| row.opening.takes(mark.name));
        let empty = |mark: &Mark| {
            if facts.empty_is_absent {
                let same = COUNTED.iter().all(|limit| {
                    row.allows(*limit, &[]) == row.allows(*limit, &[(mark.name, "".into())])
                });
                assert!(same, "{}: an empty {}", row.name(), mark.name);
                return 1;
            }
            row.refuses(COUNTED, &[(mark.name, "".into())], "empty")
        };
        marks.map(empty).sum()
    });
}

/// Orders with a number that limits once counted, while the exchange uses another one.
#[test]
fn numbers_that_the_exchange_ignores_are_not_counted() {
    let spot = "/api/v2/spot/trade/";
    for (name, symbol, asset, method, path, params) in [
        (
            "cryptocom",
            "BTC_USDT",
            "USDT",
            Post,
            "/exchange/v1/private/create-order".to_owned(),
            r#"{"instrument_name":"BTC_USDT","side":"SELL","type":"MARKET","quantity":"1000",
                "notional":"1"}"#,
        ),
        (
            "cryptocom",
            "BTC_USDT",
            "USDT",
            Post,
            "/exchange/v1/private/create-order".to_owned(),
            r#"{"instrument_name":"BTC_USDT","side":"BUY","type":"MARKET","quantity":"1",
                "notional":"1000000"}"#,
        ),
        (
            "bitget",
            "BTCUSDT",
            "USDT",
            Post,
            "/api/v2/margin/crossed/place-order".to_owned(),
            r#"{"symbol":"BTCUSDT","side":"buy","orderType":"market","loanType":"normal",
                "force":"gtc","baseSize":"1","quoteSize":"1000000"}"#,
        ),
        (
            "bitget",
            "BTCUSDT",
            "USDT",
            Post,
            format!("{spot}place-plan-order"),
            r#"{"symbol":"BTCUSDT","side":"buy","orderType":"market","planType":"amount",
                "size":"900","triggerPrice":"1","triggerType":"mark_price"}"#,
        ),
        (
            "mexc",
            "BTCUSDT",
            "USDT",
            Post,
            "/api/v3/order".to_owned(),
            r#"{"symbol":"BTCUSDT","side":"BUY","type":"MARKET","quantity":"1000","price":"0.01"}"#,
        ),
        (
            "whitebit",
            "BTC_USDT",
            "USDT",
            Post,
            "/api/v4/order/collateral/market".to_owned(),
            r#"{"market":"BTC_USDT","side":"buy","amount":"1000","price":"0.01"}"#,
        ),
        (
            "whitebit",
            "BTC_USDT",
            "USDT",
            Post,
            "/api/v4/order/collateral/oco".to_owned(),
            r#"{"market":"BTC_USDT","side":"buy","amount":"900","price":"1","activation_price":"2",
                "stop_limit_price":"90000"}"#,
        ),
        (
            "bybit",
            "BTCUSDT",
            "USDT",
            Post,
            "/v5/order/create".to_owned(),
            r#"{"category":"linear","symbol":"BTCUSDT","side":"Buy","orderType":"Limit",
                "qty":"1000","price":"0.01","bboSideType":"Queue","bboLevel":"1"}"#,
        ),
        (
            "bybit",
            "BTCUSDT",
            "USDT",
            Post,
            "/v5/order/create".to_owned(),
            r#"{"category":"spot","symbol":"BTCUSDT","side":"Buy","orderType":"Market","qty":"10",
                "takeProfit":"90000000"}"#,
        ),
        (
            "bitget",
            "BTCUSD",
            "USDT",
            Post,
            format!("{spot}place-order"),
            r#"{"symbol":"BTCUSD","side":"buy","orderType":"limit","force":"gtc","size":"1",
                "price":"2","productType":"USDT-FUTURES"}"#,
        ),
        (
            "deribit",
            "BTC_USDC",
            "USDC",
            Get,
            "/api/v2/private/buy".to_owned(),
            r#"{"instrument_name":"BTC_USDC","amount":"0.001","price":"1","type":"limit",
                "linked_order_type":"one_triggers_other",
                "otoco_config":" [{\"amount\":1000,\"direction\":\"buy\"}]"}"#,
        ),
        (
            "gate",
            "BTC_USDT",
            "USDT",
            Post,
            "/api/v4/futures/usdt/orders".to_owned(),
            r#"{"contract":"BTC_USDT","size":0,"price":"0","tif":"ioc","close":true}"#,
        ),
        (
            "gate",
            "BTC_USDT",
            "USDT",
            Post,
            "/api/v4/futures/usdt/orders".to_owned(),
            r#"{"contract":"BTC_USDT","size":0,"price":"0","tif":"ioc"}"#,
        ),
    ] {
        let exchange = named(name).expect("in the registry");
        let asked =
            request(method, &path, Value::parse(params).expect("JSON")).expect("plain names");
        for limit in COUNTED {
            let client = client(*limit, symbol, asset);
            let refused = judged(exchange, &client, &asked).expect_err(params);
            let code = Code::PolicyLimit.to_string();
            assert!(
                refused.starts_with(&code) || refused.contains("parameter"),
                "{name} {params}: {refused}"
            );
        }
    }
}
