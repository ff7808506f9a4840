//! Signs of life to the service manager: the agent gives them unless it hangs itself.

use std::time::Duration;

use countersign_core::refusal::Code;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::scene::Scene;
use crate::harness::service_manager::ServiceManager;

/// The agent gives a sign of life every half second, so that a missing one is soon seen.
const LIMIT: Duration = Duration::from_secs(1);

fn scene(manager: &ServiceManager) -> Scene {
    let scene = Scene::launched(manager.environment(Some(LIMIT)));
    manager.until("READY=1");
    scene
}

#[test]
fn an_agent_that_stands_still_gives_no_sign_of_life() {
    let manager = ServiceManager::new();
    let scene = scene(&manager);
    assert!(manager.signs_of_life(Duration::from_secs(3)) >= 4, "at half the limit");
    scene.agent.signal(Signal::STOP);
    manager.signs_of_life(Duration::from_millis(200)); // a sign that was on its way
    assert_eq!(manager.signs_of_life(LIMIT * 2), 0);
    scene.agent.signal(Signal::CONT);
    assert!(manager.signs_of_life(LIMIT * 2) >= 2);
}

#[test]
fn an_agent_that_can_start_no_host_gives_no_sign_of_life() {
    let manager = ServiceManager::new();
    let scene = scene(&manager);
    let spawner = Pid::from_raw(scene.agent.spawner().expect("one")).expect("a pid");
    let hosts = scene.agent.children();
    kill_process(spawner, Signal::STOP).expect("stopped");
    manager.signs_of_life(LIMIT);
    assert!(manager.signs_of_life(LIMIT) >= 1, "nobody has missed it yet");
    kill_process(Pid::from_raw(hosts[0]).expect("a pid"), Signal::KILL).expect("killed");
    // The host's end takes a second, and the start of the next less than five.
    manager.signs_of_life(Duration::from_secs(8));
    assert_eq!(manager.signs_of_life(LIMIT * 2), 0);
    assert!(scene.agent.log().contains("its supervisor does nothing"), "{}", scene.agent.log());
    kill_process(spawner, Signal::CONT).expect("goes on");
    manager.signs_of_life(LIMIT * 2);
    assert!(manager.signs_of_life(LIMIT * 2) >= 2);
}

#[test]
fn a_token_that_hangs_for_good_does_not_take_the_agent_with_it() {
    let manager = ServiceManager::new();
    let scene = scene(&manager);
    scene.shim.plan("C_Sign hang");
    let mut signs = Vec::new();
    // Longer than the agent waits for a proof of life of a token.
    for _ in 0..30 {
        assert!(matches!(scene.ask().code(), Code::TokenTimeout | Code::TokenUnavailable));
        assert!(scene.agent.sign("steady", "GET", "/api/v3/account", "{}").is_ok());
        signs.push(manager.signs_of_life(LIMIT));
    }
    // A request to the token that hangs may take two seconds.
    assert!(signs.iter().all(|signs| *signs >= 1), "{signs:?}");
    scene.shim.plan("");
    scene.agent.wait_until("the token is back", |_| scene.token("hsm").state == "healthy");
}
