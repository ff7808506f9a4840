//! `init`: a first set-up, a second one, an interrupted one, and one over existing files.

mod fake;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use countersign::core::json::Value;
use fake::program::Program;

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[test]
fn a_trial_is_set_up_and_a_second_run_changes_nothing() {
    let program = Program::new(None);
    let ran = program.run(&["init", "--yes", "--key", "binance-mm"]);
    assert_eq!((ran.exit, ran.err.as_str()), (0, ""), "{ran:?}");
    for says in
        ["set up", "software (rung 3: policy, not hardware)", "sound", "countersign key add"]
    {
        assert!(ran.out.contains(says), "{says}: {ran:?}");
    }
    let config = program.home().join(".config/countersign/agent.toml");
    let unit = program.home().join(".config/systemd/user/countersign-agent.service");
    let written = (text(&config), text(&unit));
    assert!(
        written.0.contains("allow_same_user = true")
            && written.0.contains(r#"keys = ["binance-mm"]"#)
    );
    assert!(
        written.1.contains("RestartPreventExitStatus=78")
            && written.1.contains("WantedBy=default.target")
    );
    assert_eq!(
        (mode(&config), mode(&program.home().join(".local/state/countersign"))),
        (0o600, 0o700)
    );
    let again = program.run(&["init", "--yes"]);
    assert!(
        again.exit == 0 && again.out.contains("already set up, nothing was changed"),
        "{again:?}"
    );
    assert_eq!((text(&config), text(&unit)), written);
}

#[test]
fn everything_may_be_in_one_directory() {
    let program = Program::new(None);
    let directory = program.home().join("trial");
    let name = directory.to_str().expect("UTF-8");
    let json = program.run(&["init", "--dir", name, "--yes", "--json"]).json();
    assert_eq!(json.member("done").and_then(Value::scalar), Some("set up"));
    let socket = directory.join("run/agent.sock");
    assert_eq!(json.member("socket").and_then(Value::scalar), socket.to_str());
    let config = text(&directory.join("agent.toml"));
    for line in ["[token.trial]", "[client.\"me\"]"] {
        assert!(config.lines().any(|candidate| candidate == line), "{line}\n{config}");
    }
    assert!(directory.join("state/softhsm").is_dir() && directory.join("run").is_dir());
    assert!(!program.home().join(".config").exists(), "nothing is written elsewhere");
}

#[test]
fn what_comes_next_can_be_copied_into_a_shell_whatever_the_path_holds() {
    let program = Program::new(None);
    for name in ["plain", "with blank", "it's $HOME", "a;b&c"] {
        let directory = program.home().join(name);
        let ran = program.run(&["init", "--dir", directory.to_str().expect("UTF-8"), "--yes"]);
        assert_eq!(ran.exit, 0, "{ran:?}");
        let next: Vec<_> =
            ran.out.lines().skip_while(|line| *line != "next:").skip(1).map(str::trim).collect();
        let export = next.iter().find(|step| step.starts_with("export ")).expect("it is said");
        let start = next
            .iter()
            .find(|step| step.starts_with("countersign-agent run "))
            .expect("it is said");
        // A shell reads the commands.
        let script = format!(
            "{export}; countersign-agent() {{ printf '%s\\n' \"$COUNTERSIGN_SOCK\" \"$#\" \"$@\"; \
             }}\n{}",
            start.trim_end_matches('&')
        );
        let run =
            std::process::Command::new("bash").args(["-c", &script]).output().expect("bash runs");
        let read = String::from_utf8(run.stdout).expect("UTF-8");
        let (socket, config) = (directory.join("run/agent.sock"), directory.join("agent.toml"));
        assert_eq!(
            read,
            format!("{}\n3\nrun\n--config\n{}\n", socket.display(), config.display()),
            "{script}"
        );
    }
}

#[test]
fn a_user_whom_the_machine_has_no_name_for_is_named_by_number() {
    let program = Program::new(None);
    let nobody_known = program.home().join("bin");
    fs::create_dir(&nobody_known).expect("makes");
    fs::write(nobody_known.join("getent"), "#!/bin/sh\nexit 2\n").expect("writes");
    fs::set_permissions(nobody_known.join("getent"), fs::Permissions::from_mode(0o755))
        .expect("own file");
    let directory = program.home().join("trial");
    let mut command =
        program.command(&["init", "--yes", "--dir", directory.to_str().expect("UTF-8")]);
    command.env("PATH", format!("{}:/usr/bin:/bin", nobody_known.display()));
    let ran = command.output().expect("runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let line = format!("user = {}", rustix::process::geteuid().as_raw());
    let config = text(&directory.join("agent.toml"));
    assert!(config.lines().any(|candidate| candidate == line), "{line}\n{config}");
}

#[test]
fn where_no_token_was_made_nothing_is_said_to_be_left_over() {
    let program = Program::new(None);
    let directory = program.home().join("a#b");
    let ran = program.run(&["init", "--dir", directory.to_str().expect("UTF-8"), "--yes"]);
    assert!(ran.exit == 78 && ran.err.contains("must be without # and ="), "{ran:?}");
    assert!(
        ran.err.contains("next: nothing was made") && !ran.err.contains("interrupted"),
        "{ran:?}"
    );
}

#[test]
fn an_interrupted_run_is_gone_on_with() {
    let program = Program::new(None);
    let directory = program.home().join("trial");
    let words = ["init", "--dir", directory.to_str().expect("UTF-8"), "--yes"];
    assert_eq!(program.run(&words).exit, 0);
    let config = text(&directory.join("agent.toml"));
    fs::remove_file(directory.join("agent.toml")).expect("removes");
    fs::remove_file(directory.join("countersign-agent.service")).expect("removes");
    assert_eq!(program.run(&words).exit, 0, "the token that was made is used again");
    assert_eq!(text(&directory.join("agent.toml")), config);
    fs::remove_file(directory.join("agent.toml")).expect("removes");
    fs::remove_file(directory.join("token.json")).expect("removes");
    let unknown = program.run(&words);
    assert_eq!(unknown.exit, 78, "{unknown:?}");
    assert!(unknown.err.contains("an init that was interrupted"), "{unknown:?}");
    assert!(!directory.join("agent.toml").exists() && directory.join("state/softhsm").exists());
}

#[test]
fn what_is_there_is_replaced_only_by_force_and_kept_beside() {
    let program = Program::new(None);
    let directory = program.home().join("trial");
    let config = directory.join("agent.toml");
    fs::create_dir(&directory).expect("makes");
    fs::write(&config, "broken, and mine").expect("writes");
    let words = ["init", "--dir", directory.to_str().expect("UTF-8"), "--yes"];
    let ran = program.run(&words);
    assert!(ran.exit == 78 && ran.err.contains("--force"), "{ran:?}");
    assert_eq!(text(&config), "broken, and mine");
    assert_eq!(program.run(&[&words[..], &["--force"]].concat()).exit, 0);
    assert_eq!(text(&directory.join("agent.toml.old")), "broken, and mine");
    assert!(text(&config).starts_with("# Written by countersign init."));
}

#[test]
fn a_hardware_token_needs_its_label_and_no_software_permission() {
    let program = Program::new(None);
    let directory = program.home().join("trial");
    let words = ["init", "--dir", directory.to_str().expect("UTF-8"), "--yes", "--profile", "luna"];
    assert_eq!(program.run(&words).exit, 2);
    assert!(!directory.exists(), "nothing is made before everything is known");
    assert_eq!(program.run(&[&words[..], &["--label", "main"]].concat()).exit, 0);
    let config = text(&directory.join("agent.toml"));
    assert!(config.contains("profile = \"luna\"") && config.contains("pin = { prompt = true }"));
    assert!(!config.contains("allow_software_tokens"));
    let absent = program.run(&[
        "init",
        "--dir",
        "/tmp/never",
        "--yes",
        "--profile",
        "yubihsm2",
        "--label",
        "x",
    ]);
    assert!(
        absent.exit == 78 && absent.err.contains("no PKCS#11 module for yubihsm2"),
        "{absent:?}"
    );
}

#[test]
fn nobody_is_asked_where_nobody_is() {
    let program = Program::new(None);
    let ran = program.run(&["init"]);
    assert!(ran.exit == 2 && ran.err.contains("--yes"), "{ran:?}");
    assert_eq!(fs::read_dir(program.home()).expect("there").count(), 0);
}
