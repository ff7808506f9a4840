//! Tests that a request carries only names of its own row if its signature leaves method or path
//! open. So an endpoint that an exchange adds tomorrow is not open today.

mod asked;

use asked::{algorithms, filled, request};
use countersign_core::exchange::classify::classify;
use countersign_core::exchange::table::{Endpoint, Role, Table, WHOLE_BODY};
use countersign_core::exchange::{ALL, Exchange, named};
use countersign_core::json::Value;
use countersign_core::refusal::Code;
use countersign_core::request::Method;
use countersign_core::scope::Scope;

/// The rows whose signatures bind less than method and path, for every kind of key.
fn open_rows() -> impl Iterator<Item = (&'static dyn Exchange, usize, &'static Endpoint)> {
    ALL.iter().copied().flat_map(|exchange| {
        let rows = exchange.table().endpoints().iter().enumerate();
        let open = move |row: &Endpoint| {
            algorithms(exchange).all(|algorithm| {
                let binding = exchange.facts().scheme(algorithm, &filled(row.path)).binding;
                !(binding.path && binding.method)
            })
        };
        rows.filter(move |(_, row)| open(row)).map(move |(index, row)| (exchange, index, row))
    })
}

fn code(exchange: &dyn Exchange, method: Method, path: &str, params: Value) -> Option<Code> {
    let request = request(method, &filled(path), params).expect("plain names");
    classify(exchange, exchange.facts().algorithms[0], &request).err().map(|refusal| refusal.code)
}

fn parsed(params: &str) -> Value {
    Value::parse(params).expect("JSON")
}

