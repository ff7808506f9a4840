mod attacks;

use std::path::Path;

use crate::config::loosening::*;
use crate::config::{SystemFacts, parse};

const BASE: &str = concat!(
    r#"
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
ssh_key = "sk-ssh-ed25519@openssh.com "#,
    r#"AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIIqI4910CfGV/VLb"#,
    r#"LTy6XXLKZwm/HZQSG/N0iAG0D29cAAAABHNzaDo="
[[destination]]
label = "cold"
asset = "BTC"
network = "BTC"
address = "bc1qold"
[transfer.BTC]
per_request = "1"
per_day = "2"
approvers = [{ above = "1", count = 1 }, { above = "2", count = 2 }]
"#,
);

fn config(text: &str) -> Config {
    let facts = SystemFacts { own_uid: 4000, ..SystemFacts::of_this_process() };
    parse(text, Path::new("/etc/agent.toml"), &facts).expect("sound")
}

/// The sentences about the change of one piece of text.
fn loosens(from: &str, to: &str) -> Vec<String> {
    assert!(BASE.contains(from), "{from}");
    loosened(&config(BASE), &config(&BASE.replacen(from, to, 1)), &in_use())
}

fn in_use() -> BTreeSet<String> {
    BTreeSet::from(["old".to_owned()])
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
            "[token.spare]\nprofile = \"softhsm\"\nlabel = \"spare\"\npin = { prompt = true \
             }\n[transfer.BTC]",
        ),
    ] {
        assert_eq!(loosens(from, to), Vec::<String>::new(), "{to}");
    }
    let listed = config(BASE);
    let mut unlisted = listed.clone();
    unlisted.policy.clients[0].symbols = None;
    assert_eq!(
        loosened(&unlisted, &listed, &BTreeSet::new()),
        ["[client.bot] symbols: now a list, and without a max_quantity in it: ETHUSDT"]
    );
    unlisted.policy.clients[0].max_quantity.clear();
    assert_eq!(
        loosened(&unlisted, &listed, &BTreeSet::new()),
        Vec::<String>::new(),
        "all of them had no bound"
    );
    let less = BASE.split("[[destination]]").next().expect("text");
    assert_eq!(loosened(&config(BASE), &config(less), &BTreeSet::new()), Vec::<String>::new());
}

