//! Tests families of attacks. It tries each attack of `attacks.jsonl` in other forms that a server
//! could take for the same, and the weaknesses behind the attacks on every exchange that shares
//! them. It runs the same code as the `recipe` example.

#[path = "../examples/recipe/case.rs"]
mod case;
#[path = "../examples/recipe/software.rs"]
mod software;

use countersign_core::exchange::table::Endpoint;
use countersign_core::exchange::{ALL, Exchange};
use countersign_core::request::{Method, ParamsIn};
use countersign_core::scope::Scope;
use serde_json::{Value, json};

/// A request as text, so that it can hold a text that no JSON library writes.
#[derive(Clone, Debug)]
struct Asked {
    exchange: String,
    allowed: String,
    method: String,
    path: String,
    params: String,
    params_in: Option<String>,
    /// Further fields of the request, each with a comma before it.
    more: String,
}

const EVERY_SCOPE: &str = r#"["read","trade","account","transfer","withdraw","admin","session"]"#;

impl Asked {
    fn of(exchange: &str, row: &Endpoint) -> Self {
        Self {
            exchange: exchange.to_owned(),
            allowed: EVERY_SCOPE.to_owned(),
            method: row.method.to_string(),
            path: filled(row),
            params: "{}".to_owned(),
            params_in: None,
            more: String::new(),
        }
    }

    fn attack(case: &Value) -> Self {
        let request = case["request"].as_object().expect("a request");
        let known = ["method", "note", "params", "params_in", "path"];
        let more = request.iter().filter(|(name, _)| !known.contains(&name.as_str()));
        Self {
            exchange: text(&case["exchange"]),
            allowed: case["caller_allowed"].to_string(),
            method: text(&request["method"]),
            path: text(&request["path"]),
            params: request["params"].to_string(),
            params_in: request.get("params_in").map(text),
            more: more.map(|(name, value)| format!(",{name:?}:{value}")).collect(),
        }
    }

    fn line(&self) -> String {
        let Self { exchange, allowed, params, more, .. } = self;
        let params_in =
            self.params_in.as_ref().map(|place| format!(",\"params_in\":{}", json!(place)));
        format!(
            "{{\"id\":\"x\",\"exchange\":{},\"caller_allowed\":{allowed},\
             \"request\":{{\"method\":{},\"path\":{},\"params\":{params}{}{more}}}}}",
            json!(exchange),
            json!(self.method),
            json!(self.path),
            params_in.unwrap_or_default(),
        )
    }

    fn verdict(&self) -> Value {
        serde_json::from_str(&case::answer(&self.line())).expect("an answer is JSON")
    }

    fn is_refused(&self) -> bool {
        // A line that is not JSON has no verdict, and gets no signature.
        self.verdict()["verdict"] != "sign"
    }

