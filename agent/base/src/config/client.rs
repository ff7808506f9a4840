//! Reads `[client.NAME]`: a client that may connect, and its rights.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;

use countersign_core::decimal::Amount;
use countersign_core::policy::{Client, Release, SpendLimit};
use countersign_core::scope::{Scope, Scopes};
use toml::de::DeValue;

use super::agent::{AgentSettings, AgentSpans};
use super::facts::SystemFacts;
use super::fields::{FieldValue, Fields, wrong_type};
use super::problem::{ConfigProblem, Problems};
use super::token::check_name;
use super::value;

/// A client, and the places in the file of the two values that must not collide with another
/// client's.
pub(super) struct ReadClient {
    pub(super) client: Client,
    pub(super) socket: Option<PathBuf>,
    user_at: Range<usize>,
    socket_at: Range<usize>,
}

/// Reads one client. `None` if its user or its socket could not be read.
pub(super) fn read(name: &str, mut fields: Fields<'_>, facts: &SystemFacts) -> Option<ReadClient> {
    check_name(name, &fields);
    let user_at = fields.span("user").unwrap_or(fields.at());
    let socket_at = fields.span("socket").unwrap_or(fields.at());
    let symbols_at = fields.span("symbols");
    let uid = fields.required("user", "\"mm-bot\"", |value, problems| user(value, facts, problems));
    let keys = fields.required("keys", "[\"binance-mm\"]", |value, problems| {
        value::list(value, problems, value::key_name)
    });
    let scopes = fields.required("scopes", "[\"read\"]", scopes);
    let symbols = fields.optional("symbols", symbols);
    let max_quantity = fields.optional("max_quantity", |value, problems| {
        quantities(value, symbols.as_ref(), symbols_at.as_ref(), problems)
    });
    let client = Client {
        name: name.to_owned(),
        uid: uid.unwrap_or(u32::MAX),
        keys: keys.unwrap_or_default(),
        scopes: scopes.unwrap_or_default(),
        symbols,
        max_quantity: max_quantity.unwrap_or_default(),
        limits: fields
            .optional("limit", |value, problems| limits(name, value, problems))
            .unwrap_or_default(),
        rate: fields.optional("rate", value::rate),
        unbound: fields.optional("unbound", unbound).unwrap_or_default(),
    };
    let has_socket = fields.span("socket").is_some();
    let socket = fields.optional("socket", value::socket);
    fields.finish();
    let is_known = uid.is_some() && has_socket == socket.is_some();
    is_known.then_some(ReadClient { client, socket, user_at, socket_at })
}

fn user(value: FieldValue<'_>, facts: &SystemFacts, problems: &Problems) -> Option<u32> {
    const LARGEST_UID: u32 = u32::MAX - 2; // the last two stand for "nobody known"
    match value.get_ref() {
        DeValue::Integer(_) => value::integer(value, 0..=LARGEST_UID, problems),
        DeValue::String(_) => {
            let name = value::text(value, problems)?;
            problems.keep((facts.user_id)(name).ok_or_else(|| {
                ConfigProblem::new(
                    value.span(),
                    "expected a user of this machine",
                    "no such user",
                    "make it first (useradd --system NAME), or write its uid as a number without \
                     quotes",
                )
            }))
        }
        _ => problems.refuse(wrong_type(
            value,
            "a user",
            "a name in quotes, or a uid without quotes",
        )),
    }
}

fn scopes<'a>(value: FieldValue<'a>, problems: &'a Problems) -> Option<Scopes> {
    let names = Scope::ALL.map(|scope| (scope.name(), scope));
    let help = format!("name what it may do: {}", Scope::ALL.map(Scope::name).join(", "));
    let scopes = value::filled_list(value, &help, problems, |value, problems| {
        value::one_of(value, &names, problems)
    });
    scopes.map(Scopes::from_iter)
}

fn symbols<'a>(value: FieldValue<'a>, problems: &'a Problems) -> Option<BTreeSet<String>> {
    value::filled_list(
        value,
        "name the symbols, or leave the field out to allow any",
        problems,
        |value, problems| value::instrument(value, problems).map(str::to_owned),
    )
}

fn unbound(value: FieldValue<'_>, problems: &Problems) -> Option<Release> {
    value::one_of(
        value,
        &[("forward", Release::Forward), ("signature", Release::Signature)],
        problems,
    )
}