/// Changes, each with the texts that an approver must be told. Every value must be in the
/// sentences.
const LOOSER: &[(&str, &str, &[&str])] = &[
    (
        "[agent]\n",
        "[agent]\nallow_same_user = true\n",
        &["[agent] allow_same_user: from false to true"],
    ),
    (
        "[agent]\n",
        "[agent]\nadmin_socket = \"/run/elsewhere.sock\"\n",
        &["[agent] admin_socket: from \"/", "to \"/run/elsewhere.sock\""],
    ),
    (
        "[agent]\n",
        "[agent]\nsocket = \"/run/there/agent.sock\"\n",
        &["[agent] socket: from", "to \"/run/there/agent.sock\""],
    ),
    (
        "[agent]\n",
        "[agent]\nstate_dir = \"/srv/state\"\n",
        &["[agent] state_dir: from \"/var/lib/countersign\" to \"/srv/state\""],
    ),
    (
        "[agent]\n",
        "[agent]\nvault_dir = \"/srv/vault\"\n",
        &["[agent] vault_dir: from none to \"/srv/vault\""],
    ),
    (
        "[agent]\n",
        "[agent]\nvault_socket = \"/run/v.sock\"\n",
        &["[agent] vault_socket: from none to \"/run/v.sock\""],
    ),
    ("\"required\"", "\"available\"", &["[agent] confinement: from required to available"]),
    ("\"required\"", "\"off\"", &["[agent] confinement: from required to off"]),
    ("\"synced\"", "\"written\"", &["[agent] durability: from synced to written"]),
    ("timeout_s = 60", "timeout_s = 61", &["[agent] approval_timeout_s: from 60 to 61"]),
    ("label = \"hsm\"", "label = \"other\"", &["[token.hsm] label: from \"hsm\" to \"other\""]),
    (
        "label = \"hsm\"",
        "label = \"hsm\"\nserial = \"77\"",
        &["[token.hsm] serial: from none to \"77\""],
    ),
    (
        "label = \"hsm\"",
        "label = \"hsm\"\nmodule = \"/tmp/a.so\"",
        &["[token.hsm] module: from none to \"/tmp/a.so\""],
    ),
    (
        "label = \"hsm\"",
        "label = \"hsm\"\nenvironment = { SOFTHSM2_CONF = \"/tmp/c\" }",
        &["[token.hsm] environment: from none to SOFTHSM2_CONF = \"/tmp/c\""],
    ),
    (
        "pin = { prompt = true }",
        "pin = { file = \"/tmp/pin\" }",
        &["[token.hsm] pin: from a person is asked to file \"/tmp/pin\""],
    ),
    (
        "pin = { prompt = true }",
        "pin = { credential = \"c1\" }",
        &["[token.hsm] pin:", "to credential c1"],
    ),
    ("pin = { prompt = true }", "pin = { fd = 7 }", &["[token.hsm] pin:", "to descriptor 7"]),
    (
        "profile = \"softhsm\"",
        "profile = \"kryoptic\"",
        &[
            "[token.hsm] profile: from \"softhsm\" to \"kryoptic\"",
            "profile's libraries: from",
            "libkryoptic",
        ],
    ),
    (
        "[token.hsm]",
        "[token.old]",
        &["[token.old] is new", "label: \"hsm\"", "keys are enrolled on a token of this name"],
    ),
    (
        "[transfer.BTC]",
        "[token.own]\nprofile = \"softhsm\"\nlabel = \"own\"\nmodule = \"/tmp/own.so\"\npin = { \
         prompt = true }\n[transfer.BTC]",
        &[
            "[token.own] is new",
            "[token.own] module: \"/tmp/own.so\"",
            "[token.own] label: \"own\"",
        ],
    ),
    ("user = 4001", "user = 4002", &["[client.bot] user: from uid 4001 to uid 4002"]),
    (
        "[client.bot]",
        "[client.other]",
        &[
            "[client.other] is new",
            "[client.other] user: uid 4001",
            "[client.other] socket: the agent's",
            "[client.other] keys: k, l",
            "[client.other] scopes: read, trade",
            "[client.other] symbols: BTCUSDT, ETHUSDT",
            "[client.other] max_quantity: BTCUSDT 2",
            "[client.other] limit: USDT per_request 10, per_day 100",
            "[client.other] rate: 10/s",
            "[client.other] unbound: forward",
        ],
    ),
    ("[\"k\", \"l\"]", "[\"k\", \"m\"]", &["[client.bot] keys: also m"]),
    ("[\"read\", \"trade\"]", "[\"read\", \"transfer\"]", &["[client.bot] scopes: also transfer"]),
    (
        "symbols = [\"BTCUSDT\", \"ETHUSDT\"]\n",
        "",
        &["[client.bot] symbols: from BTCUSDT, ETHUSDT to any"],
    ),
    ("\"ETHUSDT\"]", "\"XRPUSDT\"]", &["[client.bot] symbols: also XRPUSDT"]),
    ("BTCUSDT = \"2\"", "BTCUSDT = \"3\"", &["[client.bot] max_quantity BTCUSDT: from 2 to 3"]),
    (
        "BTCUSDT = \"2\"",
        "ETHUSDT = \"1\"",
        &["max_quantity BTCUSDT: from 2 to not in the list", "ETHUSDT: from not in the list to 1"],
    ),
    (
        "max_quantity = { BTCUSDT = \"2\" }\n",
        "",
        &["[client.bot] max_quantity: from BTCUSDT 2 to no limit"],
    ),
    (
        "per_request = \"10\", ",
        "",
        &["limit USDT: from per_request 10, per_day 100 to per_request no limit, per_day 100"],
    ),
    (
        "per_day = \"100\"",
        "per_day = \"101\"",
        &["limit USDT: from per_request 10, per_day 100 to per_request 10, per_day 101"],
    ),
    (
        "limit.USDT = { per_request = \"10\", per_day = \"100\" }\n",
        "",
        &["[client.bot] limit: from USDT per_request 10, per_day 100 to no limit"],
    ),
    (
        "limit.USDT = {",
        "limit.EUR = { per_day = \"1\" }\nlimit.USDT = {",
        &["[client.bot] limit EUR: from not in the list to per_request no limit, per_day 1"],
    ),
    ("10/s", "11/s", &["[client.bot] rate: from 10/s to 11/s"]),
    ("10/s", "600/min", &["[client.bot] rate: from 10/s to 600/min"]),
    ("rate = \"10/s\"\n", "", &["[client.bot] rate: from 10/s to no limit"]),
    ("unbound = \"forward\"\n", "", &["[client.bot] unbound: from forward to signature"]),
    (
        "[client.bot]\n",
        "[client.bot]\nsocket = \"/run/bot/agent.sock\"\n",
        &["[client.bot] socket: from the agent's to \"/run/bot/agent.sock\""],
    ),
    (
        "[approver.alice]",
        "[approver.bob]",
        &["[approver.bob] is new", "[approver.bob] person: bob", "[approver.bob] key: SHA256:"],
    ),
    (
        "AAIIqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c",
        "AAIAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIC",
        &["[approver.alice] key: from SHA256:", " to SHA256:"],
    ),
    (
        "[transfer.BTC]",
        "[approver.carol]\nssh_key = \"SPARE\"\nperson = \"carol\"\n[transfer.BTC]",
        &["[approver.carol] person: carol", "[approver.carol] key: SHA256:"],
    ),
    (
        "[transfer.BTC]",
        "[approver.carol]\nattestation = \"carol.pem\"\nattestation_root = \
         \"root.pem\"\n[transfer.BTC]",
        &["[approver.carol] key: cannot approve: \"/etc/carol.pem\""],
    ),
    (
        "\"bc1qold\"",
        "\"bc1pnew9\"",
        &[
            "[[destination]] \"cold\" is another place: asset BTC",
            "address from \"bc1q old\" to \"bc1p new9\"",
        ],
    ),
    (
        "network = \"BTC\"",
        "network = \"LIGHTNING\"",
        &["\"cold\" is another place", "network from BTC to LIGHTNING", "address \"bc1q old\""],
    ),
    ("asset = \"BTC\"", "asset = \"BCH\"", &["\"cold\" is another place", "asset from BTC to BCH"]),
    (
        "\"bc1qold\"",
        "\"bc1qold\"\nmemo = \"7\"",
        &["\"cold\" is another place", "memo from none to \"7\""],
    ),
    (
        "label = \"cold\"",
        "label = \"warm\"",
        &["\"warm\" is the place that was called \"cold\": asset BTC, network BTC, address \
             \"bc1q old\", memo none"],
    ),
    (
        "[transfer.BTC]",
        "[[destination]]\nlabel = \"co1d\"\nasset = \"ETH\"\nnetwork = \"ERC20\"\naddress = \
         \"0xabcdef\"\nmemo = \"m\"\n[transfer.BTC]",
        &[
            "[[destination]] \"co1d\" is new: asset ETH, network ERC20, address \"0xab cdef\", \
             memo \"m\"",
            "LOOK TWICE, \"co1d\" looks like \"cold\"",
        ],
    ),
    (
        "[transfer.BTC]",
        "[transfer.ETH]\nper_day = \"1\"\n[transfer.BTC]",
        &[
            "[transfer.ETH] is new",
            "[transfer.ETH] per_request: no limit",
            "[transfer.ETH] per_day: 1",
            "[transfer.ETH] approvers: nobody is asked",
        ],
    ),
    ("per_request = \"1\"\n", "", &["[transfer.BTC] per_request: from 1 to no limit"]),
    ("per_day = \"2\"", "per_day = \"2.1\"", &["[transfer.BTC] per_day: from 2 to 2.1"]),
    (
        "above = \"1\", count = 1",
        "above = \"1.5\", count = 1",
        &["[transfer.BTC] approvers: from 1 above 1, 2 above 2 to 1 above 1.5, 2 above 2"],
    ),
    (
        ", { above = \"2\", count = 2 }",
        "",
        &["[transfer.BTC] approvers: from 1 above 1, 2 above 2 to 1 above 1"],
    ),
];

