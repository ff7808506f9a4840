//! The front's side of a token host, tried on hosts that answer, hang, die or talk nonsense.

use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use countersign_base::messages::token_host::{Bytes, ToHost};
use countersign_core::algorithm::Algorithm;
use countersign_core::ports::TokenError;
use countersign_front::tokens::host_handle::Deadlines;
use countersign_front::tokens::supervisor::{HostConfig, Supervisor};
use countersign_front::tokens::token_status::TokenState;
use secrecy::ExposeSecret;

use crate::harness::fake_host::{Supervised, facts, key, spawner};
use crate::harness::served::in_runtime;

fn exists(process: i32) -> bool {
    std::path::Path::new(&format!("/proc/{process}")).exists()
}

#[test]
fn a_host_signs_with_an_empty_environment_and_stops_without_a_trace() {
    in_runtime(async {
        let _ours = UnixStream::pair().expect("sockets that are not for the host");
        let supervised = Supervised::healthy("-").await;
        let signature =
            supervised.token.sign("k", Algorithm::HmacSha256, b"message").await.expect("signed");
        assert_eq!(signature.bytes, b"message");
        assert_eq!(signature.passphrase.expect("there is one").expose_secret(), "open sesame");
        // Two descriptors of one socket: standard input, and the copy that the fake host made of
        // it.
        assert!(supervised.starts()[0].ends_with(" [] 2"), "{:?}", supervised.starts());
        let status = supervised.token.status();
        assert_eq!((status.facts, status.keys), (facts(), vec![key()]));
        assert_eq!(supervised.token.rescan().await.expect("answered").len(), 2);
        assert_eq!(supervised.token.status().keys.len(), 2);
        let started = Instant::now();
        supervised.token.stop().await;
        assert!(started.elapsed() < Duration::from_millis(400), "politely");
        assert!(!exists(supervised.process()), "reaped");
        assert!(matches!(supervised.sign("late").await, Err(TokenError::Unavailable(_))));
        assert_eq!(supervised.starts().len(), 1);
    });
}

#[test]
fn many_requests_at_once_get_each_its_own_answer() {
    in_runtime(async {
        let supervised = Rc::new(Supervised::healthy("-").await);
        let mut requests = tokio::task::JoinSet::new();
        for number in 0..1000 {
            let supervised = Rc::clone(&supervised);
            requests.spawn_local(async move {
                assert_eq!(
                    supervised.sign(&number.to_string()).await.expect("signed"),
                    number.to_string().as_bytes()
                );
            });
        }
        while let Some(result) = requests.join_next().await {
            result.expect("answered");
        }
    });
}

#[test]
fn requests_of_one_round_reach_the_host_in_one_write() {
    in_runtime(async {
        let supervised = Rc::new(Supervised::healthy("-").await);
        let first = supervised.sign("count what waits");
        let others = async {
            tokio::join!(supervised.sign("a"), supervised.sign("b"), supervised.sign("c"))
        };
        let (waiting, _) = tokio::join!(first, others);
        let one = postcard::to_stdvec(&ToHost::Sign {
            id: 2,
            key: "k",
            algorithm: Algorithm::HmacSha256,
            message: Bytes(b"a"),
        });
        let expected = 3 * (4 + one.expect("encodes").len());
        assert_eq!(waiting.expect("signed"), expected.to_string().as_bytes());
    });
}

#[test]
fn a_host_that_hangs_is_killed_and_all_who_wait_are_told() {
    in_runtime(async {
        let supervised = Supervised::healthy("-").await;
        let hung = supervised.process();
        let started = Instant::now();
        let (first, second) = tokio::join!(supervised.sign("hang"), supervised.sign("behind it"));
        assert!(matches!(
            (first, second),
            (Err(TokenError::Timeout(_)), Err(TokenError::Timeout(_)))
        ));
        assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
        eventually(|| supervised.starts().len() == 2).await;
        supervised.becomes(TokenState::Healthy).await;
        assert!(!exists(hung), "reaped");
        assert_eq!(supervised.sign("again").await.expect("signed"), b"again");
    });
}

