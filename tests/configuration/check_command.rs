//! `countersign-agent check` finds each token without a PIN, in a process of its own.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::agent::{Agent, Launch};
use crate::harness::shim::Shim;
use crate::harness::softhsm::{AGENT, SoftHsm};

const BOT: &str = "keys = [\"binance-mm\"]\nscopes = [\"read\"]\n";

fn check(config: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(AGENT)
        .arg("check")
        .arg("--config")
        .arg(config)
        .args(words)
        .output()
        .expect("runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn a_token_that_is_there_is_named_and_none_is_logged_in_to() {
    let token = SoftHsm::new();
    let shim = Shim::of(token.module());
    let launch = Launch { module: Some(shim.module()), ..Launch::default() };
    let agent = Agent::start_with(token, launch, BOT, "");
    let logins = shim.calls("C_Login");
    let (code, out, err) = check(&agent.config_file(), &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains(", there: SoftHSM v2, serial "), "{out}");
    assert_eq!(shim.calls("C_Login"), logins);

    let (code, out, _) = check(&agent.config_file(), &["--json"]);
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (code, &report["tokens"][0]["found"]["model"]),
        (Some(0), &"SoftHSM v2".into()),
        "{report}"
    );

    let looks = shim.calls("C_GetTokenInfo");
    let (code, out, _) = check(&agent.config_file(), &["--json", "--without-tokens"]);
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert!(code == Some(0) && report["tokens"][0]["found"].is_null(), "{report}");
    assert_eq!(shim.calls("C_GetTokenInfo"), looks);

    shim.plan("C_GetTokenInfo abort");
    let (code, _, err) = check(&agent.config_file(), &[]);
    assert_eq!(code, Some(78), "{err}");
    assert!(
        err.contains("error: [token.hsm]: its module ended the process that loaded it"),
        "{err}"
    );
}

#[test]
fn a_token_that_is_not_there_is_a_problem() {
    let agent = Agent::start(BOT, "");
    let text = fs::read_to_string(agent.config_file()).expect("readable");
    let label = format!("label = \"{}\"", agent.token.label());
    fs::write(agent.config_file(), text.replace(&label, "label = \"another\"")).expect("written");
    let (code, out, err) = check(&agent.config_file(), &[]);
    assert_eq!(code, Some(78), "{out}{err}");
    assert!(err.contains("error: [token.hsm]: ") && err.contains("label another"), "{err}");
    assert!(err.contains("the agent cannot work with this"), "{err}");
}

#[test]
fn a_yubikey_that_is_not_plugged_in_is_a_warning() {
    let yubikey =
        "[token.yk]\nprofile = \"yubikey-piv\"\nserial = \"99999999\"\npin = { prompt = true }\n";
    let agent = Agent::start(BOT, "");
    agent.configure(BOT, yubikey);
    let (code, out, err) = check(&agent.config_file(), &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("warning: [token.yk]: "), "{out}");
}
