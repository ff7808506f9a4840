//! Tokens that hang, fail, crash or vanish.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use countersign::Error;
use countersign_core::refusal::Code;
use rustix::process::Signal;

use crate::harness::agent::call;
use crate::harness::scene::{ANSWERED, BACK, Scene};

const FUNCTION_FAILED: &str = "6";
pub(super) const DEVICE_ERROR: &str = "48";

#[test]
fn a_signature_that_hangs_is_a_timeout_and_the_token_is_back() {
    let scene = Scene::new();
    let logins = scene.shim.calls("C_Login");
    scene.unfelt(|| {
        scene.shim.plan("C_Sign hang times=1");
        let answer = scene.ask();
        assert_eq!(answer.code(), Code::TokenTimeout);
        assert!(answer.after < ANSWERED, "{answer:?}");
        scene.assert_failed_on_record(&answer);
        scene.wait_for_signature(BACK);
    });
    scene.assert_said("hung and was killed");
    assert_eq!(scene.shim.calls("C_Login"), logins + 1, "one new process, one login");
}

/// Together the requests take longer than one request may. A slow token is not taken for one that
/// hangs.
#[test]
fn a_slow_token_answers_each_of_many_requests_when_it_is_signed() {
    let scene = Scene::new();
    let logins = scene.shim.calls("C_Login");
    let calls = [(); 8].map(|()| call("binance-mm", "GET", "/api/v3/account", "{}"));
    scene.shim.plan("C_Sign sleep 400");
    let replies = scene.agent.client().sign_all(&calls).expect("answers");
    scene.shim.plan("");
    assert!(replies[0].is_ok() && replies[1].is_ok(), "{replies:?}");
    for reply in replies.iter().filter_map(|reply| reply.as_ref().err()) {
        let Error::Refused(refused) = reply else { panic!("{reply:?}") };
        assert_eq!(refused.known_code(), Some(Code::TokenTimeout), "{reply:?}");
    }
    scene.wait_for_signature(BACK);
    assert_eq!(
        scene.shim.calls("C_Login"),
        logins,
        "the same process; log:\n{}",
        scene.agent.log()
    );
}

#[test]
fn one_device_error_is_a_clear_error_and_the_token_is_back() {
    let scene = Scene::new();
    let logins = scene.shim.calls("C_Login");
    scene.unfelt(|| {
        scene.shim.plan(&format!("C_Sign return {DEVICE_ERROR} times=1"));
        let answer = scene.ask();
        assert_eq!(answer.code(), Code::TokenUnavailable);
        assert!(answer.after < Duration::from_secs(1), "{answer:?}");
        scene.assert_failed_on_record(&answer);
        scene.wait_for_signature(BACK);
    });
    scene.assert_said("the token reported DeviceError in C_Sign");
    assert_eq!(scene.shim.calls("C_Login"), logins + 1);
}

#[test]
fn a_token_that_goes_on_failing_answers_at_once_and_is_back_when_it_works() {
    let scene = Scene::new();
    scene.unfelt(|| {
        scene.shim.plan(&format!("C_Sign return {DEVICE_ERROR}"));
        let failing = Instant::now();
        // If the pauses doubled without end, they would by now be longer than a token may take to
        // be back.
        while failing.elapsed() < Duration::from_secs(8) {
            let answer = scene.ask();
            assert_eq!(answer.code(), Code::TokenUnavailable);
            assert!(answer.after < Duration::from_secs(1), "{answer:?}");
            thread::sleep(Duration::from_millis(50));
        }
        let token = scene.token("hsm");
        assert!(matches!(&*token.state, "down" | "starting"), "{token:?}");
        assert!(token.last_error.is_some_and(|error| error.contains("C_Sign")));
        scene.shim.plan("");
        scene.wait_for_signature(BACK);
    });
    assert_eq!(scene.token("hsm").state, "healthy");
}