#[test]
fn a_hang_of_one_kind_of_key_is_noticed_while_the_other_goes_on() {
    in_runtime(async {
        let supervised = Supervised::healthy("-").await;
        let first = supervised.process();
        let hung = supervised.token.sign("k", Algorithm::Ed25519, b"silent");
        let busy = async {
            while supervised.process() == first {
                let _ = supervised.sign("busy").await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let (hung, ()) = tokio::join!(hung, busy);
        assert!(matches!(hung, Err(TokenError::Timeout(_))));
    });
}

#[test]
fn a_host_that_dies_or_talks_nonsense_is_back_within_a_second() {
    in_runtime(async {
        for message in ["die", "garbage", "unasked"] {
            let supervised = Supervised::healthy("-").await;
            let (first, second) =
                tokio::join!(supervised.sign(message), supervised.sign("behind it"));
            let died = Instant::now();
            assert!(matches!(first, Err(TokenError::Unavailable(_))), "{message}: {first:?}");
            if message == "die" {
                assert!(matches!(second, Err(TokenError::Unavailable(_))), "{second:?}");
            }
            supervised.becomes(TokenState::Healthy).await;
            assert_eq!(supervised.sign("again").await.expect("signed"), b"again");
            assert!(died.elapsed() < Duration::from_secs(1), "{message}: {:?}", died.elapsed());
            assert!(supervised.token.status().last_error.is_some());
        }
    });
}

#[test]
fn a_refused_request_harms_nobody() {
    in_runtime(async {
        let supervised = Supervised::healthy("-").await;
        assert!(matches!(supervised.sign("fail").await, Err(TokenError::Unavailable(_))));
        assert_eq!(supervised.sign("next").await.expect("signed"), b"next");
        assert_eq!(supervised.starts().len(), 1);
    });
}

#[test]
fn a_crash_loop_slows_down() {
    in_runtime(async {
        for behaviour in ["d", "g"] {
            let supervised = Supervised::start(behaviour);
            tokio::time::sleep(Duration::from_millis(1500)).await;
            let starts = supervised.starts().len();
            assert!((3..=6).contains(&starts), "{starts} starts: 0, 100, 200, 400, 800 ms apart");
            let status = supervised.token.status();
            assert!(status.state == TokenState::Down && status.next_try_ms.is_some(), "{status:?}");
            let asked = Instant::now();
            assert!(matches!(supervised.sign("x").await, Err(TokenError::Unavailable(_))));
            assert!(asked.elapsed() < Duration::from_millis(50), "refused at once");
            supervised.token.stop().await;
        }
    });
}

#[test]
fn a_refused_pin_is_not_tried_again_until_the_operator_says_so() {
    in_runtime(async {
        let supervised = Supervised::start("p");
        supervised.becomes(TokenState::Down).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(supervised.starts().len(), 1);
        let status = supervised.token.status();
        assert!(
            status.next_try_ms.is_none()
                && status.last_error.expect("there is one").contains("PIN")
        );
        supervised.token.retry();
        eventually(|| supervised.starts().len() == 2).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(supervised.starts().len(), 2);
        supervised.token.stop().await;
    });
}

#[test]
fn an_operator_who_is_as_quick_as_the_host_was_is_heard() {
    in_runtime(async {
        let supervised = Supervised::start("p");
        supervised.becomes(TokenState::Down).await;
        assert!(supervised.token.status().given_up, "known as soon as the host is gone");
        supervised.token.retry();
        eventually(|| supervised.starts().len() == 2).await;
        supervised.becomes(TokenState::Down).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(supervised.starts().len(), 2, "heard once");
        supervised.token.stop().await;
    });
}

#[test]
fn an_idle_host_is_tested_and_killed_when_it_does_not_answer() {
    in_runtime(async {
        let tested = Supervised::healthy("-").await;
        let hangs = Supervised::healthy("h").await;
        eventually(|| hangs.starts().len() > 1).await;
        assert!(hangs.token.status().last_error.expect("there is one").contains("hung"));
        assert_eq!(tested.starts().len(), 1);
        assert_eq!(tested.token.status().state, TokenState::Healthy);
    });
}

#[test]
fn a_busy_token_that_only_fails_is_tested_and_one_that_signs_is_not_called_degraded() {
    in_runtime(async {
        for (message, expected) in [("fail", TokenState::Degraded), ("sign", TokenState::Healthy)] {
            let supervised = Supervised::healthy("f").await;
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(800) {
                let _ = supervised.sign(message).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(supervised.token.status().state, expected, "{message}");
            assert_eq!(supervised.token.fault(), None);
        }
    });
}

#[test]
fn a_supervisor_at_work_is_not_at_fault_whatever_its_host_does() {
    in_runtime(async {
        for behaviour in ["-", "d", "f", "h", "p", "s"] {
            let supervised = Supervised::start(behaviour);
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(700) {
                assert_eq!(supervised.token.fault(), None, "{behaviour}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            supervised.token.stop().await;
        }
    });
}

#[test]
fn a_host_that_will_not_stop_is_killed() {
    in_runtime(async {
        for behaviour in ["u", "s"] {
            let supervised = Supervised::start(behaviour);
            eventually(|| !supervised.starts().is_empty()).await;
            let started = Instant::now();
            supervised.token.stop().await;
            assert!(started.elapsed() < Duration::from_secs(1));
            assert!(!exists(supervised.process()));
        }
    });
}

#[test]
fn a_program_that_is_not_there_is_reported_and_tried_again() {
    in_runtime(async {
        let config = HostConfig {
            name: "hsm".to_owned(),
            settings: Vec::new(),
            keeps_pin: false,
            deadlines: Deadlines::default(),
        };
        let token = Supervisor::start(config, spawner("as_a_spawner_without_a_program"));
        let mut changes = token.subscribe();
        let down = changes.wait_for(|status| status.next_try_ms.is_some());
        let status = down.await.expect("the supervisor runs").clone();
        assert_eq!(status.state, TokenState::Down);
        assert!(status.last_error.expect("there is one").contains("could not be started"));
        token.stop().await;
    });
}

async fn eventually(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "it never happened");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
