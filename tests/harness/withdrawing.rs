//! An agent whose one client may withdraw if persons approve, and one request on its way.

use std::fs;
use std::time::Duration;

use countersign::{AgentClient, Error, SignCall};
use countersign_core::wire::admin::DoneReply;
use countersign_core::wire::{PendingRequest, SignReply};

use super::agent::{API_KEY, Agent, Launch, SECRET, call};
use super::person::Person;
use super::softhsm::SoftHsm;

pub(crate) const PATH: &str = "/sapi/v1/capital/withdraw/apply";
pub(crate) const ADDRESS: &str = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq";

/// An agent whose one client may withdraw up to 2 BTC a day to one place, with alice and bob as
/// approvers.
pub(crate) fn agent_with(approvers: &[&Person], agent_fields: &str) -> Agent {
    agent_on(SoftHsm::new(), Launch::default(), &keys_of(approvers), agent_fields)
}

/// Names and public keys as in `agent.toml`.
pub(crate) fn keys_of(persons: &[&Person]) -> Vec<(&'static str, String)> {
    persons.iter().map(|person| (person.name, person.public_key())).collect()
}

pub(crate) fn agent_on(
    token: SoftHsm,
    launch: Launch,
    approvers: &[(&str, String)],
    agent_fields: &str,
) -> Agent {
    let mut agent = Agent::start_with(token, launch, "keys = []\nscopes = [\"read\"]\n", "");
    agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
    let mut rest = format!(
        "[[destination]]\nlabel = \"cold storage\"\nasset = \"BTC\"\nnetwork = \"BTC\"\naddress = \
         \"{ADDRESS}\"\n\n\
         [transfer.BTC]\nper_day = \"2\"\napprovers = [{{ above = \"0\", count = 1 }}, {{ above = \
         \"1\", count = 2 }}]\n\n"
    );
    for (name, public_key) in approvers {
        rest.push_str(&format!("[approver.{name}]\nssh_key = \"{public_key}\"\n\n"));
    }
    agent.configure("keys = [\"binance-mm\"]\nscopes = [\"read\", \"withdraw\"]\n", &rest);
    let text = fs::read_to_string(agent.config_file()).expect("a configuration");
    fs::write(
        agent.config_file(),
        text.replacen("[agent]\n", &format!("[agent]\n{agent_fields}"), 1),
    )
    .expect("written");
    agent.restart();
    agent
}

pub(crate) fn withdrawal(amount: &str) -> SignCall {
    let params =
        format!(r#"{{"coin":"BTC","network":"BTC","address":"{ADDRESS}","amount":"{amount}"}}"#);
    call("binance-mm", "POST", PATH, &params)
}

/// Sends a withdrawal, and returns the entry under which it waits.
pub(crate) fn ask(client: &mut AgentClient, amount: &str) -> PendingRequest {
    match client.sign(&withdrawal(amount)) {
        Err(Error::Waits(waits)) => waits.pending,
        other => panic!("it does not wait: {other:?}"),
    }
}

pub(crate) fn approve(agent: &Agent, person: &Person, id: &str) -> Result<DoneReply, Error> {
    let mut admin = agent.admin();
    let pending = admin.pending().expect("answered").pending;
    let entry = pending.iter().find(|entry| entry.id == id).expect("it waits");
    admin.approve(id, &person.approve(&entry.statement, 1))
}

pub(crate) fn result(client: &mut AgentClient, id: &str) -> Result<SignReply, Error> {
    client.result(id, Duration::from_secs(10))
}