#[test]
fn every_loosening_is_told_with_its_values_whatever_stands_before_it() {
    let comments =
        "# a comment of the operator's, about as long as the lines of a file usually are\n"
            .repeat(400);
    for (from, to, values) in LOOSER {
        let to = to.replace("SPARE", SPARE);
        let told = loosens(from, &to);
        assert!(!told.is_empty(), "{from} -> {to}");
        for value in *values {
            assert!(
                told.iter().any(|sentence| sentence.contains(value)),
                "{value} of {to}: {told:#?}"
            );
        }
        let changed = BASE.replacen(from, &to, 1);
        let (front, back) = changed.split_at(changed.find("[approver.").expect("a section"));
        let reordered = format!("{comments}{back}{front}");
        assert_eq!(
            loosened(&config(BASE), &config(&reordered), &in_use()),
            told,
            "{to}, moved and behind comments"
        );
    }
    let unasked = BASE.split("[approver.alice]").next().expect("text");
    let told = loosened(&config(BASE), &config(unasked), &BTreeSet::new());
    assert_eq!((told.len(), told[0].contains("[approver.alice]")), (1, true), "{told:?}");
}

/// Every field on the operator's page has a case in which it is loosened, or is told in another
/// way.
#[test]
fn every_field_of_the_configuration_has_a_case() {
    // `attestation` and the fields beside it are told as the approver's key.
    const TOLD_OTHERWISE: [&str; 4] =
        ["attestation", "ssh_key", "attestation_root", "allow_software_tokens"];
    let page = include_str!("../../../../../docs/configuration.md");
    let cases: Vec<_> = LOOSER
        .iter()
        .map(|case| (case, loosens(case.0, &case.1.replace("SPARE", SPARE))))
        .collect();
    let mut fields = 0;
    for section in
        ["agent", "token.NAME", "client.NAME", "approver.NAME", "[destination]", "transfer.ASSET"]
    {
        let start = page.find(&format!("## `[{section}]`")).expect("a section of the page");
        let text = page[start + 3..].split("\n## ").next().expect("text");
        let of_section = format!("[{}", section.trim_end_matches("NAME").trim_end_matches("ASSET"));
        // The first cell of a row names one or several fields. The sources of a PIN are in braces.
        let cells = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('|').next());
        let named = cells
            .flat_map(|cell| cell.split('`').step_by(2))
            .filter(|field| !field.starts_with('{'));
        let fields_of_section = named
            .filter_map(|field| field.split('.').next())
            .filter(|field| !field.trim().is_empty());
        for field in fields_of_section {
            fields += 1;
            // The sentence has to be about this section: a token has a `label` too.
            let known = |((_, to, values), told): &(&(&str, &str, &[&str]), Vec<String>)| {
                told.iter().filter(|sentence| sentence.starts_with(&of_section)).any(|sentence| {
                    let named = |value: &&&str| {
                        value.contains(field) || to.contains(&format!("{field} = "))
                    };
                    values.iter().filter(named).any(|value| sentence.contains(value))
                })
            };
            assert!(
                TOLD_OTHERWISE.contains(&field) || cases.iter().any(known),
                "[{section}] {field} has no case"
            );
        }
    }
    assert!(fields > 35, "{fields}");
}

