//! The meaning of `agent.toml`, its defaults, its warnings, and the words that refuse a bad one. A
//! pair of files dropped into `tests/config` is a test.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use countersign_base::config::listener::ListenerKind;
use countersign_base::config::{self, ApproverProof, Config, ConfigError, SystemFacts};
use countersign_base::messages::settings::PinSource;
use countersign_core::decimal::Amount;
use countersign_core::key::Tier;
use countersign_core::policy::{Rate, Release};
use countersign_core::scope::{Scope, Scopes};

/// A machine with a few users. The agent runs as `countersign`.
fn facts() -> SystemFacts {
    SystemFacts {
        attestation_file: std::rc::Rc::new(|_| Err("it is not there".to_owned())),
        own_uid: 999,
        socket: "/run/countersign/agent.sock".into(),
        admin_socket: None,
        credentials_directory: None,
        user_id: Rc::new(|name| match name {
            "countersign" => Some(999),
            "grid-bot" => Some(1002),
            "mm-bot" => Some(1001),
            _ => None,
        }),
        profile_file: Rc::new(|_| Err("it cannot be opened".to_owned())),
    }
}

pub(super) fn parse(text: &str) -> Result<Config, ConfigError> {
    config::parse(text, Path::new("/etc/countersign/agent.toml"), &facts())
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/config")
}

/// `ACCEPT=1` writes the present words. A person then reads the diff.
#[test]
fn every_bad_configuration_is_refused_in_the_expected_words() {
    let mut cases: Vec<_> = fs::read_dir(directory())
        .expect("the cases are there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    cases.sort();
    assert!(cases.len() > 20, "the cases are there");
    let failed: Vec<String> = cases.iter().filter_map(|case| judge(case).err()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

fn judge(case: &Path) -> Result<(), String> {
    let name = case.file_name().expect("a file").to_string_lossy().into_owned();
    let text = fs::read_to_string(case).expect("readable");
    let path = Path::new("/etc/countersign").join(&name);
    let Err(error) = config::parse(text, &path, &facts()) else {
        return Err(format!("{name}: it was taken"));
    };
    let said = format!("{error}\n");
    if said.contains("SHOWN") || error.in_colour().contains("SHOWN") {
        return Err(format!("{name}: it shows what may be a PIN:\n{said}"));
    }
    let expected = case.with_extension("stderr");
    if std::env::var_os("ACCEPT").is_some() {
        fs::write(&expected, &said).expect("writable");
    }
    match fs::read_to_string(&expected) {
        Err(error) => Err(format!("{name}: no expected words: {error}")),
        Ok(expected) if expected != said => {
            Err(format!("{name}: expected\n{expected}\nsaid\n{said}"))
        }
        Ok(_) => Ok(()),
    }
}

/// Expected words without a configuration would test nothing.
#[test]
fn all_expected_words_belong_to_a_configuration() {
    for entry in fs::read_dir(directory()).expect("the cases are there") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|extension| extension == "stderr") {
            assert!(path.with_extension("toml").exists(), "{}", path.display());
        }
    }
}

#[test]
fn the_sample_means_what_it_says() {
    let config = parse(include_str!("../../docs/agent.toml.sample"))
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.agent.approval_timeout, Duration::from_secs(120));
    assert!(
        config.agent.allow_software_tokens && !config.agent.allow_same_user && !config.agent.synced
    );
    let amount = |text: &str| Amount::parse(text).expect("plain");

    let [hsm, yubihsm] = &config.tokens[..] else { panic!("two tokens") };
    assert_eq!((hsm.tier, yubihsm.tier), (Tier::Software, Tier::Imported));
    assert_eq!(hsm.settings.pin, PinSource::File("/etc/countersign/hsm.pin".into()));
    assert_eq!(
        hsm.settings.environment,
        [("SOFTHSM2_CONF".into(), "/etc/countersign/softhsm2.conf".into())]
    );
    assert_eq!(hsm.settings.state_dir, Path::new("/var/lib/countersign"));
    assert!(hsm.settings.checked_profile().is_ok(), "the host takes it");
    assert_eq!(yubihsm.settings.serial.as_deref(), Some("10550053"));
    assert_eq!(yubihsm.settings.pin, PinSource::Credential("yubihsm-pin".into()));

    let [bot, reports] = &config.policy.clients[..] else { panic!("two clients") };
    assert_eq!((bot.uid, reports.uid), (1001, 1003));
    assert_eq!(bot.scopes, Scopes::only(Scope::Read).with(Scope::Trade));
    assert_eq!(bot.rate, Some(Rate { count: 50, per_ms: 1_000 }));
    assert_eq!(bot.max_quantity["BTCUSDT"], amount("0.5"));
    assert_eq!(bot.limits["USDT"].per_day, Some(amount("200000")));
    assert_eq!((bot.unbound, reports.unbound), (Release::Signature, Release::Forward));
    assert_eq!(bot.symbols.as_ref().map(|symbols| symbols.len()), Some(2));
    assert_eq!(
        config.clients_on_agent_socket().map(|client| client.name.as_str()).collect::<Vec<_>>(),
        ["mm-bot"]
    );
    let kinds: Vec<_> = config.endpoints().into_iter().map(|endpoint| endpoint.kind).collect();
    assert_eq!(
        kinds,
        [ListenerKind::Agent, ListenerKind::Admin, ListenerKind::Client("reports".to_owned())]
    );

    assert!(matches!(&config.approvers[0].proof, ApproverProof::SshKey(_)));
    assert!(matches!(&config.approvers[1].proof, ApproverProof::Unproven { attestation, .. }
        if attestation == Path::new("/etc/countersign/bob-9a.pem")));
    assert_eq!(config.policy.destinations.len(), 2);
    assert_eq!(config.policy.destinations[1].memo.as_deref(), Some("104418"));
    assert_eq!(config.policy.transfers["BTC"].approvers[1].count, 2);
    assert_eq!(
        config.summary(),
        "2 tokens, 2 clients, 2 approvers, 2 destinations, 1 transfer rule"
    );
    // They are: the software token; bob cannot approve, because his attestation is missing; so two
    // approvers cannot approve either.
    assert_eq!(config.warnings.len(), 3, "{:?}", config.warnings);
}