#[test]
fn a_failing_sign_init_is_a_clear_error_and_shown_by_status() {
    let scene = Scene::new();
    let logins = scene.shim.calls("C_Login");
    scene.unfelt(|| {
        scene.shim.plan(&format!("C_SignInit return {FUNCTION_FAILED}"));
        let answer = scene.ask();
        assert_eq!(answer.code(), Code::TokenUnavailable);
        assert!(answer.after < Duration::from_secs(1), "{answer:?}");
        scene.assert_failed_on_record(&answer);
        scene.agent.wait_until("status shows it", |_| scene.token("hsm").state != "healthy");
        scene.shim.plan("");
        scene.wait_for_signature(BACK);
    });
    assert_eq!(scene.token("hsm").state, "healthy");
    assert!(scene.shim.calls("C_Login") <= logins + 1);
}

#[test]
fn a_module_that_aborts_takes_its_host_and_nothing_else() {
    let scene = Scene::new();
    scene.unfelt(|| {
        scene.shim.plan("C_Sign abort times=1");
        let answer = scene.ask();
        assert_eq!(answer.code(), Code::TokenUnavailable);
        assert!(answer.after < Duration::from_secs(1), "{answer:?}");
        scene.assert_failed_on_record(&answer);
        scene.wait_for_signature(BACK);
    });
    scene.assert_said("the token host closed its socket");
}

#[test]
fn a_token_that_goes_away_is_back_when_it_is_there_again() {
    let scene = Scene::new();
    let (tokens, away) =
        (scene.agent.token.tokens(), scene.agent.token.tokens().with_file_name("away"));
    let logins = scene.shim.calls("C_Login");
    scene.unfelt(|| {
        fs::rename(&tokens, &away).expect("moved");
        // SoftHSM goes on signing with its copies in memory. The agent has a token test itself that
        // gets no requests.
        scene.agent.wait_until("the loss is seen", |_| scene.token("hsm").state != "healthy");
        let gone = Instant::now();
        while gone.elapsed() < Duration::from_secs(8) {
            let answer = scene.ask();
            assert_eq!(answer.code(), Code::TokenUnavailable);
            assert!(answer.after < Duration::from_secs(1), "{answer:?}");
            thread::sleep(Duration::from_millis(50));
        }
        fs::rename(&away, &tokens).expect("moved back");
        scene.wait_for_signature(BACK);
    });
    scene.assert_said("the token reported GeneralError in C_Initialize");
    assert_eq!(scene.shim.calls("C_Login"), logins + 1, "none while it was gone");
    let journal = scene.agent.journal();
    let told = journal
        .lines()
        .filter(|line| line.contains("\"kind\":\"token\"") && line.contains("\"hsm\""));
    assert!(
        (2..8).contains(&told.clone().count()),
        "one loss, not each try: {:?}",
        told.collect::<Vec<_>>()
    );
}

#[test]
fn a_module_that_is_missing_is_tried_again_at_a_reload() {
    let mut scene = Scene::new();
    let (module, away) = (scene.shim.module(), scene.shim.module().with_extension("away"));
    scene.agent.stop(Signal::TERM);
    fs::rename(&module, &away).expect("moved");
    scene.agent.begin();
    scene.agent.wait_until("the agent listens", |agent| {
        countersign::Admin::open(&agent.sockets()).is_ok()
    });
    scene.agent.wait_until("the missing module is seen", |_| scene.token("hsm").state == "down");
    scene
        .agent
        .wait_until("the other token is there", |_| scene.token("steady").state == "healthy");
    assert!(scene.agent.sign("steady", "GET", "/api/v3/account", "{}").is_ok());
    let token = scene.token("hsm");
    assert!(token.last_error.is_some_and(|error| error.contains("libshim.so")), "names the file");
    assert_eq!(scene.ask().code(), Code::TokenUnavailable);
    fs::rename(&away, &module).expect("moved back");
    scene.agent.signal(Signal::HUP);
    scene.wait_for_signature(BACK);
}