#[test]
fn software_tokens_are_told() {
    let without =
        "[agent]\n[token.yk]\nprofile = \"yubikey-piv\"\nserial = 1\npin = { prompt = true }\n";
    let with = without.replacen("[agent]\n", "[agent]\nallow_software_tokens = true\n", 1);
    let told = loosened(&config(without), &config(&with), &BTreeSet::new());
    assert_eq!(told, ["[agent] allow_software_tokens: from false to true"]);
}

#[test]
fn the_yubikeys_of_a_sealed_pin_are_told() {
    let yubikeys = "[token.yk]\nprofile = \"yubikey-piv\"\nserial = 11\npin = { prompt = true }\n\
         [token.zk]\nprofile = \"yubikey-piv\"\nserial = 22\npin = { prompt = true \
         }\n[transfer.BTC]";
    let with = |sealed: &str| {
        config(&BASE.replacen("[transfer.BTC]", yubikeys, 1).replacen(
            "{ prompt = true }",
            sealed,
            1,
        ))
    };
    let one = with("{ sealed_by = \"yk\", slot = \"9d\" }");
    let open = with("{ prompt = true }");
    assert_eq!(
        loosened(&open, &one, &BTreeSet::new()),
        Vec::<String>::new(),
        "a PIN that is sealed lies nowhere"
    );
    for (sealed, value) in [
        (
            "{ sealed_by = \"zk\", slot = \"9d\" }",
            "to sealed by zk (zk serial \"22\"), a touch for each signature",
        ),
        (
            "{ sealed_by = [\"yk\", \"zk\"], slot = \"9d\" }",
            "to sealed by yk, zk (yk serial \"11\", zk serial \"22\")",
        ),
        ("{ sealed_by = \"yk\", slot = \"9d\", reopen = \"touch\" }", "reopen touch"),
        (
            "{ sealed_by = \"yk\", slot = \"9d\", reopen = \"keep-while-running\" }",
            "reopen keep-while-running",
        ),
        ("{ prompt = true }", "to a person is asked"),
    ] {
        let told = loosened(&one, &with(sealed), &BTreeSet::new());
        assert!(
            told.iter()
                .any(|one| one.starts_with("[token.hsm] pin: from sealed by yk")
                    && one.contains(value)),
            "{told:?}"
        );
    }
    let mut moved = one.clone();
    moved.tokens.iter_mut().find(|one| one.settings.name == "yk").expect("there").settings.serial =
        Some("33".to_owned());
    let told = loosened(&one, &moved, &BTreeSet::new());
    assert_eq!(told, ["[token.yk] serial: from \"11\" to \"33\""]);
}