#[test]
fn what_the_file_leaves_out_has_a_default() {
    let config = parse("").expect("taken");
    assert_eq!(config.agent.socket, Path::new("/run/countersign/agent.sock"));
    assert_eq!(config.agent.admin_socket, Path::new("/run/countersign/admin.sock"));
    assert_eq!(config.agent.state_dir, Path::new("/var/lib/countersign"));
    assert_eq!(
        config.policy.sha256,
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    let elsewhere = parse("[agent]\nsocket = \"/srv/countersign/a.sock\"\n").expect("taken");
    assert_eq!(elsewhere.agent.admin_socket, Path::new("/srv/countersign/admin.sock"));
    assert!(
        elsewhere.agent.needs_restart(&config.agent) && !config.agent.needs_restart(&config.agent)
    );
}

/// Warnings of a configuration that is sound, but may not be what the operator means.
#[test]
fn weaknesses_are_said() {
    let text = r#"
        [agent]
        allow_software_tokens = true
        allow_same_user = true
        [token.hsm]
        profile = "softhsm"
        label = "countersign"
        pin = { fd = 3 }
        [client.me]
        user = "countersign"
        keys = []
        scopes = ["read"]
        limit.USDT = { per_request = "2", per_day = "1" }
        [client.root]
        user = 0
        keys = ["binance-mm"]
        scopes = ["read"]
        rate = "1/s"
        [client.nobody]
        user = 65534
        keys = ["binance-mm"]
        scopes = ["read"]
        [transfer.BTC]
        approvers = [{ above = "0", count = 2 }]
    "#;
    let warnings = parse(text).unwrap_or_else(|error| panic!("{error}")).warnings;
    for said in [
        "software token: [token.hsm] is SoftHSM 2",
        "no isolation: bots share the agent's user: [client.me]",
        "[client.me] may use no key yet",
        "[client.me] limit.USDT: per_request 2 is above per_day 1",
        "[client.me] has no rate: it alone can fill the disk",
        "[client.nobody] has no rate",
        "[client.root] is root",
        "[client.nobody] is uid 65534",
        "[transfer.BTC] needs 2 approvers, and 0 can approve",
    ] {
        assert!(warnings.iter().any(|warning| warning.starts_with(said)), "{said}: {warnings:#?}");
    }
    assert_eq!(warnings.len(), 9, "{warnings:#?}");
    let empty = parse("").expect("taken").warnings;
    assert!(empty.iter().any(|warning| warning.contains("nothing can be signed")), "{empty:#?}");
}

/// Two clients with one uid are told apart if one of them has a socket of its own.
#[test]
fn a_socket_of_its_own_tells_a_client_apart() {
    let client = |name: &str, more: &str| {
        format!(
            "[client.{name}]\nuser = \"mm-bot\"\nkeys = [\"binance-mm\"]\nscopes = \
             [\"read\"]\n{more}\n"
        )
    };
    let text = client("a", "") + &client("b", "socket = \"/run/countersign/b.sock\"");
    let config = parse(&text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.client_sockets["b"], Path::new("/run/countersign/b.sock"));
}

#[test]
fn a_file_is_loaded_only_where_nobody_else_can_write_it() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("agent.toml");
    fs::write(&path, "[agent]\n").expect("written");
    assert_eq!(config::load(&path).expect("taken").text, "[agent]\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("ours");
    let refused = config::load(&path).expect_err("others can write it");
    assert!(matches!(refused, ConfigError::Untrusted(_)), "{refused}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
    fs::write(&path, b"[agent]\nstate_dir = \"/\xff\"\n").expect("written");
    let refused = config::load(&path).expect_err("not text");
    assert_eq!(refused.findings()[0].line, 2, "{refused}");
    fs::write(&path, "#".repeat(1024 * 1024 + 1)).expect("written");
    assert!(matches!(config::load(&path), Err(ConfigError::TooLong(_))));
    let missing = config::load(&directory.path().join("none.toml")).expect_err("missing");
    assert!(matches!(missing, ConfigError::Untrusted(_)), "{missing}");
}
