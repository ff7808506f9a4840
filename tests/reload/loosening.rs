//! Changes that loosen something wait for an approver's touch; those that tighten do not.

use std::fs;
use std::sync::Arc;

use countersign_core::approval::{Purpose, Statement, Subject};
use countersign_core::audit;
use countersign_core::refusal::Code;
use countersign_core::wire::PlainRequest;
use countersign_core::wire::admin::{self, ChangeEntry, DoneReply};
use countersign_front::ledger::segment::SegmentDir;
use countersign_front::ledger::storage::Disk;
use rustix::process::Signal;

use crate::harness::agent::{API_KEY, Agent, SECRET, call, code};
use crate::harness::person::Person;

const BOT: &str = "keys = [\"binance-mm\"]\nscopes = [\"read\", \"trade\"]\n";
const WIDER: &str = "keys = [\"binance-mm\"]\nscopes = [\"read\", \"trade\", \"transfer\"]\n";

fn rest(per_day: &str, approvers: &[&Person]) -> String {
    let mut rest = format!("[transfer.BTC]\nper_day = \"{per_day}\"\n\n");
    for person in approvers {
        rest.push_str(&format!(
            "[approver.{}]\nssh_key = \"{}\"\n\n",
            person.name,
            person.public_key()
        ));
    }
    rest
}

fn agent_of(alice: &Person) -> Agent {
    let mut agent = Agent::start("keys = []\nscopes = [\"read\"]\n", "");
    agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
    agent.configure(BOT, &rest("2", &[alice]));
    agent.restart();
    agent
}

fn reload(agent: &Agent) -> DoneReply {
    agent
        .admin()
        .connection()
        .call(admin::RELOAD, &PlainRequest::NOW)
        .expect("a sound configuration")
}

fn change(agent: &Agent) -> Option<ChangeEntry> {
    let mut changes = agent.admin().pending().expect("answered").changes;
    assert!(changes.len() < 2, "{changes:?}");
    changes.pop()
}

fn loosens(change: &ChangeEntry) -> Vec<String> {
    match &change.statement.subject {
        Subject::Configuration { loosens, .. } => loosens.clone(),
        other => panic!("{other:?}"),
    }
}

fn signs(agent: &Agent) -> Result<(), Code> {
    let order = r#"{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT","quantity":"0.01",
        "price":"30000","timeInForce":"GTC"}"#;
    code(agent.client().sign(&call("binance-mm", "POST", "/api/v3/order", order)))
}

fn transfers(agent: &Agent) -> Result<(), Code> {
    let params = r#"{"type":"MAIN_UMFUTURE","asset":"BTC","amount":"0.1"}"#;
    code(agent.client().sign(&call("binance-mm", "POST", "/sapi/v1/asset/transfer", params)))
}

fn audited(agent: &Agent) {
    let segments = SegmentDir::new(Arc::new(Disk), &agent.state_dir());
    assert_eq!(audit::verify(&segments, None, &mut |_, _| {}).expect("read").problems, []);
}

#[test]
fn unlocking_takes_an_approvers_touch_and_locking_takes_none() {
    let (alice, mallory) = (Person::new("alice", 1), Person::new("mallory", 3));
    let mut agent = agent_of(&alice);
    assert_eq!(signs(&agent), Ok(()));
    agent.admin().lock().expect("locked");
    let asked = agent.admin().unlock().expect("answered").pending.expect("it waits");
    assert_eq!(signs(&agent), Err(Code::AgentLocked));
    // A lock survives the restart, a request to unlock does not.
    agent.restart();
    assert_eq!(signs(&agent), Err(Code::AgentLocked));
    assert!(change(&agent).is_none());
    assert_eq!(code(agent.admin().approve(&asked.id, "late")), Err(Code::RequestMalformed));
    agent.admin().unlock().expect("answered");
    let waits = change(&agent).expect("it waits");
    assert_eq!(
        (waits.statement.purpose, &waits.statement.subject),
        (Purpose::Change, &Subject::Unlock)
    );
    let as_approval = Statement { purpose: Purpose::Approval, ..waits.statement.clone() };
    let of_another = Statement { agent: "another".to_owned(), ..waits.statement.clone() };
    for sshsig in [
        "nonsense".to_owned(),
        alice.approve(&waits.statement, 0),
        alice.approve(&as_approval, 1),
        alice.approve(&of_another, 1),
        mallory.approve(&waits.statement, 1),
    ] {
        assert_eq!(
            code(agent.admin().approve(&waits.id, &sshsig)),
            Err(Code::ApprovalRequired),
            "{sshsig}"
        );
        assert_eq!(signs(&agent), Err(Code::AgentLocked));
    }
    let signature = alice.approve(&waits.statement, 1);
    let done = agent.admin().approve(&waits.id, &signature).expect("approved");
    assert_eq!(done.done, "approved by alice: unlocked");
    assert_eq!(signs(&agent), Ok(()));
    // One signature unlocks once.
    agent.admin().lock().expect("locked");
    agent.admin().unlock().expect("answered");
    let again = change(&agent).expect("it waits");
    assert_eq!(code(agent.admin().approve(&again.id, &signature)), Err(Code::ApprovalRequired));
    // Locking once more takes back the request to unlock.
    agent.admin().lock().expect("locked");
    assert!(change(&agent).is_none());
    audited(&agent);
    assert_eq!(agent.journal().matches("\"kind\":\"approval\"").count(), 1);
}