#[test]
fn every_field_of_a_profile_is_told() {
    let own = BASE.replacen("profile = \"softhsm\"", "profile = \"/etc/own.toml\"", 1);
    let with = |profile: &str| {
        let profile = profile.to_owned();
        let facts = SystemFacts {
            own_uid: 4000,
            profile_file: std::rc::Rc::new(move |_| Ok(profile.clone())),
            ..SystemFacts::of_this_process()
        };
        parse(own.clone(), Path::new("/etc/agent.toml"), &facts).expect("sound")
    };
    let text = include_str!("../../../../../pkcs11-profiles/softhsm.toml");
    for (from, to, value) in [
        ("workers = 1", "workers = 9", "[token.hsm] profile's workers: from 1 to 9"),
        (
            "environment = [",
            "environment = [\"LD_PRELOAD\", ",
            "[token.hsm] profile's environment: from",
        ),
        ("title = \"", "title = \"\u{202e}", "\\u{202e}"),
    ] {
        assert!(text.contains(from), "{from}");
        let told = loosened(&with(text), &with(&text.replacen(from, to, 1)), &BTreeSet::new());
        assert!(told.iter().any(|sentence| sentence.contains(value)), "{value}: {told:?}");
    }
    let told = loosened(
        &config(&BASE.replacen("[token.hsm]", "[token.hs]", 1)),
        &with(text),
        &BTreeSet::new(),
    );
    for value in [
        "[token.hsm] profile: \"/etc/own.toml\"",
        "[token.hsm] profile's libraries: ",
        "libsofthsm2.so",
    ] {
        assert!(told.iter().any(|sentence| sentence.contains(value)), "{value}: {told:?}");
    }
}