/// Reads `max_quantity`. It refuses a symbol that the client may not trade: the symbol that was
/// meant would have no limit.
fn quantities(
    value: FieldValue<'_>,
    symbols: Option<&BTreeSet<String>>,
    symbols_at: Option<&Range<usize>>,
    problems: &Problems,
) -> Option<BTreeMap<String, Amount>> {
    let table = value::table(value, problems)?;
    if table.is_empty() {
        problems.add(ConfigProblem::new(
            value.span(),
            "expected at least one symbol",
            "it is empty",
            "leave it out",
        ));
    }
    let mut quantities = BTreeMap::new();
    for (key, value) in table {
        let (Some(symbol), Some(limit)) =
            (value::instrument_key(key, problems), value::limit(value, problems))
        else {
            continue;
        };
        if let (Some(symbols), Some(at)) = (symbols, symbols_at)
            && !symbols.contains(symbol)
        {
            problems.add(
                ConfigProblem::new(
                    key.span(),
                    "expected one of the client's symbols",
                    "not among them",
                    "correct it, or add it to symbols",
                )
                .also(at.clone(), "these are the client's"),
            );
        }
        quantities.insert(symbol.to_owned(), limit);
    }
    Some(quantities)
}

fn limits(
    client: &str,
    value: FieldValue<'_>,
    problems: &Problems,
) -> Option<BTreeMap<String, SpendLimit>> {
    let assets = value::table(value, problems)?;
    if assets.is_empty() {
        let help = "leave it out, or limit.USDT = { per_day = \"…\" }";
        problems.add(ConfigProblem::new(
            value.span(),
            "expected at least one asset",
            "it is empty",
            help,
        ));
    }
    let mut limits = BTreeMap::new();
    for (asset, table) in assets {
        let Some(name) = value::instrument_key(asset, problems) else { continue };
        let Some(entries) = value::table(table, problems) else { continue };
        let mut fields =
            Fields::new(format!("[client.{client}] limit.{name}"), asset.span(), entries, problems);
        limits.insert(name.to_owned(), spend_limit(&mut fields));
        if entries.is_empty() {
            let problem = ConfigProblem::new(
                asset.span(),
                "expected a limit",
                "it limits nothing",
                "{ per_request = \"…\", per_day = \"…\" }, one of them or both",
            );
            problems.add(problem);
        }
        fields.finish();
    }
    Some(limits)
}

pub(super) fn spend_limit(fields: &mut Fields<'_>) -> SpendLimit {
    SpendLimit {
        per_request: fields.optional("per_request", value::limit),
        per_day: fields.optional("per_day", value::limit),
    }
}

/// Refuses clients that could not be told apart, and sockets that are named twice.
pub(super) fn check_together(
    clients: &[ReadClient],
    agent: &AgentSettings,
    spans: &AgentSpans,
    facts: &SystemFacts,
    problems: &Problems,
) {
    check_agent_sockets(agent, spans, problems);
    for (index, this) in clients.iter().enumerate() {
        let before = &clients[..index];
        check_user(this, before, problems);
        check_socket(this, before, agent, problems);
        if this.client.uid == facts.own_uid && !agent.allow_same_user {
            problems.add(ConfigProblem::new(
                this.user_at.clone(),
                "expected a user of its own",
                "this is the agent's own user",
                "a client with the agent's user can read all the agent reads; run the client as \
                 another user or, \
                     for a trial, set in [agent]: allow_same_user = true",
            ));
        }
    }
}

fn check_agent_sockets(agent: &AgentSettings, spans: &AgentSpans, problems: &Problems) {
    if agent.socket != agent.admin_socket {
        return;
    }
    // The two defaults are never the same, so the file names at least one of the two sockets.
    if let Some(at) = spans.admin_socket.clone().or(spans.socket.clone()) {
        let problem = ConfigProblem::new(
            at,
            "expected two sockets",
            "the agent's and the admin socket are one",
            "clients must not reach the admin socket: give it another path",
        );
        problems.add(problem);
    }
}

/// Refuses two clients with one uid on the agent's socket: there a client is known by its uid
/// alone.
fn check_user(this: &ReadClient, before: &[ReadClient], problems: &Problems) {
    let same = |other: &&ReadClient| other.socket.is_none() && other.client.uid == this.client.uid;
    let Some(other) = before.iter().find(same).filter(|_| this.socket.is_none()) else { return };
    problems.add(
        ConfigProblem::new(
            this.user_at.clone(),
            "two clients with one uid need two sockets",
            "the same uid",
            "give one of them a socket = \"…\" of its own, or run it as another user",
        )
        .also(other.user_at.clone(), format!("[client.{}] has it already", other.client.name)),
    );
}

fn check_socket(
    this: &ReadClient,
    before: &[ReadClient],
    agent: &AgentSettings,
    problems: &Problems,
) {
    let Some(socket) = &this.socket else { return };
    let problem = |found: &str| {
        ConfigProblem::new(
            this.socket_at.clone(),
            "expected a socket of the client's own",
            found,
            "give it another path",
        )
    };
    if let Some(other) = before.iter().find(|other| other.socket.as_ref() == Some(socket)) {
        let label = format!("[client.{}] has it already", other.client.name);
        problems.add(problem("two clients with one socket").also(other.socket_at.clone(), label));
    }
    if *socket == agent.socket {
        problems.add(problem("this is the agent's socket"));
    }
    if *socket == agent.admin_socket {
        problems.add(problem("this is the admin socket"));
    }
}