#[test]
fn a_looser_configuration_waits_and_a_tighter_one_does_not() {
    let alice = Person::new("alice", 1);
    let mut agent = agent_of(&alice);
    agent.configure(BOT, &rest("1", &[&alice]));
    assert!(reload(&agent).pending.is_none());
    agent.configure(WIDER, &rest("3", &[&alice, &Person::new("bob", 2)]));
    let reply = reload(&agent);
    let waits = change(&agent).expect("it waits");
    assert_eq!(reply.pending.expect("it waits").id, waits.id);
    let told = loosens(&waits);
    for sentence in [
        "[approver.bob] is new",
        "[approver.bob] person: bob",
        "[approver.bob] key: SHA256:",
        "[client.bot] scopes: also transfer",
        "[transfer.BTC] per_day: from 1 to 3",
    ] {
        assert!(told.iter().any(|one| one.starts_with(sentence)), "{sentence}: {told:?}");
    }
    assert_eq!(told.len(), 5, "{told:?}");
    let Subject::Configuration { diff, .. } = &waits.statement.subject else { panic!("{waits:?}") };
    assert!(diff.contains("-per_day = \"1\"\n+per_day = \"3\"\n"), "{diff}");
    assert_eq!(transfers(&agent), Err(Code::PolicyScope));
    assert!(
        agent
            .admin()
            .status()
            .expect("answered")
            .warnings
            .iter()
            .any(|warning| warning.contains(&waits.id))
    );
    // Neither a signal nor a restart gets around the approval.
    agent.configure(WIDER, &rest("4", &[&alice, &Person::new("bob", 2)]));
    agent.signal(Signal::HUP);
    agent.wait_until("the signal asks for an approval", |agent| {
        change(agent).is_some_and(|change| {
            loosens(&change).contains(&"[transfer.BTC] per_day: from 1 to 4".to_owned())
        })
    });
    assert_eq!(transfers(&agent), Err(Code::PolicyScope));
    agent.restart();
    assert_eq!(transfers(&agent), Err(Code::PolicyScope));
    let waits = change(&agent).expect("found at the start");
    let done =
        agent.admin().approve(&waits.id, &alice.approve(&waits.statement, 1)).expect("approved");
    assert!(
        done.done.starts_with("approved by alice: the configuration is in force: "),
        "{}",
        done.done
    );
    assert_eq!(transfers(&agent), Ok(()));
    agent.restart();
    assert!(change(&agent).is_none());
    assert_eq!(transfers(&agent), Ok(()));
    audited(&agent);
}

#[test]
fn nobody_is_left_unasked() {
    let alice = Person::new("alice", 1);
    let mut agent = agent_of(&alice);
    // Without an approver the next change would need none.
    agent.configure(BOT, &rest("2", &[]));
    reload(&agent);
    assert_eq!(loosens(&change(&agent).expect("it waits")).len(), 1);
    let first = change(&agent).expect("it waits");
    // A change that was asked for under another configuration cannot be approved under this one.
    agent.configure(BOT, &rest("1", &[&alice]));
    assert!(reload(&agent).pending.is_none());
    assert_eq!(
        code(agent.admin().approve(&first.id, &alice.approve(&first.statement, 1))),
        Err(Code::RequestMalformed)
    );
    agent.configure(WIDER, &rest("1", &[&alice]));
    let denied = reload(&agent).pending.expect("it waits");
    agent.admin().deny(&denied.id).expect("denied");
    assert!(change(&agent).is_none());
    assert_eq!(transfers(&agent), Err(Code::PolicyScope));
    // If the accepted configuration cannot be read any more, the agent takes no other.
    agent.stop(Signal::TERM);
    let accepted = agent.state_dir().join("accepted.toml");
    let text = fs::read_to_string(&accepted).expect("kept");
    fs::write(&accepted, text.replace("per_day = \"1\"", "per_day = \"9\"")).expect("written");
    let run = agent.run_to_its_end();
    let says = String::from_utf8_lossy(&run.stderr);
    assert_eq!(
        (run.status.code(), says.contains("is not what was accepted")),
        (Some(78), true),
        "{says}"
    );
}

