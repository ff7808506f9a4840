//! The changes that an operator makes to a vault.

use std::fs;
use std::io::{BufRead as _, Write as _};
use std::process::{Output, Stdio};
use std::time::Duration;

use countersign_core::approval::{Statement, Subject};
use serde_json::Value;

use crate::harness::agent::SECRET;
use crate::harness::person::Person;
use crate::harness::softhsm::SoftHsm;
use crate::harness::vault_agent::{Making, VaultAgent, binance};

/// Runs a change that takes an approval by `person`; returns its result, or the reason of the
/// refusal.
fn changed(this: &VaultAgent, person: &Person, arguments: &[&str]) -> Result<Value, String> {
    changed_and_shown(this, person, arguments).map(|(result, _)| result)
}

/// The same, with the statement that the person was shown.
fn changed_and_shown(
    this: &VaultAgent,
    person: &Person,
    arguments: &[&str],
) -> Result<(Value, Option<Statement>), String> {
    let mut shown = None;
    let mut command = this.vault_command(arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut lines = std::io::BufReader::new(child.stdout.take().expect("a pipe")).lines();
    if let Some(Ok(line)) = lines.next() {
        let asked: Value = serde_json::from_str(&line).expect("JSON");
        if asked["statement"].is_object() {
            let statement = Statement::parse(&asked["statement"].to_string());
            let statement = statement.unwrap_or_else(|| {
                serde_json::from_value(asked["statement"].clone()).expect("one")
            });
            let sshsig = person.approve(&statement, 1);
            child.stdin.take().expect("a pipe").write_all(sshsig.as_bytes()).expect("it reads");
            shown = Some(statement);
        } else {
            child.wait().expect("ended");
            return Ok((asked, None));
        }
    }
    let last = lines.map_while(Result::ok).last();
    let output = child.wait_with_output().expect("ended");
    if output.status.success() {
        return Ok((serde_json::from_str(&last.expect("a result")).expect("JSON"), shown));
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn the_spare_is_tried_with_a_touch_and_nothing_is_signed() {
    let this = VaultAgent::start();
    let shown: Value =
        serde_json::from_slice(&this.command(&["show", "vault"]).stdout).expect("JSON");
    assert_eq!(shown["recipients"].as_array().map(Vec::len), Some(2), "{shown}");
    assert_eq!(
        (&shown["rotates"], &shown["policy_in_force"]),
        (&Value::Bool(true), &Value::Bool(true))
    );
    let calls = ["C_Login", "C_Sign", "C_OpenSession"].map(|function| this.shim.calls(function));
    this.spare.set_timeout(Duration::from_millis(300));
    let untouched = this.command(&["drill", "vault", "yk-spare"]);
    assert!(
        !untouched.status.success() && said(&untouched).contains("nobody touched"),
        "{}",
        said(&untouched)
    );
    this.fingers(true);
    for name in ["yk-spare", "yk"] {
        let drilled = this.command(&["drill", "vault", name]);
        assert!(
            drilled.status.success() && said(&drilled).contains(&format!("touch {name}")),
            "{}",
            said(&drilled)
        );
    }
    assert_eq!(
        ["C_Login", "C_Sign", "C_OpenSession"].map(|function| this.shim.calls(function)),
        calls
    );
    let again = this.command(&["init", "vault", "--pin-file", "/dev/null"]);
    assert!(said(&again).contains("made already"), "{}", said(&again));
}

#[test]
fn a_lost_yubikey_is_removed_by_the_other_with_an_approval() {
    let this = VaultAgent::with_keys();
    this.wait_until_closed();
    this.desk.card.unplug(); // lost
    let (key, path, params) = binance("0.1");
    this.withdraw(key, path, &params).expect("the spare opens it");
    this.wait_until_closed();
    let stolen = fs::read(this.directory().join("sealed")).expect("a copy");
    let mallory = Person::new("mallory", 9);
    let refused = changed(&this, &mallory, &["remove", "vault", "yk"]).expect_err("no approver");
    assert!(refused.contains("not approved"), "{refused}");
    let shown = changed(&this, &this.alice, &["remove", "vault", "yk"]).expect("removed");
    assert_eq!(shown["recipients"].as_array().map(Vec::len), Some(1), "{shown}");
    this.withdraw(key, path, &params).expect("signed");
    this.wait_until_closed();
    // A finder of the lost YubiKey who has an old copy of the file can open an old PIN only.
    this.desk.card.plug();
    let drilled = this.command(&["drill", "vault", "yk"]);
    assert!(said(&drilled).contains("not one of its recipients"), "{}", said(&drilled));
    let current = fs::read(this.directory().join("sealed")).expect("readable");
    fs::write(this.directory().join("sealed"), stolen).expect("written");
    let rotated = this.command(&["rotate", "vault"]);
    assert!(!rotated.status.success(), "{}", said(&rotated));
    fs::write(this.directory().join("sealed"), current).expect("written");
    // The owner has found the YubiKey again, and adds it once more.
    let shown = changed(&this, &this.alice, &["add", "vault", "yk"]).expect("added");
    assert_eq!(shown["recipients"].as_array().map(Vec::len), Some(2), "{shown}");
    let drilled = this.command(&["drill", "vault", "yk"]);
    assert!(drilled.status.success(), "{}", said(&drilled));
}

#[test]
fn another_configuration_is_taken_on_with_a_touch_and_an_approval() {
    let mut this = VaultAgent::with_keys();
    this.wait_until_closed();
    let file = this.agent.config_file();
    let text = fs::read_to_string(&file).expect("readable");
    fs::write(&file, text.replace("per_day = \"2\"", "per_day = \"1\"")).expect("written");
    this.agent.restart();
    let before = this.agreements();
    let (key, path, params) = binance("0.1");
    let refused = this.withdraw(key, path, &params).expect_err("another configuration").to_string();
    assert!(refused.contains("countersign vault reseal vault"), "{refused}");
    assert_eq!(this.agreements(), before, "nobody was asked to touch for nothing");
    changed(&this, &this.alice, &["reseal", "vault"]).expect("taken on");
    this.withdraw(key, path, &params).expect("signed");
}

/// The sentences and lines that an approver of a change is shown.
fn shown(this: &VaultAgent, arguments: &[&str]) -> (Vec<String>, String) {
    let (_, statement) = changed_and_shown(this, &this.alice, arguments).expect("approved");
    match statement.expect("an approver is asked").subject {
        Subject::Vault { loosens, diff, .. } => (loosens, diff),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_approver_is_shown_every_value_that_a_vault_would_be_sealed_for() {
    let this = VaultAgent::with_keys();
    this.wait_until_closed();
    let file = this.agent.config_file();
    let text = fs::read_to_string(&file).expect("readable");
    let bob = Person::new("bob", 5);
    let address = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
    let more = format!(
        "\n[[destination]]\nlabel = \"colder\"\nasset = \"BTC\"\nnetwork = \"BTC\"\naddress = \
         \"{address}\"\n\n\
         [approver.bob]\nssh_key = \"{}\"\n",
        bob.public_key()
    );
    fs::write(&file, format!("{text}{more}")).expect("written");
    let (loosens, diff) = shown(&this, &["reseal", "vault"]);
    let all = loosens.join("\n");
    assert!(
        all.contains("address \"bc1q w508 d6qe jxtd g4y5 r3za rvar y0c5 xw7k v8f3 t4\""),
        "{all}"
    );
    assert!(all.contains("[approver.bob]") && all.contains("SHA256:"), "{all}");
    assert!(!all.contains("counts as new") && !all.contains("alice"), "only what differs: {all}");
    assert!(diff.contains(&format!("+address = \"{address}\"")), "{diff}");
    // The statement names another YubiKey by its key too, and does not repeat the values that have
    // not changed.
    let (loosens, diff) = shown(&this, &["remove", "vault", "yk-spare"]);
    assert!(
        loosens.len() == 1 && loosens[0].contains("no longer opens the vault") && diff.is_empty(),
        "{loosens:?}"
    );
    let (loosens, _) = shown(&this, &["add", "vault", "yk-spare"]);
    let named =
        ["YubiKey yk-spare (serial ", "key in 9d SHA256:", "opens the vault, as it did not before"];
    assert!(
        loosens.len() == 1 && named.iter().all(|part| loosens[0].contains(part)),
        "{loosens:?}"
    );
    // If the configuration that it was sealed for is missing or another, all values are new.
    fs::write(&file, &text).expect("written");
    let kept = this.directory().join("agent.toml");
    for tampered in [None, Some(format!("{text}{more}# another\n"))] {
        match &tampered {
            None => fs::remove_file(&kept).expect("removed"),
            Some(text) => fs::write(&kept, text).expect("written"),
        }
        let (loosens, _) = shown(&this, &["reseal", "vault"]);
        let all = loosens.join("\n");
        assert!(
            all.contains("all of the new one counts as new") && all.contains("[approver.alice]"),
            "{all}"
        );
        fs::write(&file, format!("{text}# {}\n", tampered.is_some())).expect("written");
    }
}

#[test]
fn a_change_of_a_vault_that_cannot_be_shown_whole_is_not_asked_for() {
    let this = VaultAgent::with_keys();
    this.wait_until_closed();
    let file = this.agent.config_file();
    let text = fs::read_to_string(&file).expect("readable");
    let comments =
        "# a comment of the operator's, about as long as the lines of such a file usually are\n"
            .repeat(1_000);
    fs::write(&file, format!("{comments}{text}")).expect("written");
    let refused = changed(&this, &this.alice, &["reseal", "vault"]).expect_err("too much");
    assert!(refused.contains("split it"), "{refused}");
}

#[test]
fn a_key_that_needs_no_touch_and_pin_each_time_opens_no_vault() {
    use yubikey::piv::AlgorithmId;
    use yubikey::{PinPolicy, TouchPolicy};
    let this = VaultAgent::start();
    fs::remove_dir_all(this.directory()).expect("as if it had never been made");
    let pin_file = this.vault.another_pin_file("whatever");
    let policies =
        [(PinPolicy::Always, TouchPolicy::Cached), (PinPolicy::Once, TouchPolicy::Always)];
    for (pin, touch) in policies {
        this.desk.generate(0x9d, AlgorithmId::EccP256, pin, touch);
        let refused =
            this.command(&["init", "vault", "--pin-file", pin_file.to_str().expect("UTF-8")]);
        assert!(
            !refused.status.success() && !this.directory().join("sealed").exists(),
            "{}",
            said(&refused)
        );
        assert!(
            ["touch policy is not ALWAYS", "PIN each time"]
                .iter()
                .any(|why| said(&refused).contains(why)),
            "{}",
            said(&refused)
        );
    }
}

#[test]
fn the_security_officers_pin_is_destroyed_with_the_first_pin() {
    let (so_pin, pin) = ("the-officers-pin", "the-first-pin");
    let this = VaultAgent::unmade(Making {
        vault: SoftHsm::of_operator(so_pin, pin),
        ..Making::default()
    });
    let set_by_officer = |this: &VaultAgent, new: &str| {
        this.vault.officer_tool(so_pin, &["--init-pin", "--new-pin", new]).status.success()
    };
    assert!(set_by_officer(&this, pin), "the officer's PIN sets a PIN");
    let pin_file = this.vault.pin_file().to_owned();
    // If the officer's PIN cannot be changed, no vault is made, and the command can be run again.
    let wrong = this.vault.another_file("wrong.pin", "no-officers-pin");
    let made = ["init", "vault", "--pin-file", pin_file.to_str().expect("UTF-8"), "--so-pin-file"];
    let refused = this.command(&[&made[..], &[wrong.to_str().expect("UTF-8")]].concat());
    assert!(
        !refused.status.success() && said(&refused).contains("the vault is not made"),
        "{}",
        said(&refused)
    );
    assert!(pin_file.exists() && !this.directory().join("sealed").exists());
    let so_pin_file = this.vault.another_file("officer.pin", so_pin);
    let officer = so_pin_file.to_str().expect("UTF-8");
    let made = this.command(&[
        "init",
        "vault",
        "--pin-file",
        pin_file.to_str().expect("UTF-8"),
        "--so-pin-file",
        officer,
    ]);
    assert!(made.status.success(), "{}", said(&made));
    assert!(!pin_file.exists() && !so_pin_file.exists(), "neither is of any use");
    assert!(!set_by_officer(&this, "mine"), "it is another one");
    this.fingers(true);
    this.add("binance-wd", "binance", SECRET, None).expect("the vault opens");
    // On a token that `init-token` made, the officer's PIN differs from the user's, and is in no
    // file.
    let trial = SoftHsm::new();
    assert!(
        !trial.officer_tool(&trial.pin(), &["--init-pin", "--new-pin", "mine"]).status.success()
    );
    let beside =
        fs::read_dir(trial.configuration().parent().expect("a directory")).expect("readable");
    let mut beside: Vec<_> = beside.map(|entry| entry.expect("an entry").file_name()).collect();
    beside.sort();
    assert_eq!(beside, ["softhsm2.conf", "tokens", "user.pin"]);
}
