//! What another configuration allows that the one in force does not.
//!
//! A list of differences that are known to tighten, not of those that loosen: what is not seen to be tighter is looser.

use std::collections::{BTreeMap, BTreeSet};

use countersign_core::decimal::Amount;
use countersign_core::policy::{Client, Policy, Rate, Release, TransferRule};

use super::{AgentSettings, Approver, Config, TokenConfig};
use crate::confine::Demand;
use crate::host::settings::{PinSource, TokenSettings};

/// What `after` loosens, one sentence each; empty where it allows nothing that `before` would not. `in_use` are the tokens
/// that hold keys.
///
/// Here and below every field is taken apart by its name: a new one does not compile before it is judged.
pub fn loosened(before: &Config, after: &Config, in_use: &BTreeSet<String>) -> Vec<String> {
    let Config { agent: _, tokens: _, policy, client_sockets: _, approvers: _, warnings: _, text: _ } = after;
    let Policy { clients: _, destinations: _, transfers: _, approvers: _, approval_timeout_ms: _, sha256: _ } = policy;
    let mut found = Vec::new();
    agent(&before.agent, &after.agent, &mut found);
    tokens(before, after, in_use, &mut found);
    approvers(before, after, &mut found);
    for client in &after.policy.clients {
        let name = &client.name;
        match before.policy.client(name) {
            None => found.push(format!("[client.{name}] is new")),
            Some(known) => {
                let socket = |config: &Config| config.client_sockets.get(name).cloned();
                if socket(before) != socket(after) {
                    found.push(format!("[client.{name}] socket is another"));
                }
                self::client(known, client, &mut found);
            }
        }
    }
    for destination in &after.policy.destinations {
        if !before.policy.destinations.contains(destination) {
            found.push(format!("[[destination]] {:?} is new, or not as it was", destination.label));
        }
    }
    for (asset, rule) in &after.policy.transfers {
        match before.policy.transfers.get(asset) {
            None => found.push(format!("[transfer.{asset}] is new")),
            Some(known) => transfer(asset, known, rule, &mut found),
        }
    }
    found
}

fn agent(before: &AgentSettings, after: &AgentSettings, found: &mut Vec<String>) {
    let strength = |demand| match demand {
        Demand::Off => 0,
        Demand::Available => 1,
        Demand::Required => 2,
    };
    let AgentSettings {
        state_dir,
        socket,
        admin_socket,
        approval_timeout,
        allow_software_tokens,
        allow_same_user,
        synced,
        confinement,
        vault_dir,
        vault_socket,
    } = after;
    let looser = [
        ("allow_software_tokens", *allow_software_tokens && !before.allow_software_tokens),
        ("allow_same_user", *allow_same_user && !before.allow_same_user),
        ("approval_timeout_s", *approval_timeout > before.approval_timeout),
        ("durability", before.synced && !synced),
        ("confinement", strength(*confinement) < strength(before.confinement)),
        ("admin_socket", *admin_socket != before.admin_socket),
        ("socket", *socket != before.socket),
        ("state_dir", *state_dir != before.state_dir),
        ("vault_dir", *vault_dir != before.vault_dir),
        ("vault_socket", *vault_socket != before.vault_socket),
    ];
    let sentences = looser.into_iter().filter(|(_, looser)| *looser);
    found.extend(sentences.map(|(field, _)| format!("[agent] {field} is not as it was")));
}

/// A token that holds keys is what it was, or is gone. Another one may be added, with a module that its profile knows: it holds no
/// key yet.
fn tokens(before: &Config, after: &Config, in_use: &BTreeSet<String>, found: &mut Vec<String>) {
    for token in &after.tokens {
        let name = &token.settings.name;
        match before.tokens.iter().find(|known| known.settings.name == *name) {
            Some(known) if is_as_before(known, token) => {}
            Some(_) => found.push(format!("[token.{name}] is not as it was")),
            None if loads_anything(token) => found.push(format!("[token.{name}] is new, and names what it loads")),
            None if in_use.contains(name) => found.push(format!("[token.{name}] is new, and keys name it")),
            None => {}
        }
    }
}