/// A read is refused if it has the parameters of orders or bots. The endpoints that take these were
/// once in no table.
#[test]
fn a_read_does_not_carry_the_names_of_what_is_none() {
    for (exchange, row, params) in [
        (
            "bybit",
            "POST /v5/alpha/prediction/order-estimate",
            r#"{"symbol":"SOLUSDT_SOL/USDT","side":"Buy","orderType":"Limit","qty":"100",
                "price":"20"}"#,
        ),
        (
            "bybit",
            "POST /v5/order/pre-check",
            r#"{"symbol":"BTCUSDT","max_price":"2","min_price":"1","cell_number":2,
                "quote_investment":"1000000"}"#,
        ),
        ("bybit", "POST /v5/broker/award/info", r#"{"id":"1","itemId":"2"}"#),
        (
            "bybit",
            "POST /v5/crypto-loan-common/max-loan",
            r#"{"currency":"BTC","counterparties":["x"]}"#,
        ),
        ("bybit", "GET /v5/order/history", r#"{"category":"spot","subMemberId":"7"}"#),
        (
            "mexc",
            "POST /api/v1/private/account/asset/analysis/v3",
            r#"{"symbol":"BTC_USDT","vol":1,"side":1,"type":5}"#,
        ),
        (
            "mexc",
            "POST /api/v1/private/account/asset/analysis/recent/v3",
            r#"{"reverse":0,"planType":1}"#,
        ),
        ("mexc", "GET /api/v3/allOrders", r#"{"symbol":"BTCUSDT","side":"BUY","quantity":"1"}"#),
        ("upbit", "GET /v1/orders/chance", r#"{"market":"KRW-BTC","side":"bid","volume":"1"}"#),
        ("woo", "GET /v1/client/trades", r#"{"symbol":"SPOT_BTC_USDT","reduce_only":"1"}"#),
        (
            "krakenfutures",
            "GET /derivatives/api/v3/leveragepreferences",
            r#"{"symbol":"PF_XBTUSD","maxLeverage":"50"}"#,
        ),
        ("phemex", "GET /spot/orders", r#"{"symbol":"sBTCUSDT","side":"Buy","ordType":"Market"}"#),
    ] {
        let (method, path) = row.split_once(' ').expect("METHOD PATH");
        let (exchange, method) =
            (named(exchange).expect("in the registry"), Method::parse(method).expect("a method"));
        let found = code(exchange, method, path, parsed(params));
        assert_eq!(found, Some(Code::RequestForbiddenParameter), "{row} {params}");
    }
}

/// Those endpoints are rows now. On any row that takes their names, the names need their scope.
#[test]
fn families_that_move_something_are_rows() {
    let bybit = named("bybit").expect("in the registry");
    for (row, scope) in [
        ("POST /v5/spread/order/create", Scope::Trade),
        ("POST /v5/grid/create-grid", Scope::Trade),
        ("POST /v5/fgridbot/create", Scope::Trade),
        ("POST /v5/fmartingalebot/create", Scope::Trade),
        ("POST /v5/fcombobot/create", Scope::Trade),
        ("POST /v5/dca/create-bot", Scope::Trade),
        ("POST /v5/strategy/create", Scope::Trade),
        ("POST /v5/rfq/execute-quote", Scope::Trade),
        ("POST /v5/p2p/item/create", Scope::Withdraw),
        ("POST /v5/p2p/order/finish", Scope::Withdraw),
        ("POST /v5/earn/pwm/fund-transfer", Scope::Withdraw),
        ("POST /v5/user/del-submember", Scope::Admin),
    ] {
        let (method, path) = row.split_once(' ').expect("METHOD PATH");
        let found = bybit.table().find(Method::parse(method).expect("a method"), path);
        assert_eq!(found.map(|(_, row)| row.scope), Some(scope), "{row}");
    }
    let order = r#"{"category":"linear","symbol":"BTCUSDT","side":"Buy","orderType":"Limit",
        "qty":"1","price":"2"}"#;
    for params in [order, r#"{"symbol":"BTCUSDT","cell_number":2,"min_price":"1","max_price":"2"}"#]
    {
        let read = if params == order { "/v5/order/pre-check" } else { "/v5/grid/validate-input" };
        let request = request(Method::Post, read, parsed(params)).expect("plain names");
        let opened = classify(bybit, bybit.facts().algorithms[0], &request)
            .expect("names of its row")
            .effective;
        assert!(opened.contains(Scope::Trade), "{read}: {opened}");
    }
}

/// A made-up name is refused alone, beside the names of the row, and inside a list of the row.
#[test]
fn no_row_takes_a_name_that_was_made_up() {
    let mut tried = 0;
    for (exchange, index, row) in open_rows() {
        let own: Vec<_> =
            names_of(exchange.table(), index).into_iter().map(|name| (name, "1".into())).collect();
        for made_up in ["madeUp", "made_up", "zq9"] {
            let alone = vec![(made_up, "1".into())];
            let beside: Vec<_> = own.iter().cloned().chain(alone.clone()).collect();
            for members in [alone, beside] {
                tried += 1;
                let found = code(exchange, row.method, row.path, Value::object(members));
                let refused =
                    matches!(found, Some(Code::RequestForbiddenParameter | Code::RequestAmbiguous));
                assert!(refused, "{} {} takes {made_up:?}: {found:?}", row.method, row.path);
            }
        }
    }
    assert!(tried > 3_000, "{tried}");
}

/// A text that a server may read as JSON is judged by the names in it, whatever characters a parser
/// skips before them.
#[test]
fn no_name_hides_in_a_text() {
    for (exchange, index, row) in open_rows() {
        let Some(name) = names_of(exchange.table(), index).into_iter().next() else { continue };
        for before in ["", " ", "\n\t", "\u{feff}", "\u{a0}", "\0", "\u{feff} \u{feff}"] {
            for hidden in [r#"{"zq9":"1"}"#, r#"[{"zq9":"1"}]"#, r#"[[{"a":{"zq9":1}}]]"#] {
                let text = format!("{before}{hidden}");
                let found = code(
                    exchange,
                    row.method,
                    row.path,
                    Value::object([(name, text.as_str().into())]),
                );
                assert!(found.is_some(), "{} {} takes {name}={text:?}", row.method, row.path);
            }
        }
    }
}

/// An array can be a list of orders without any name. So only a row that takes an array may get
/// one.
#[test]
fn no_row_takes_an_array_but_those_that_say_so() {
    for (exchange, index, row) in open_rows() {
        let mut own = exchange.table().openings_of(index);
        if row.method == Method::Get
            || own.any(|opening| opening.name_of(Role::List) == Some(WHOLE_BODY))
        {
            continue;
        }
        for array in ["[]", "[1]", r#"["1"]"#, "[{}]", "[[1]]"] {
            assert_eq!(
                code(exchange, row.method, row.path, parsed(array)),
                Some(Code::RequestMalformed),
                "{}",
                row.path
            );
        }
    }
}

/// A row does not take the names that make a payload fit another row, unless its own lines have
/// them.
#[test]
fn no_row_takes_what_another_one_needs() {
    let mut tried = 0;
    for (exchange, index, row) in open_rows() {
        let table = exchange.table();
        let own: Vec<_> = table.openings_of(index).flat_map(|opening| opening.names()).collect();
        for opening in table.openings().iter().filter(|opening| opening.endpoint != index) {
            let Some(foreign) = opening.required.iter().find(|name| !own.contains(*name)) else {
                continue;
            };
            tried += 1;
            let needed = opening.required.iter().map(|name| (*name, "1".into()));
            let found = code(exchange, row.method, row.path, Value::object(needed));
            let refused =
                matches!(found, Some(Code::RequestForbiddenParameter | Code::RequestAmbiguous));
            assert!(refused, "{} {} takes {foreign:?}", row.method, row.path);
        }
    }
    assert!(tried > 10_000, "{tried}");
}

fn names_of(table: &Table, row: usize) -> Vec<&'static str> {
    let mut names: Vec<_> = table.openings_of(row).flat_map(|opening| opening.names()).collect();
    // Two names that differ only in case would be refused for that.
    names.sort_unstable_by_key(|name| name.to_ascii_lowercase());
    names.dedup_by_key(|name| name.to_ascii_lowercase());
    names
}