fn refused_reload(agent: &Agent) -> String {
    let outcome = agent.admin().connection().call::<DoneReply>(admin::RELOAD, &PlainRequest::NOW);
    outcome.expect_err("more than a person can be shown").to_string()
}

const COMMENT: &str =
    "# a comment of the operator's, about as long as the lines of such a file usually are\n";

const ADDRESS: &str = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq";

fn cold(comments: usize) -> String {
    let section = "[[destination]]\nlabel = \"cold\"\nasset = \"BTC\"\nnetwork = \"BTC\"\n";
    format!("{}{section}address = \"{ADDRESS}\"\nmemo = \"77\"\n\n", COMMENT.repeat(comments))
}

#[test]
fn a_new_destination_is_signed_for_whatever_stands_before_it() {
    let alice = Person::new("alice", 1);
    let agent = agent_of(&alice);
    agent.configure(BOT, &format!("{}{}", cold(400), rest("2", &[&alice])));
    reload(&agent);
    let waits = change(&agent).expect("it waits");
    assert_eq!(
        loosens(&waits),
        ["[[destination]] \"cold\" is new: asset BTC, network BTC, address \"bc1q ar0s rrr7 \
             xfkv y5l6 43ly dnw9 re59 gtzz \
          wf5m dq\", memo \"77\""]
    );
    let Subject::Configuration { diff, .. } = &waits.statement.subject else { panic!("{waits:?}") };
    assert!(diff.contains(&format!("+address = \"{ADDRESS}\"\n")), "{diff}");
    assert_eq!(
        diff.matches(&format!("+{COMMENT}")).count(),
        400,
        "every line that differs is there"
    );
    let done =
        agent.admin().approve(&waits.id, &alice.approve(&waits.statement, 1)).expect("approved");
    assert!(done.done.contains("1 destination"), "{}", done.done);
    audited(&agent);
}

#[test]
fn what_does_not_fit_whole_is_not_proposed() {
    let alice = Person::new("alice", 1);
    let mut agent = agent_of(&alice);
    let hidden = format!("{}{}", cold(1_000), rest("2", &[&alice]));
    let warned = |agent: &Agent| {
        let warnings = agent.admin().status().expect("answered").warnings;
        warnings.iter().any(|warning| {
            warning
                .contains("agent.toml is looser than what is in force: the list of what it loosens")
        })
    };
    agent.configure(BOT, &hidden);
    let refused = refused_reload(&agent);
    assert!(refused.contains("an approver is shown 65536 at most: split it"), "{refused}");
    assert!((change(&agent).is_none(), warned(&agent)) == (true, true));
    // It takes the place of an older change that waits, so that nobody approves an outdated one.
    agent.configure(WIDER, &rest("2", &[&alice]));
    reload(&agent);
    assert!(change(&agent).is_some());
    agent.configure(BOT, &hidden);
    refused_reload(&agent);
    assert!(change(&agent).is_none());
    // Too many sentences are refused as well: 201 symbols with a bound that rises.
    let bounds = |bound: u32| {
        let each: Vec<String> = (0..201).map(|number| format!("S{number} = \"{bound}\"")).collect();
        format!("{BOT}max_quantity = {{ {} }}\n", each.join(", "))
    };
    agent.configure(&bounds(1), &rest("2", &[&alice]));
    assert!(reload(&agent).pending.is_none());
    assert!(!warned(&agent));
    agent.configure(&bounds(2), &rest("2", &[&alice]));
    let refused = refused_reload(&agent);
    assert!(
        refused.contains("it loosens 201 things, and an approver is shown 200 at most: split it"),
        "{refused}"
    );
    // A start does not get around it.
    agent.configure(BOT, &rest("2", &[&alice]));
    reload(&agent);
    let waits = change(&agent).expect("it waits");
    agent.admin().approve(&waits.id, &alice.approve(&waits.statement, 1)).expect("approved");
    agent.configure(BOT, &hidden);
    agent.restart();
    assert!((change(&agent).is_none(), warned(&agent)) == (true, true));
    assert!(
        !fs::read_to_string(agent.state_dir().join("accepted.toml"))
            .expect("kept")
            .contains(ADDRESS)
    );
    // The operator splits the change, as the message says.
    agent.configure(BOT, &format!("{}{}", COMMENT.repeat(1_000), rest("2", &[&alice])));
    assert!(reload(&agent).pending.is_none());
    agent.configure(BOT, &hidden);
    reload(&agent);
    assert!(loosens(&change(&agent).expect("it waits"))[0].contains("bc1q ar0s"));
    assert!(!warned(&agent));
}