#[test]
fn labels_that_look_alike_are_pointed_out() {
    let labelled = |label: &str, address: &str| {
        let section = format!(
            "[[destination]]\nlabel = \"{label}\"\nasset = \"BTC\"\nnetwork = \"BTC\"\naddress = \
             \"{address}\"\n[transfer.BTC]"
        );
        loosens("[transfer.BTC]", &section)
    };
    for (label, shown) in [
        ("c\u{43e}ld", "LOOK TWICE, \"c\u{43e}ld\" (spelled \"c\\u{43e}ld\") looks like \"cold\""),
        (
            "co\u{200b}ld",
            "LOOK TWICE, \"co\\u{200b}ld\" (spelled \"co\\u{200b}ld\") differs only in blanks or \
             unseen characters from \"cold\"",
        ),
        (
            "cold ",
            "LOOK TWICE, \"cold\\u{20}\" differs only in blanks or unseen characters from \
             \"cold\"",
        ),
        ("co  ld", "LOOK TWICE, \"co \\u{20}ld\" differs only in blanks"),
        ("Cold", "LOOK TWICE, \"Cold\" looks like \"cold\""),
    ] {
        let told = labelled(label, "3other");
        assert!(told.iter().any(|sentence| sentence.contains(shown)), "{shown}: {told:?}");
        assert!(told[0].contains("address \"3oth er\""), "{told:?}");
    }
    assert_eq!(labelled("cold 2", "3other").len(), 1, "it tells itself apart");
    let alike = BASE.replacen("bc1qold", "bc1qaaaaaaaaaaaaold9", 1);
    let poisoned = alike.replacen(
        "[transfer.BTC]",
        "[[destination]]\nlabel = \"x\"\nasset = \"BTC\"\nnetwork = \"BTC\"\naddress = \
         \"bc1qbbbbbbbbbbbbold9\"\n[transfer.BTC]",
        1,
    );
    let told = loosened(&config(&alike), &config(&poisoned), &BTreeSet::new());
    let warned = "LOOK TWICE, address \"bc1q bbbb bbbb bbbb old9\" begins and ends like \"bc1q \
                  aaaa aaaa aaaa old9\"";
    assert!(told.iter().any(|sentence| sentence.contains(warned)), "{told:?}");
}

#[test]
fn hostile_values_stay_in_their_quotes_and_are_whole() {
    let long = "x".repeat(5_000);
    for label in
        ["evil\u{202e}", "\u{2028}[agent] nothing", "a, address \\\"bc1qgood\\\", memo none", &long]
    {
        let section = format!(
            "[[destination]]\nlabel = \"{label}\"\nasset = \"BTC\"\nnetwork = \"BTC\"\naddress = \
             \"a\\\"b,memo\"\n[transfer.BTC]"
        );
        let told = loosens("[transfer.BTC]", &section);
        assert!(
            told[0]
                .ends_with("is new: asset BTC, network BTC, address \"a\\\"b, memo\", memo none"),
            "{told:?}"
        );
        assert!(!told[0].chars().any(countersign_core::legible::is_unseen), "{told:?}");
        assert!(label != long || told[0].contains(&long));
    }
}

const SPARE: &str = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIAICAg\
    ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAAAABHNzaDo=";

#[test]
fn two_keys_that_count_as_two_persons_loosen_and_as_one_tighten() {
    let with_spare = |person: &str| {
        let spare = format!("[approver.spare]\nssh_key = \"{SPARE}\"\n{person}[[destination]]");
        config(&BASE.replacen("[[destination]]", &spare, 1))
    };
    let (one, two) = (with_spare("person = \"alice\"\n"), with_spare(""));
    assert_eq!((one.policy.persons(), two.policy.persons()), (1, 2));
    assert_eq!(loosened(&two, &one, &BTreeSet::new()), Vec::<String>::new());
    let parted = loosened(&one, &two, &BTreeSet::new());
    assert_eq!(
        parted,
        ["[approver.alice] and [approver.spare] count as two persons, alice and spare"]
    );
}
