//! Logins that hang, fail, are cut off or refused: without a person at most one wrong try is spent.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use countersign_core::refusal::Code;
use rustix::process::{Pid, Signal, kill_process};

use super::faulty_tokens::DEVICE_ERROR;
use crate::harness::processes::is_gone;
use crate::harness::scene::{BACK, Scene};
use crate::harness::softhsm::AGENT;

#[test]
fn a_login_that_hangs_spends_one_more_try_at_most() {
    let scene = Scene::new();
    let logins = scene.shim.calls("C_Login");
    scene.unfelt(|| {
        scene.shim.plan("C_Login hang times=1");
        kill_host(&scene);
        let refused = scene.wait_for_signature(Duration::from_secs(10) + BACK);
        assert!(refused.iter().all(|answer| answer.after < Duration::from_secs(1)), "{refused:?}");
    });
    assert_eq!(
        scene.shim.calls("C_Login"),
        logins + 2,
        "the one that hung and the one that was accepted"
    );
}

#[test]
fn a_login_that_hangs_twice_is_given_up_until_a_person_clears_it() {
    let mut scene = Scene::new();
    let logins = scene.shim.calls("C_Login");
    scene.unfelt(|| {
        scene.shim.plan("C_Login hang");
        kill_host(&scene);
        wait_until_given_up(&scene);
    });
    scene.shim.plan("");
    scene.agent.stop(Signal::TERM);
    scene.agent.begin();
    scene.agent.wait_until("the agent listens", |agent| {
        countersign::Admin::open(&agent.sockets()).is_ok()
    });
    scene.agent.wait_until("the token is down", |_| scene.token("hsm").state == "down");
    assert_eq!(scene.shim.calls("C_Login"), logins + 2, "two that hung, and none after");
    reset(&scene);
    scene.wait_for_signature(BACK);
}

#[test]
fn a_login_that_fails_without_a_verdict_is_tried_once_more() {
    let scene = Scene::new();
    let logins = scene.shim.calls("C_Login");
    scene.unfelt(|| {
        scene.shim.plan(&format!("C_Login return {DEVICE_ERROR} times=1"));
        kill_host(&scene);
        let refused = scene.wait_for_signature(BACK);
        assert!(refused.iter().all(|answer| answer.after < Duration::from_secs(1)), "{refused:?}");
    });
    assert_eq!(
        scene.shim.calls("C_Login"),
        logins + 2,
        "the token shows no try as spent, so there is one more"
    );
}

#[test]
fn a_login_that_goes_on_failing_is_given_up_until_a_person_clears_it() {
    let scene = Scene::new();
    let logins = scene.shim.calls("C_Login");
    scene.unfelt(|| {
        scene.shim.plan(&format!("C_Login return {DEVICE_ERROR}"));
        kill_host(&scene);
        wait_until_given_up(&scene);
    });
    scene.shim.plan("");
    assert_eq!(scene.ask().code(), Code::TokenUnavailable);
    assert_eq!(scene.shim.calls("C_Login"), logins + 2, "two that failed, and none after");
    reset(&scene);
    scene.wait_for_signature(BACK);
}

#[test]
fn a_host_killed_inside_its_login_logs_in_once_more() {
    let scene = Scene::new();
    let logins = scene.shim.calls("C_Login");
    scene.unfelt(|| {
        kill_inside_login(&scene);
        scene.wait_for_signature(BACK);
    });
    assert_eq!(
        scene.shim.calls("C_Login"),
        logins + 2,
        "the one that was cut off and the one that was accepted"
    );
}

#[test]
fn a_host_ends_its_login_and_then_itself_when_the_front_is_killed() {
    let mut scene = Scene::new();
    let logins = scene.shim.calls("C_Login");
    scene.shim.plan("C_Login sleep 1000 times=1");
    let before = scene.agent.children();
    kill_host(&scene);
    scene.agent.wait_until("the login is under way", |_| scene.shim.calls("C_Login") == logins + 1);
    let host =
        scene.agent.children().into_iter().find(|pid| !before.contains(pid)).expect("a new host");
    scene.agent.stop(Signal::KILL);
    thread::sleep(Duration::from_millis(300));
    assert!(!is_gone(host), "a software token that is cut off here is lost");
    scene.agent.wait_until("the host has ended", |_| is_gone(host));
    scene.agent.begin();
    scene.agent.wait_until("the tokens are healthy", |agent| agent.tokens_are("healthy"));
}

#[test]
fn a_host_killed_inside_its_login_does_not_log_in_again_where_a_try_was_spent() {
    let scene = Scene::new();
    let logins = scene.shim.calls("C_Login");
    scene.unfelt(|| {
        scene.shim.plan("C_Login hang times=1");
        kill_host(&scene);
        scene.agent.wait_until("the login hangs", |_| scene.shim.calls("C_Login") == logins + 1);
        assert!(
            !scene.agent.token.pkcs11_tool_with("wrong-pin", &["--list-objects"]).status.success()
        );
        kill_host(&scene);
        wait_until_given_up(&scene);
    });
    assert_eq!(
        scene.shim.calls("C_Login"),
        logins + 1,
        "the token shows a try as spent: it may have been ours"
    );
    reset(&scene);
    scene.wait_for_signature(BACK);
}

/// Kills the host of the token behind the shim while it logs in.
fn kill_inside_login(scene: &Scene) {
    let logins = scene.shim.calls("C_Login");
    scene.shim.plan("C_Login hang times=1");
    kill_host(scene);
    scene.agent.wait_until("the login hangs", |_| scene.shim.calls("C_Login") == logins + 1);
    kill_host(scene);
}

/// Waits until the token waits for a person. Meanwhile its clients get their refusals at once.
fn wait_until_given_up(scene: &Scene) {
    let start = Instant::now();
    while scene.token("hsm").last_error.is_none_or(|error| !error.contains("cut off before")) {
        let answer = scene.ask();
        assert_eq!(answer.code(), Code::TokenUnavailable);
        assert!(answer.after < Duration::from_secs(1), "{answer:?}");
        assert!(start.elapsed() < Duration::from_secs(30), "log:\n{}", scene.agent.log());
        thread::sleep(Duration::from_millis(100));
    }
    let error = scene.token("hsm").last_error.unwrap_or_default();
    assert!(error.contains("countersign-agent pin-reset hsm"), "says what to do: {error}");
}

/// Does what a person does who knows that the PIN is right.
fn reset(scene: &Scene) {
    let reset = Command::new(AGENT)
        .args(["pin-reset", "hsm", "--state-dir"])
        .arg(scene.agent.state_dir())
        .output();
    assert!(reset.expect("runs").status.success());
    scene.agent.signal(Signal::HUP);
}

/// Kills the host of the token behind the shim.
fn kill_host(scene: &Scene) {
    let children = scene.agent.children();
    let maps = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let module = scene.shim.module();
    let name = module.to_str().expect("UTF-8");
    let host = children.into_iter().find(|pid| maps(pid).contains(name)).expect("a host");
    kill_process(Pid::from_raw(host).expect("a pid"), Signal::KILL).expect("killed");
}
