//! A vault's process is killed at many points. The next process always opens the vault with a
//! touch.

use std::fs;
use std::process::Stdio;

use crate::harness::softhsm::AGENT;
use crate::harness::timing::repetitions;
use crate::harness::vault_agent::{VaultAgent, binance};

/// Calls that change files. The process may be killed after each of them.
const CHANGES: [&str; 6] = ["fsync", "rename", "openat", "unlink", "write", "mkdir"];

fn opens(this: &VaultAgent, after: &str) {
    let output = this.command(&["rotate", "vault"]);
    assert!(output.status.success(), "after {after}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Rotates the PIN under strace, which kills the process at the `number`th such call. Returns false
/// if there is no such call.
fn killed_at(this: &VaultAgent, call: &str, number: usize) -> bool {
    let mut command = this.desk.rig.command("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:signal=KILL:when={number}")]);
    command.args([AGENT, "vault", "rotate", "vault", "--config"]).arg(this.agent.config_file());
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .expect("strace");
    !output.status.success()
}

#[test]
fn every_point_at_which_it_can_be_killed_leaves_a_vault_that_opens() {
    let this = VaultAgent::start();
    this.fingers(true);
    let mut points = 0;
    for call in CHANGES {
        // Most of these calls come before the sealed file is read, while there is nothing to lose.
        let step = if call == "openat" || call == "write" { repetitions(7, 1) } else { 1 };
        for number in (1..).step_by(step) {
            if !killed_at(&this, call, number) {
                break;
            }
            points += 1;
            opens(&this, &format!("{call} number {number}"));
        }
    }
    eprintln!("{points} points at which a rotation was killed");
    assert!(points > 30, "{points}");
}

#[test]
fn a_vault_host_in_its_login_comes_to_its_end_when_the_spawner_is_killed() {
    let mut this = VaultAgent::with_keys();
    this.wait_until_closed();
    let sealed = || fs::read(this.directory().join("sealed")).expect("readable");
    let before = (sealed(), this.shim.calls("C_Login"));
    this.shim.plan("C_Login sleep 1000 times=1");
    let mut client = this.agent.client();
    let (key, path, params) = binance("0.1");
    let id = this.ask(&mut client, key, path, &params).expect("asked");
    this.approve(&id).expect("approved");
    this.agent.wait_until("the login is under way", |_| this.shim.calls("C_Login") == before.1 + 1);
    let spawner =
        rustix::process::Pid::from_raw(this.agent.spawner().expect("a spawner")).expect("a pid");
    rustix::process::kill_process(spawner, rustix::process::Signal::KILL).expect("killed");
    this.agent.wait_until("it has ended", |_| this.vault_hosts().is_empty());
    assert_ne!(sealed(), before.0, "it set another PIN");
    for left in ["sealed.new", "token.copy"] {
        assert!(!this.directory().join(left).exists(), "{left}: it was cut off");
    }
    this.agent.wait();
    this.agent.begin();
    this.agent.wait_until("it listens", |agent| countersign::Admin::open(&agent.sockets()).is_ok());
    this.agent.wait_until("it signs again", |_| this.withdraw(key, path, &params).is_ok());
}

#[test]
fn kills_at_any_moment_of_rotations_leave_a_vault_that_opens() {
    let this = VaultAgent::start();
    this.fingers(true);
    let begun = std::time::Instant::now();
    opens(&this, "nothing");
    let whole = begun.elapsed();
    let mut cut_off = 0;
    for round in 0..repetitions(50, 1_000) {
        let mut child = this.vault_command(&["rotate", "vault"]);
        let mut child = child
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("runs");
        let mut random = [0; 4];
        countersign_base::system::random::fill(&mut random).expect("random");
        let part = f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX);
        std::thread::sleep(whole.mul_f64(0.3 + 0.8 * part));
        let _ = child.kill();
        cut_off += u32::from(!child.wait().expect("ended").success());
        opens(&this, &format!("round {round}"));
    }
    eprintln!("{cut_off} rotations were killed");
    assert!(cut_off > 5, "{cut_off}");
}
