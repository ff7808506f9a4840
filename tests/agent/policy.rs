//! What is refused, with which code, and that it is on record; limits over connections, restarts
//! and reloads.

use std::thread;

use countersign_core::wire::admin::ExplainRequest;

use super::*;
use crate::transport::served;

const WITHDRAWAL: &str = r#"{"coin":"BTC","network":"BTC",
    "address":"bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq","amount":"1"}"#;

/// What an address for deposits is asked for with is what another endpoint sends away.
const HIDDEN_WITHDRAWAL: &str = r#"{"coin":"BTC","network":"LIGHTNING","amount":"1"}"#;

#[test]
fn refusals_have_their_code_and_their_record() {
    let agent = Agent::with_binance(BOT);
    let cases = [
        ("POST", "/sapi/v1/capital/withdraw/apply", WITHDRAWAL, Code::PolicyScope),
        ("GET", "/api/v3/account", WITHDRAWAL, Code::RequestForbiddenParameter),
        ("GET", "/sapi/v1/capital/deposit/address", HIDDEN_WITHDRAWAL, Code::PolicyEffectiveScope),
        ("GET", "/api/v3/account", r#"{"timestamp":1}"#, Code::RequestForbiddenParameter),
        ("GET", "/api/v3/account", r#"{"recvWindow":60000}"#, Code::RequestForbiddenParameter),
        ("GET", "/api/v3/nothing", "{}", Code::RequestUnknownEndpoint),
        ("GET", "/api/v3/account/", "{}", Code::RequestUnknownEndpoint),
        ("GET", "/api/v3/../v3/account", "{}", Code::RequestMalformed),
        ("GET", "/api/v3/openOrders", r#"{"SYMBOL":"X"}"#, Code::RequestAmbiguous),
    ];
    for (method, path, params, expected) in cases {
        let refused = agent.sign("binance-mm", method, path, params).expect_err(path);
        let Error::Refused(refused) = refused else { panic!("{path}: {refused}") };
        assert_eq!(refused.known_code(), Some(expected), "{path} {params}");
        let id = refused.request_id.expect("an id");
        assert!(
            agent.journal().contains(&format!("\"kind\":\"refused\",\"request_id\":\"{id}\"")),
            "{path}"
        );
    }
    assert_eq!(code(agent.sign("none", "GET", "/api/v3/account", "{}")), Some(Code::KeyUnknown));
}

#[test]
fn a_withdrawal_within_all_limits_still_waits_for_a_person() {
    let allowed = format!(
        "[[destination]]\nlabel = \"cold\"\nasset = \"BTC\"\nnetwork = \"BTC\"\naddress = \
         \"{}\"\n\n[transfer.BTC]\n\
         per_request = \"2\"\nper_day = \"2\"\n",
        "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"
    );
    let bot = "keys = [\"binance-mm\"]\nscopes = [\"read\", \"withdraw\"]\n";
    let agent = Agent::start(bot, &allowed);
    agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
    let withdraw = |params: &str| {
        code(agent.sign("binance-mm", "POST", "/sapi/v1/capital/withdraw/apply", params))
    };
    assert_eq!(withdraw(WITHDRAWAL), Some(Code::ApprovalRequired));
    assert_eq!(withdraw(&WITHDRAWAL.replace("\"1\"", "\"3\"")), Some(Code::PolicyLimit));
    assert_eq!(
        withdraw(&WITHDRAWAL.replace("network\":\"BTC", "network\":\"BSC")),
        Some(Code::PolicyDestination)
    );
}

const LIMITED: &str = "keys = [\"binance-mm\"]\nscopes = [\"read\", \"trade\"]\nsymbols = \
                       [\"BTCUSDT\"]\n\
                       limit.USDT = { per_day = \"1000\" }\n";

/// 300 USDT each: three fit into the day's 1000.
#[test]
fn a_days_limit_holds_over_connections_and_restarts() {
    let mut agent = Agent::with_binance(LIMITED);
    let signed: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| agent.sign("binance-mm", "POST", "/api/v3/order", ORDER)))
            .collect();
        threads.into_iter().map(|thread| usize::from(thread.join().expect("ends").is_ok())).sum()
    });
    assert_eq!(signed, 3);
    for signal in [Signal::KILL, Signal::TERM] {
        agent.stop(signal);
        agent.restart();
        assert_eq!(
            code(agent.sign("binance-mm", "POST", "/api/v3/order", ORDER)),
            Some(Code::PolicyLimit)
        );
    }
    let small = ORDER.replace("0.01", "0.001");
    assert!(
        agent.sign("binance-mm", "POST", "/api/v3/order", &small).is_ok(),
        "30 of the 100 that are left"
    );
}