    /// `{"name":value,…}` of texts that are JSON already.
    fn with_members(&self, members: &[(String, String)]) -> Self {
        let members: Vec<_> =
            members.iter().map(|(name, value)| format!("{name}:{value}")).collect();
        Self { params: format!("{{{}}}", members.join(",")), ..self.clone() }
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

fn filled(row: &Endpoint) -> String {
    row.path.replace(['{', '}'], "")
}

fn attacks() -> Vec<Value> {
    let lines = include_str!("../../../tests/vectors/attacks.jsonl").lines();
    lines.map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

/// Names and values of an object, as JSON text.
fn members(params: &str) -> Vec<(String, String)> {
    let parsed: Value = serde_json::from_str(params).expect("the params of a case are JSON");
    let members = parsed.as_object().into_iter().flatten();
    members.map(|(name, value)| (json!(name).to_string(), value.to_string())).collect()
}

/// Other texts that a lenient server could take for the same path.
fn paths(path: &str) -> Vec<String> {
    let last = path.rfind('/').unwrap_or_default();
    let (front, back) = path.split_at(last);
    let part = back.trim_start_matches('/');
    let Some(first) = part.chars().next() else { return Vec::new() };
    let rest = &part[first.len_utf8()..];
    let confusable = |from: char, to: char| path.replacen(from, &to.to_string(), 1);
    let mut other = vec![
        format!("{path}/"),
        format!("{path}//"),
        format!("{path}/."),
        format!("{path}/.."),
        format!("{path};a=b"),
        format!("{path};"),
        format!("{path}?"),
        format!("{path}?x=1"),
        format!("{path}#x"),
        format!("{path}%20"),
        format!("{path}%00"),
        format!("{path}\0"),
        format!("{path} "),
        format!(" {path}"),
        format!("{path}\r\n"),
        format!("{path}\n{path}"),
        format!("{path}{{}}"),
        format!("{path}{{\"amount\":1}}"),
        format!("{path}\u{200b}"),
        format!("/x/..{path}"),
        format!("/.{path}"),
        format!("/{path}"),
        format!("//{}", path.trim_start_matches('/')),
        path.trim_start_matches('/').to_owned(),
        format!("https://example.com{path}"),
        format!("{front}//{part}"),
        format!("{front}/./{part}"),
        format!("{front}/x/../{part}"),
        format!("{front}/%2e%2e/{part}"),
        format!("{front}\\{part}"),
        format!("{front}%2f{part}"),
        format!("{front}%2F{part}"),
        format!("{front}/%{:02x}{rest}", u32::from(first)),
        format!("{front}/%25{:02x}{rest}", u32::from(first)),
        format!("{front}/{part}%{:02x}", b'/'),
        path.to_uppercase(),
        format!("{front}/{}", part.to_uppercase()),
        format!("{front}/{}{rest}", first.to_uppercase()),
        confusable('a', '\u{430}'),
        confusable('e', '\u{435}'),
        confusable('i', '\u{131}'),
        confusable('o', '\u{ff4f}'),
        confusable('s', '\u{17f}'),
        confusable('/', '\u{2044}'),
        confusable('/', '\u{ff0f}'),
    ];
    if let Some(bare) = path.strip_suffix('/') {
        other.push(bare.to_owned());
    }
    other.retain(|other| other != path);
    other
}

/// The same parameters in other forms. Names and values are JSON text.
fn forms(members: &[(String, String)]) -> Vec<Vec<(String, String)>> {
    let mut forms = vec![members.iter().rev().cloned().collect::<Vec<_>>()];
    let unknown = || ("\"unknownName\"".to_owned(), "\"1\"".to_owned());
    forms.push(members.iter().cloned().chain([unknown()]).collect());
    forms.push([unknown()].into_iter().chain(members.iter().cloned()).collect());
    for at in 0..members.len() {
        let (name, value) = &members[at];
        let name = name.trim_matches('"');
        let (first, rest) = name.split_at(1);
        let names = [
            format!("{}{rest}", first.to_uppercase()),
            name.to_uppercase(),
            format!("{name}[]"),
            format!("{name}[0]"),
            format!("{name}%5B%5D"),
            format!("%{:02x}{rest}", first.as_bytes()[0]),
            format!("\\u{:04x}{rest}", first.as_bytes()[0]),
            format!(" {name}"),
            format!("{name} "),
            format!("{name}\\u0000"),
            format!("{name}="),
            format!("&{name}"),
            format!("x&{name}"),
            format!(
                "{}{rest}",
                char::from_u32(u32::from(first.as_bytes()[0]) + 0xfee0).expect("full width")
            ),
        ];
        let one = |name: &str, value: &str| {
            let mut changed = members.to_vec();
            changed[at] = (format!("\"{name}\""), value.to_owned());
            changed
        };
        forms.extend(names.iter().map(|name| one(name, value)));
        for (front, back) in [("", value.as_str()), (value, "\"other\"")] {
            let mut twice = members.to_vec();
            twice.insert(
                if front.is_empty() { 0 } else { twice.len() },
                (format!("\"{name}\""), back.to_owned()),
            );
            forms.push(twice);
        }
        let bare = value.trim_matches('"');
        let is_number = bare.parse::<f64>().is_ok();
        forms.extend(is_number.then(|| one(name, bare)));
        forms.push(one(name, &format!("[{value}]")));
        forms.push(one(name, &format!("{{\"a\":{value}}}")));
        forms.extend((!value.starts_with(['{', '['])).then(|| one(name, &format!("\"{bare}\""))));
    }
    forms
}

/// The parameters inside another value, which a server could take apart.
fn wrapped(params: &str) -> Vec<String> {
    let inside = ["data", "params", "transfer", "request", "list", "withdraw"];
    let mut wrapped: Vec<_> = inside.iter().map(|name| format!("{{{name:?}:{params}}}")).collect();
    wrapped.extend(inside.iter().map(|name| format!("{{{name:?}:[{params}]}}")));
    wrapped.push(format!("[{params}]"));
    wrapped.push(format!("[[{params}]]"));
    wrapped.push(format!("{params}{params}"));
    wrapped.push(format!("\u{feff}{params}"));
    wrapped
}

fn places() -> impl Iterator<Item = Option<String>> {
    std::iter::once(None).chain(ParamsIn::ALL.map(|place| Some(place.name().to_owned())))
}

fn exchange_of(name: &str) -> &'static dyn Exchange {
    let name = if name.starts_with("binance") { "binance" } else { name };
    countersign_core::exchange::named(name).expect("an exchange of the attacks")
}

#[test]
fn every_attack_stays_refused_in_its_other_forms() {
    let mut leaks = Vec::new();
    let mut tried = 0;
    for case in attacks() {
        let attack = Asked::attack(&case);
        let mut others: Vec<Asked> = Vec::new();
        others.extend(paths(&attack.path).into_iter().map(|path| Asked { path, ..attack.clone() }));
        let members = members(&attack.params);
        others.extend(forms(&members).iter().map(|form| attack.with_members(form)));
        others.extend(
            wrapped(&attack.params).into_iter().map(|params| Asked { params, ..attack.clone() }),
        );
        let places: Vec<Asked> = others
            .iter()
            .chain([&attack])
            .flat_map(|asked| places().map(|place| Asked { params_in: place, ..asked.clone() }))
            .collect();
        for method in [
            "DELETE", "GET", "PATCH", "POST", "PUT", "HEAD", "OPTIONS", "get", "Post", "POST ",
            "POST\n", "",
        ] {
            others.push(Asked { method: method.to_owned(), ..attack.clone() });
        }
        others.extend(places);
        let own = Method::parse(&attack.method).ok();
        for other in others {
            tried += 1;
            // A read is not the goal of the attack.
            let reads = Method::parse(&other.method)
                .ok()
                .filter(|method| own != Some(*method))
                .is_some_and(|method| {
                    let row = exchange_of(&other.exchange).table().find(method, &other.path);
                    row.is_some_and(|(_, row)| row.scope == Scope::Read)
                });
            if !reads && !other.is_refused() {
                leaks.push(format!("{} {}", case["id"], other.line()));
            }
        }
    }
    assert!(tried > 5_000, "{tried}");
    assert!(leaks.is_empty(), "{} of {tried} are signed:\n{}", leaks.len(), leaks.join("\n"));
}

/// For every row that moves money or keys, a client that holds every scope cannot ask for it by
/// another spelling of its path.
#[test]
fn no_path_is_taken_in_another_spelling() {
    let mut leaks = Vec::new();
    for exchange in ALL {
        let name = exchange.facts().name;
        let serious =
            |row: &&Endpoint| matches!(row.scope, Scope::Admin | Scope::Transfer | Scope::Withdraw);
        for row in exchange.table().endpoints().iter().filter(serious) {
            let plain = Asked::of(name, row);
            for path in paths(&plain.path) {
                let other = Asked { path, ..plain.clone() };
                // The changed path may still be a row: the same row with another word for {name},
                // or another row.
                let is_row = exchange.table().find(row.method, &other.path).is_some();
                if !is_row && !other.is_refused() {
                    leaks.push(other.line());
                }
                let folded = other.path.to_lowercase() == plain.path.to_lowercase()
                    && !row.path.contains('{');
                assert!(!is_row || !folded, "{name} {} is a row as well", other.path);
            }
        }
    }
    assert!(leaks.is_empty(), "{} are signed:\n{}", leaks.len(), leaks.join("\n"));
}

/// The agent sets time, nonce, expiry and signature, whatever an exchange calls them and wherever
/// it takes them.
#[test]
fn no_client_brings_what_a_signature_depends_on() {
    let mut leaks = Vec::new();
    for exchange in ALL {
        let facts = exchange.facts();
        for scope in [Scope::Read, Scope::Trade, Scope::Withdraw] {
            let Some(row) = exchange.table().endpoints().iter().find(|row| row.scope == scope)
            else {
                continue;
            };
            let plain = Asked::of(facts.name, row);
            for name in facts.set_by_agent() {
                for spelled in [name.to_owned(), name.to_uppercase(), format!("{name}[]")] {
                    for value in ["1", "\"1\"", "1999999999", "\"1e3\"", "[1]", "null"] {
                        let other =
                            plain.with_members(&[(format!("{spelled:?}"), value.to_owned())]);
                        leaks.extend((!other.is_refused()).then(|| other.line()));
                    }
                }
            }
            if let Some(window) = facts.receive_window {
                for value in [
                    "999999",
                    "\"60000\"",
                    "10001",
                    "0",
                    "-1",
                    "\"\"",
                    "\"1e4\"",
                    "5000.0",
                    "\"5,000\"",
                    "[5000]",
                    "null",
                    "true",
                ] {
                    let other =
                        plain.with_members(&[(format!("{:?}", window.name), value.to_owned())]);
                    leaks.extend((!other.is_refused()).then(|| other.line()));
                }
            }
            for field in [
                "expires",
                "expiry",
                "timestamp",
                "nonce",
                "signature",
                "passphrase",
                "body",
                "query",
                "raw",
                "message",
                "hash",
                "headers",
                "recv_window",
            ] {
                for value in ["1999999999", "\"00\"", "{}"] {
                    let other = Asked { more: format!(",{field:?}:{value}"), ..plain.clone() };
                    leaks.extend((!other.is_refused()).then(|| other.line()));
                }
            }
        }
    }
    assert!(leaks.is_empty(), "{} are signed:\n{}", leaks.len(), leaks.join("\n"));
}

/// Parameters that would move money or change keys on an exchange that leaves the path unsigned, as
/// the exchanges' pages say: exchange, class of methods, scope that they need, parameters.
const SMUGGLED: &[(&str, &str, &str, &str)] = &[
    ("binance", "", "withdraw", r#"{"coin":"USDT","address":"x","amount":"9"}"#),
    (
        "binance",
        "",
        "withdraw",
        r#"{"coin":"USDT","address":"x","amount":"9","network":"ETH","addressTag":"1",
            "walletType":0}"#,
    ),
    ("binance", "", "withdraw", r#"{"coin":"USDT","address":"x","amount":9,"questionnaire":"{}"}"#),
    ("binance", "", "withdraw", r#"{"token":"USDT","amount":"9"}"#),
    ("binance", "", "transfer", r#"{"type":"MAIN_UMFUTURE","asset":"USDT","amount":"9"}"#),
    (
        "binance",
        "",
        "transfer",
        r#"{"fromAccountType":"SPOT","toAccountType":"SPOT","asset":"USDT","amount":"9"}"#,
    ),
    ("binance", "", "transfer", r#"{"toEmail":"a@b.c","asset":"USDT","amount":"9"}"#),
    (
        "binance",
        "",
        "transfer",
        r#"{"asset":"USDT","amount":"9","transFrom":"SPOT","transTo":"ISOLATED_MARGIN",
            "symbol":"B"}"#,
    ),
    ("binance", "", "transfer", r#"{"fromId":"1","toId":"2","asset":"USDT","amount":"9"}"#),
    (
        "binance",
        "",
        "admin",
        r#"{"subAccountApiKey":"k","email":"a@b.c","ipAddress":"1.2.3.4","status":"2"}"#,
    ),
    ("binance", "", "admin", r#"{"subAccountId":"1","canTrade":"true"}"#),
    (
        "bybit",
        "POST",
        "withdraw",
        r#"{"coin":"BTC","address":"x","amount":"9","accountType":"FUND"}"#,
    ),
    (
        "bybit",
        "POST",
        "withdraw",
        r#"{"coin":"BTC","address":"x","amount":"9","forceChain":2,"feeType":1,"requestId":"r"}"#,
    ),
    (
        "bybit",
        "POST",
        "transfer",
        r#"{"transferId":"u","coin":"BTC","amount":"1","fromAccountType":"UNIFIED",
            "toAccountType":"FUND"}"#,
    ),
    (
        "bybit",
        "POST",
        "transfer",
        r#"{"transferId":"u","coin":"BTC","amount":"1","fromMemberId":1,"toMemberId":2,
            "fromAccountType":"UNIFIED","toAccountType":"UNIFIED"}"#,
    ),
    ("bybit", "POST", "admin", r#"{"permissions":{"Wallet":["Withdraw"]}}"#),
    ("bybit", "POST", "admin", r#"{"permissions":["Wallet"]}"#),
    ("bybit", "POST", "admin", r#"{"readOnly":0}"#),
    ("bybit", "POST", "admin", r#"{"ips":"*"}"#),
    ("bybit", "POST", "admin", r#"{"subuid":7}"#),
    ("bybit", "POST", "admin", r#"{}"#),
    ("bybit", "POST", "admin", r#"{"unknownName":1}"#),
    (
        "mexc",
        "/api/v3/",
        "withdraw",
        r#"{"coin":"USDT","address":"x","amount":"9","netWork":"ETH"}"#,
    ),
    (
        "mexc",
        "/api/v3/",
        "withdraw",
        r#"{"coin":"USDT","address":"x","amount":"9","memo":"1","withdrawOrderId":"w"}"#,
    ),
    (
        "mexc",
        "/api/v3/",
        "withdraw",
        r#"{"toAccountType":"UID","toAccount":"7","asset":"USDT","amount":"9"}"#,
    ),
    (
        "mexc",
        "/api/v3/",
        "transfer",
        r#"{"fromAccountType":"SPOT","toAccountType":"FUTURES","asset":"USDT","amount":"9"}"#,
    ),
    ("mexc", "/api/v3/", "admin", r#"{"apiKey":"k","ipWhiteList":"6.6.6.6"}"#),
    ("mexc", "/api/v3/", "admin", r#"{"ipWhiteList":"6.6.6.6"}"#),
    (
        "mexc",
        "/api/v3/",
        "admin",
        r#"{"subAccount":"s","permissions":"SPOT_DEAL_WRITE","note":"n"}"#,
    ),
    ("woo", "/v1/", "withdraw", r#"{"token":"USDT","amount":"9","receiver":"7"}"#),
    ("upbit", "", "withdraw", r#"{"currency":"BTC","net_type":"BTC","amount":"1","address":"x"}"#),
    (
        "upbit",
        "",
        "withdraw",
        r#"{"currency":"BTC","net_type":"BTC","amount":"1","address":"x","secondary_address":"9",
            "transaction_type":"default"}"#,
    ),
    ("upbit", "", "withdraw", r#"{"amount":"10000","two_factor_type":"kakao"}"#),
];

/// Each of these is refused on every row, also with the parameters of an order beside it.
#[test]
fn the_same_weakness_is_seen_on_every_row_that_shares_it() {
    let order = r#""symbol":"BTCUSDT","side":"BUY","category":"spot","orderType":"Market","qty":"1",
        "quantity":"1","market":"KRW-BTC","volume":"1""#;
    let mut leaks = Vec::new();
    for (name, which, needs, params) in SMUGGLED {
        let scopes = Scope::ALL
            .into_iter()
            .filter(|scope| scope.name() != *needs)
            .map(Scope::name)
            .collect::<Vec<_>>();
        let rows = exchange_of(name).table().endpoints().iter().filter(|row| {
            let of_kind = row.path.starts_with(which) || row.method.name() == *which;
            of_kind && row.scope.name() != *needs
        });
        let mut asked = 0;
        for row in rows {
            asked += 1;
            let plain = Asked {
                allowed: json!(scopes).to_string(),
                params: (*params).to_owned(),
                ..Asked::of(name, row)
            };
            let more = if members(params).is_empty() || *params == r#"{"unknownName":1}"# {
                plain.clone()
            } else {
                Asked {
                    params: format!("{},{order}}}", &params[..params.len() - 1]),
                    ..plain.clone()
                }
            };
            leaks.extend([plain, more].iter().filter(|asked| !asked.is_refused()).map(Asked::line));
        }
        assert!(asked > 20, "{name} {which}");
    }
    assert!(leaks.is_empty(), "{} are signed:\n{}", leaks.len(), leaks.join("\n"));
}

/// The attack puts its own time among the parameters. It is refused with that time and without it.
#[test]
fn a_withdrawal_in_an_order_is_refused_without_the_time_it_would_carry() {
    let case = attacks()
        .into_iter()
        .find(|case| case["id"] == "attack-016")
        .expect("the attack is listed");
    let attack = Asked::attack(&case);
    let is_refused = |attack: &Asked, name: &str| {
        let verdict = attack.verdict();
        assert_eq!(verdict["code"], "request.forbidden_parameter");
        assert!(text(&verdict["message"]).contains(name), "{verdict}");
    };
    is_refused(&attack, "timestamp");
    let mut without = members(&attack.params);
    without.retain(|(name, _)| name != "\"timestamp\"");
    assert_eq!(without.len() + 1, members(&attack.params).len());
    is_refused(&attack.with_members(&without), "\"accountType\"");
}

/// Requests that look like reads but have the signed texts of logins are refused.
#[test]
fn logins_are_no_reads() {
    for exchange in ALL {
        for path in [
            "/GET/realtime",
            "/realtime",
            "/users/self/verify",
            "/user/verify",
            "/v2/websocket",
            "/ws",
            "/ws/v1",
            "/ws/v2",
            "/ws/v5",
            "/linear-swap-notification",
            "/swap-notification",
            "/notification",
            "/v1/order/events",
            "/v5/private",
            "/api/v3/userDataStream",
            "/api/v1/bullet-private",
            "/0/private/GetWebSocketsToken",
            "/v2/auth/w/token",
            "/api/v2/websockets_token/",
            "/api/v4/profile/websocket_token",
            "/api/v4/jwt",
            "/v3/account/listenKey",
            "/fapi/v1/listenKey",
            "/sapi/v1/userListenToken",
        ] {
            for method in Method::ALL {
                let asked = Asked {
                    exchange: exchange.facts().name.to_owned(),
                    allowed: r#"["read","trade","account","transfer"]"#.to_owned(),
                    method: method.to_string(),
                    path: path.to_owned(),
                    params: "{}".to_owned(),
                    params_in: None,
                    more: String::new(),
                };
                // A row such as `/v1/order/{oid}` takes any word.
                let place = exchange
                    .table()
                    .find(method, path)
                    .is_some_and(|(_, row)| row.path.contains('{'));
                assert!(place || asked.is_refused(), "{}", asked.line());
            }
        }
    }
}

/// Every signed part of a login, beside the agent's own time, comes from a closed list or has one
/// fixed form.
#[test]
fn no_login_signs_a_text_of_the_clients() {
    let texts = [
        "GET\n/api/v2/private/withdraw?currency=BTC&address=x&amount=1\n\n",
        "currency=XBT&amount=1/api/v3/withdrawal",
        "POST/api/v3/withdrawals{}",
        "spot.orders&event=subscribe",
        "spot.unknown",
        "user&x",
        "POST",
        "",
        "7d0f3d1e-050f-4ba1-ac04-71f1596d8a1",
        "7d0f3d1e-050f-4ba1-ac04-71f1596d8a19 ",
        "7d0f3d1e\u{2010}050f-4ba1-ac04-71f1596d8a19",
    ];
    for exchange in ALL {
        let name = exchange.facts().name;
        let algorithm = exchange.facts().algorithms[0].name();
        for field in ["channel", "challenge", "purpose"] {
            for text in texts {
                let case = json!({
                    "id": "x", "exchange": name, "kind": "ws-login", field: text,
                    "auth": {
                        "alg": algorithm, "api_key": "k", "secret": "c2VjcmV0",
                        "secret_encoding": "base64", "now_ms": 1_700_000_000_123_u64,
                        "passphrase": "p",
                    },
                });
                let answer: Value =
                    serde_json::from_str(&case::answer(&case.to_string())).expect("JSON");
                assert!(answer["error"]["code"].is_string(), "{name} {field} {text:?}: {answer}");
            }
        }
    }
}

/// Documents that two parsers could read in different ways are refused.
#[test]
fn ambiguous_documents_are_refused_for_every_exchange() {
    let deep =
        |open: &str, close: &str| format!("{{\"a\":{}1{}}}", open.repeat(200), close.repeat(200));
    let documents = [
        r#"{"a":1,"a":2}"#.to_owned(),
        r#"{"x":{"a":1,"a":2}}"#.to_owned(),
        r#"{"x":[{"a":1,"a":1}]}"#.to_owned(),
        r#"{"a":1,"A":2}"#.to_owned(),
        r#"{"a":1,"\u0061":2}"#.to_owned(),
        r#"{"\u0061":2}"#.to_owned(),
        r#"{"a":"\ud800"}"#.to_owned(),
        r#"{"a":1}{"a":1}"#.to_owned(),
        r#"{"a":01}"#.to_owned(),
        r#"{"a":+1}"#.to_owned(),
        r#"{"a":NaN}"#.to_owned(),
        r#"{"a":1,}"#.to_owned(),
        r#"{'a':1}"#.to_owned(),
        r#"{"a":1/**/}"#.to_owned(),
        "\"a=1\"".to_owned(),
        "null".to_owned(),
        "1".to_owned(),
        deep("[", "]"),
        deep("{\"a\":", "}"),
        "[".repeat(1_000_000),
    ];
    for exchange in ALL {
        let row = &exchange.table().endpoints()[0];
        for document in &documents {
            let asked = Asked { params: document.clone(), ..Asked::of(exchange.facts().name, row) };
            assert!(
                asked.is_refused(),
                "{} {}",
                exchange.facts().name,
                &document[..document.len().min(80)]
            );
        }
    }
}