fn loads_anything(token: &TokenConfig) -> bool {
    token.settings.module.is_some() || token.settings.profile.starts_with('/')
}

fn is_as_before(before: &TokenConfig, after: &TokenConfig) -> bool {
    let (mut known, settings) = (apart(&before.settings), apart(&after.settings));
    // A PIN that is sealed lies nowhere any more.
    if settings.is_sealed() && !known.is_sealed() {
        known.pin = settings.pin.clone();
    }
    known == settings && before.profile == after.profile && before.tier == after.tier
}

/// Without what every token has from `[agent]`, which is compared there.
fn apart(settings: &TokenSettings) -> TokenSettings {
    let mut settings = settings.clone();
    settings.allow_software_tokens = false;
    settings.confinement = Demand::default();
    settings.state_dir.clear();
    if let PinSource::Sealed(sealed) = &mut settings.pin {
        sealed.by = sealed.by.iter().map(apart).collect();
    }
    settings
}

fn approvers(before: &Config, after: &Config, found: &mut Vec<String>) {
    let known = |approver: &Approver| before.approvers.iter().find(|known| known.name == approver.name);
    for (index, approver) in after.approvers.iter().enumerate() {
        let Approver { name, person: _, proof } = approver;
        if known(approver).is_none_or(|known| known.proof != *proof) {
            found.push(format!("[approver.{name}] is new, or not as it was"));
        }
        let parted = after.approvers[..index].iter().find(|other| {
            let were = known(approver).zip(known(other)).is_some_and(|(one, other)| one.person == other.person);
            were && approver.person != other.person
        });
        if let Some(other) = parted {
            found.push(format!("[approver.{}] and [approver.{}] count as two persons", other.name, approver.name));
        }
    }
    // Without one nobody is asked about the next change.
    if after.policy.approvers.is_empty() && !before.policy.approvers.is_empty() {
        found.push("no [approver] is left: looser rules would be in force without anybody's touch".to_owned());
    }
}

fn client(before: &Client, after: &Client, found: &mut Vec<String>) {
    let Client { name: _, uid, keys, scopes, symbols, max_quantity, limits, rate, unbound } = after;
    let symbols = match (&before.symbols, symbols) {
        // A symbol without a quantity may be traded once it is in a list, and only then.
        (None, Some(listed)) if !before.max_quantity.is_empty() => {
            listed.iter().any(|symbol| !max_quantity.contains_key(symbol))
        }
        (None, _) => false,
        (Some(_), None) => true,
        (Some(before), Some(after)) => !after.is_subset(before),
    };
    let forward = before.unbound == Release::Forward && *unbound != Release::Forward;
    let looser = [
        ("user", before.uid != *uid),
        ("keys", !keys.is_subset(&before.keys)),
        ("scopes", !scopes.without(before.scopes).is_empty()),
        ("symbols", symbols),
        ("max_quantity", !caps(&before.max_quantity, max_quantity)),
        ("limit", !caps(&before.limits, limits)),
        ("rate", !self::rate(before.rate, *rate)),
        ("unbound", forward),
    ];
    let sentences = looser.into_iter().filter(|(_, looser)| *looser);
    found.extend(sentences.map(|(field, _)| format!("{} allows more", after.rule(field))));
}

/// A bound that `after` keeps or narrows.
trait Bound {
    fn holds(&self, after: &Self) -> bool;
}

impl Bound for Amount {
    fn holds(&self, after: &Self) -> bool {
        after <= self
    }
}

impl Bound for Option<Amount> {
    fn holds(&self, after: &Self) -> bool {
        self.is_none_or(|before| after.is_some_and(|after| after <= before))
    }
}

impl Bound for countersign_core::policy::SpendLimit {
    fn holds(&self, after: &Self) -> bool {
        let Self { per_request, per_day } = after;
        self.per_request.holds(per_request) && self.per_day.holds(per_day)
    }
}