#[test]
fn what_the_token_was_never_asked_for_costs_nothing_of_the_limit() {
    let agent = Agent::with_binance(LIMITED);
    let (tokens, away) = (agent.token.tokens(), agent.path().join("away"));
    fs::rename(&tokens, &away).expect("moved");
    kill_process(Pid::from_raw(faults::host_of(&agent)).expect("a pid"), Signal::KILL)
        .expect("killed");
    agent.wait_until("the token is down", |agent| agent.tokens_are("down"));
    for _ in 0..5 {
        let order = agent.sign("binance-mm", "POST", "/api/v3/order", ORDER);
        assert_eq!(code(order), Some(Code::TokenUnavailable));
    }
    fs::rename(&away, &tokens).expect("moved back");
    agent.wait_until("the token is healthy", |agent| agent.tokens_are("healthy"));
    for _ in 0..3 {
        agent.sign("binance-mm", "POST", "/api/v3/order", ORDER).expect("300 of the day's 1000");
    }
    assert_eq!(
        code(agent.sign("binance-mm", "POST", "/api/v3/order", ORDER)),
        Some(Code::PolicyLimit)
    );
}

#[test]
fn those_who_are_no_clients_cannot_lock_a_client_out() {
    let agent = Agent::start("keys = []\nscopes = [\"read\"]\nsocket = \"DIR/bot.sock\"\n", "");
    let mut strangers: Vec<_> =
        (0..200).map(|_| Client::open(&agent.sockets()).expect("connects")).collect();
    let mut served = 0;
    for stranger in &mut strangers {
        stranger.connection().set_deadline(Duration::from_secs(5));
        served += usize::from(code(stranger.keys()) == Some(Code::ClientUnknown));
    }
    assert!((1..=32).contains(&served), "{served}");
    let own =
        Sockets { agent: agent.path().join("bot.sock"), admin: agent.path().join("admin.sock") };
    assert!(Client::open(&own).expect("connects").keys().is_ok());
}

#[test]
fn a_client_that_floods_makes_only_itself_wait() {
    let uid = rustix::process::getuid().as_raw();
    let other = format!(
        "[client.other]\nuser = {uid}\nkeys = [\"binance-mm\"]\nscopes = [\"read\"]\nsocket = \
         \"DIR/other.sock\"\n"
    );
    let agent = Agent::start(BOT, &other);
    agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
    let account = call("binance-mm", "GET", "/api/v3/account", "{}");
    thread::scope(|scope| {
        let flood: Vec<_> = (0..30)
            .map(|_| {
                scope.spawn(|| {
                    agent.client().sign_all(&vec![account.clone(); 400]).expect("answers")
                })
            })
            .collect();
        let own = Sockets {
            agent: agent.path().join("other.sock"),
            admin: agent.path().join("admin.sock"),
        };
        let mut quiet = Client::open(&own).expect("connects");
        for _ in 0..30 {
            quiet.sign(&account).expect("no refusal for another's flood");
        }
        for answers in flood {
            assert!(
                answers.join().expect("ends").into_iter().all(|answer| answer.is_ok()),
                "the flood only waits"
            );
        }
    });
}

#[test]
fn a_reload_is_all_or_nothing() {
    let agent = Agent::with_binance(BOT);
    let order = || code(agent.sign("binance-mm", "POST", "/api/v3/order", ORDER));
    agent.configure("keys = [\"binance-mm\"]\nscopes = [\"read\", \"no-such-scope\"]\n", "");
    agent.signal(Signal::HUP);
    agent.wait_until("the refused reload", |agent| agent.log().contains("no-such-scope"));
    assert_eq!(order(), None, "the old configuration stays in force");
    agent.configure("keys = [\"binance-mm\"]\nscopes = [\"read\"]\n", "");
    agent.signal(Signal::HUP);
    agent.wait_until("the new scopes", |_| order() == Some(Code::PolicyScope));
}

#[test]
fn the_lock_outlives_a_restart() {
    let mut agent = Agent::with_binance(BOT);
    agent.admin().lock().expect("locked");
    assert_eq!(
        code(agent.sign("binance-mm", "GET", "/api/v3/account", "{}")),
        Some(Code::AgentLocked)
    );
    agent.restart();
    assert_eq!(
        code(agent.sign("binance-mm", "GET", "/api/v3/account", "{}")),
        Some(Code::AgentLocked)
    );
    agent.admin().unlock().expect("unlocked");
    assert!(agent.sign("binance-mm", "GET", "/api/v3/account", "{}").is_ok());
}

#[test]
fn a_rate_is_kept() {
    let agent =
        Agent::with_binance("keys = [\"binance-mm\"]\nscopes = [\"read\"]\nrate = \"5/min\"\n");
    let calls: Vec<_> =
        (0..20).map(|_| call("binance-mm", "GET", "/api/v3/account", "{}")).collect();
    let replies = agent.client().sign_all(&calls).expect("answers");
    let (signed, refused): (Vec<_>, Vec<_>) = replies.into_iter().partition(Result::is_ok);
    assert_eq!(signed.len(), 5);
    assert!(refused.into_iter().all(|reply| code(reply) == Some(Code::PolicyRate)));
}