/// The same names, each with as narrow a bound. Without any there was no bound at all; a name more or less in a list changes
/// what the others mean, so that is not compared any further.
fn caps<T: Bound>(before: &BTreeMap<String, T>, after: &BTreeMap<String, T>) -> bool {
    before.is_empty() || before.keys().eq(after.keys()) && before.iter().all(|(name, bound)| bound.holds(&after[name]))
}

fn rate(before: Option<Rate>, after: Option<Rate>) -> bool {
    match (before, after) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(before), Some(after)) => after.count <= before.count && after.per_ms >= before.per_ms,
    }
}

fn transfer(asset: &str, before: &TransferRule, after: &TransferRule, found: &mut Vec<String>) {
    let TransferRule { per_request, per_day, approvers } = after;
    if !before.per_request.holds(per_request) {
        found.push(format!("[transfer.{asset}] per_request is higher"));
    }
    if !before.per_day.holds(per_day) {
        found.push(format!("[transfer.{asset}] per_day is higher"));
    }
    let kept = before.approvers.iter().all(|step| {
        let as_strict =
            |other: &&countersign_core::policy::ApproverStep| other.above <= step.above && other.count >= step.count;
        approvers.iter().find(as_strict).is_some()
    });
    if !kept {
        found.push(format!("[transfer.{asset}] approvers asks fewer persons"));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Facts, parse};

    const BASE: &str = r#"
[agent]
allow_software_tokens = true
confinement = "required"
durability = "synced"
approval_timeout_s = 60
[token.hsm]
profile = "softhsm"
label = "hsm"
pin = { prompt = true }
[client.bot]
user = 4001
keys = ["k", "l"]
scopes = ["read", "trade"]
symbols = ["BTCUSDT", "ETHUSDT"]
max_quantity = { BTCUSDT = "2" }
limit.USDT = { per_request = "10", per_day = "100" }
rate = "10/s"
unbound = "forward"
[approver.alice]
ssh_key = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIIqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29cAAAABHNzaDo="
[[destination]]
label = "cold"
asset = "BTC"
network = "BTC"
address = "bc1q"
[transfer.BTC]
per_request = "1"
per_day = "2"
approvers = [{ above = "1", count = 1 }, { above = "2", count = 2 }]
"#;

    fn config(text: &str) -> Config {
        let facts = Facts { own_uid: 4000, ..Facts::of_this_process() };
        parse(text, Path::new("/etc/agent.toml"), &facts).expect("sound")
    }

    /// What the change of one piece of text loosens.
    fn loosens(from: &str, to: &str) -> Vec<String> {
        assert!(BASE.contains(from), "{from}");
        loosened(&config(BASE), &config(&BASE.replacen(from, to, 1)), &BTreeSet::from(["old".to_owned()]))
    }

    #[test]
    fn what_tightens_is_no_loosening() {
        for (from, to) in [
            ("\n", "\n# a comment\n"),
            (
                "allow_software_tokens = true\nconfinement = \"required\"",
                "confinement = \"required\"\nallow_software_tokens = true",
            ),
            ("keys = [\"k\", \"l\"]", "keys = [\"k\"]"),
            (", \"trade\"]", "]"),
            (", \"ETHUSDT\"]", "]"),
            ("BTCUSDT = \"2\"", "BTCUSDT = \"1\""),
            ("per_request = \"10\"", "per_request = \"9\""),
            ("10/s", "9/s"),
            ("approval_timeout_s = 60", "approval_timeout_s = 30"),
            ("per_day = \"2\"", "per_day = \"1\""),
            ("above = \"1\", count = 1", "above = \"0\", count = 1"),
            (
                "[transfer.BTC]",
                "[token.spare]\nprofile = \"softhsm\"\nlabel = \"spare\"\npin = { prompt = true }\n[transfer.BTC]",
            ),
        ] {
            assert_eq!(loosens(from, to), Vec::<String>::new(), "{to}");
        }
        let listed = config(BASE);
        let mut unlisted = listed.clone();
        unlisted.policy.clients[0].symbols = None;
        assert_eq!(loosened(&unlisted, &listed, &BTreeSet::new()), ["[client.bot] symbols allows more"], "ETHUSDT");
        unlisted.policy.clients[0].max_quantity.clear();
        assert_eq!(loosened(&unlisted, &listed, &BTreeSet::new()), Vec::<String>::new(), "all of them had no bound");
        let less = BASE.split("[[destination]]").next().expect("text");
        assert_eq!(loosened(&config(BASE), &config(less), &BTreeSet::new()), Vec::<String>::new());
    }

    #[test]
    fn everything_else_is_one() {
        for (from, to) in [
            ("[agent]\n", "[agent]\nallow_same_user = true\n"),
            ("[agent]\n", "[agent]\nadmin_socket = \"/run/elsewhere.sock\"\n"),
            ("\"required\"", "\"available\""),
            ("\"required\"", "\"off\""),
            ("\"synced\"", "\"written\""),
            ("timeout_s = 60", "timeout_s = 61"),
            ("label = \"hsm\"", "label = \"other\""),
            ("[token.hsm]", "[token.old]"),
            (
                "[transfer.BTC]",
                "[token.own]\nprofile = \"softhsm\"\nlabel = \"own\"\nmodule = \"/tmp/own.so\"\npin = { prompt = true }\n[transfer.BTC]",
            ),
            ("user = 4001", "user = 4002"),
            ("[client.bot]", "[client.other]"),
            ("[\"k\", \"l\"]", "[\"k\", \"m\"]"),
            ("[\"read\", \"trade\"]", "[\"read\", \"transfer\"]"),
            ("symbols = [\"BTCUSDT\", \"ETHUSDT\"]\n", ""),
            ("\"ETHUSDT\"]", "\"XRPUSDT\"]"),
            ("BTCUSDT = \"2\"", "BTCUSDT = \"3\""),
            ("BTCUSDT = \"2\"", "ETHUSDT = \"1\""),
            ("max_quantity = { BTCUSDT = \"2\" }\n", ""),
            ("per_request = \"10\", ", ""),
            ("per_day = \"100\"", "per_day = \"101\""),
            ("limit.USDT = { per_request = \"10\", per_day = \"100\" }\n", ""),
            ("limit.USDT = {", "limit.EUR = { per_day = \"1\" }\nlimit.USDT = {"),
            ("10/s", "11/s"),
            ("rate = \"10/s\"\n", ""),
            ("unbound = \"forward\"\n", ""),
            ("[client.bot]\n", "[client.bot]\nsocket = \"/run/bot/agent.sock\"\n"),
            ("[approver.alice]", "[approver.bob]"),
            ("bc1q", "bc1p"),
            ("label = \"cold\"", "label = \"warm\""),
            ("[transfer.BTC]", "[transfer.ETH]\nper_day = \"1\"\n[transfer.BTC]"),
            ("per_request = \"1\"\n", ""),
            ("per_day = \"2\"", "per_day = \"2.1\""),
            ("above = \"1\", count = 1", "above = \"1.5\", count = 1"),
            (", { above = \"2\", count = 2 }", ""),
        ] {
            assert_eq!(loosens(from, to).len(), 1, "{from} -> {to}: {:?}", loosens(from, to));
        }
        let unasked = BASE.split("[approver.alice]").next().expect("text");
        assert_eq!(loosened(&config(BASE), &config(unasked), &BTreeSet::new()).len(), 1);
    }

    #[test]
    fn two_keys_that_count_as_two_persons_loosen_and_as_one_tighten() {
        const SPARE: &str = "sk-ssh-ed25519@openssh.com \
            AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAAAABHNzaDo=";
        let with_spare = |person: &str| {
            let spare = format!("[approver.spare]\nssh_key = \"{SPARE}\"\n{person}[[destination]]");
            config(&BASE.replacen("[[destination]]", &spare, 1))
        };
        let (one, two) = (with_spare("person = \"alice\"\n"), with_spare(""));
        assert_eq!((one.policy.persons(), two.policy.persons()), (1, 2));
        assert_eq!(loosened(&two, &one, &BTreeSet::new()), Vec::<String>::new());
        let parted = loosened(&one, &two, &BTreeSet::new());
        assert_eq!(parted, ["[approver.alice] and [approver.spare] count as two persons"]);
    }
}