/// It is counted before anything of it is read: malformed ones are no way to have the agent work
/// for nothing.
#[test]
fn what_cannot_be_parsed_counts_against_the_rate_too() {
    for (name, good) in [
        (
            "sign@countersign",
            r#"{"v":1,"key":"binance-mm","method":"GET","path":"/api/v3/account","params":{}}"#,
        ),
        ("session@countersign", r#"{"v":1,"key":"binance-mm","session":"ws"}"#),
    ] {
        let agent =
            Agent::with_binance("keys = [\"binance-mm\"]\nscopes = [\"read\"]\nrate = \"5/min\"\n");
        let mut client = served::Client::connect(&agent.path().join("agent.sock"));
        for bad in [
            "{",
            "",
            "[]",
            r#"{"v":1,"key":"binance-mm"}"#,
            r#"{"v":1,"key":{"a":[[[[[[[[[[1]]]]]]]]]]}}"#,
        ] {
            let answer = client.ask(name, bad);
            assert!(answer.contains("\"request."), "{name} {bad}: {answer}");
        }
        for payload in ["{", good] {
            let answer = client.ask(name, payload);
            assert!(answer.contains("\"policy.rate\""), "{name} {payload}: {answer}");
        }
    }
}

/// A bot that asks for too much can still take back what it asked for.
#[test]
fn to_cancel_is_never_refused_for_want_of_a_budget() {
    let agent =
        Agent::with_binance("keys = [\"binance-mm\"]\nscopes = [\"read\"]\nrate = \"5/min\"\n");
    let mut client = served::Client::connect(&agent.path().join("agent.sock"));
    let mut asked = |name: &str, payload: &str| client.ask(name, payload);
    while !asked("sign@countersign", "{").contains("\"policy.rate\"") {}
    // The budget of everything else: 200 a second.
    let refused = (0..3_000).map(|_| asked("status@countersign", r#"{"v":1}"#));
    let refused = refused.filter(|answer| answer.contains("\"policy.rate\"")).count();
    assert!(refused > 0, "it is used up");
    for _ in 0..300 {
        let answer =
            asked("cancel@countersign", r#"{"v":1,"id":"01920000-0000-7000-8000-000000000000"}"#);
        assert!(answer.contains("approval.unknown") || answer.contains("request."), "{answer}");
        assert!(!answer.contains("policy.rate"), "{answer}");
    }
}

#[test]
fn an_explanation_names_the_rule_and_what_else_would_open() {
    let agent = Agent::with_binance(BOT);
    let ask = |path: &str, params: &str| {
        let request = ExplainRequest {
            v: 1,
            client: "bot".to_owned(),
            key: "binance-mm".to_owned(),
            method: "GET".to_owned(),
            path: path.to_owned(),
            params: Some(Value::parse(params).expect("JSON")),
            params_in: None,
            host: None,
        };
        agent.admin().explain(&request).expect("explained")
    };
    let hidden = ask("/sapi/v1/capital/deposit/address", HIDDEN_WITHDRAWAL);
    assert_eq!((hidden.decision.as_str(), hidden.code), ("deny", Some(Code::PolicyEffectiveScope)));
    assert!(
        hidden
            .neighbours
            .iter()
            .any(|other| other.path == "/sapi/v1/w3w/wallet/prediction/withdraw/apply")
    );
    assert!(hidden.transfers.iter().any(|transfer| transfer.asset.is_some()));
    assert!(!hidden.residual.is_empty());
    assert_eq!(ask("/api/v3/account", "{}").decision, "allow");
    let journal = agent.journal();
    assert!(!journal.contains("\"kind\":\"intent\""), "an explanation signs nothing");
}

#[test]
fn events_are_the_journal() {
    let agent = Agent::with_binance(BOT);
    let seen = agent.admin().events(0, Duration::ZERO).expect("events");
    let kinds: Vec<_> =
        seen.records.iter().filter_map(|record| record.member("kind")?.scalar()).collect();
    assert_eq!(kinds.first(), Some(&"segment"), "{kinds:?}");
    assert!(kinds.contains(&"key_added") && kinds.contains(&"opened"), "{kinds:?}");
    let later = thread::scope(|scope| {
        let waiting = scope
            .spawn(|| agent.admin().events(seen.last, Duration::from_secs(10)).expect("events"));
        thread::sleep(Duration::from_millis(100));
        agent.sign("binance-mm", "GET", "/api/v3/account", "{}").expect("signed");
        waiting.join().expect("ends")
    });
    assert_eq!(
        later.records.first().and_then(|record| record.member("kind")?.scalar()),
        Some("intent")
    );
}

#[test]
fn a_client_without_a_name_gets_nothing() {
    let agent = Agent::start("keys = []\nscopes = [\"read\"]\nsocket = \"DIR/bot.sock\"\n", "");
    assert_eq!(
        code(agent.sign("binance-mm", "GET", "/api/v3/account", "{}")),
        Some(Code::ClientUnknown)
    );
}
