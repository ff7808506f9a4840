//! Requests that a client sends ahead are all answered, in order.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use crate::harness::byte_client::extension;
use crate::harness::served::{Served, quick};

#[test]
fn two_pipelined_requests_get_two_answers_in_order() {
    let served = Served::start(quick());
    let mut client = served.connect();
    client.send(
        &[extension("sleep@countersign", "100"), extension("echo@countersign", "second")].concat(),
    );
    assert_eq!(client.answer().as_deref(), Some("100"));
    assert_eq!(client.answer().as_deref(), Some("second"));
}

#[test]
fn pipelined_requests_run_together() {
    let served = Served::start(quick());
    let mut client = served.connect();
    let started = Instant::now();
    client.send(&extension("sleep@countersign", "200").repeat(50));
    for _ in 0..50 {
        assert_eq!(client.answer().as_deref(), Some("200"));
    }
    assert!(started.elapsed() < Duration::from_secs(5), "one after the other takes 10 s");
}

#[test]
fn more_requests_than_may_be_in_flight_are_all_answered() {
    let served = Served::start(quick());
    let mut client = served.connect();
    let requests: Vec<_> =
        (0..1000).flat_map(|number| extension("echo@countersign", &number.to_string())).collect();
    client.send(&[extension("sleep@countersign", "600"), requests].concat());
    client.0.shutdown(Shutdown::Write).expect("half-closed");
    assert_eq!(
        client.answer().as_deref(),
        Some("600"),
        "waiting for us is not a half frame of theirs"
    );
    for number in 0..1000 {
        assert_eq!(client.answer(), Some(number.to_string()));
    }
    assert_eq!(client.answer(), None);
}

#[test]
fn one_byte_at_a_time_is_answered() {
    let served = Served::start(quick());
    let mut client = served.connect();
    for byte in extension("echo@countersign", "slow") {
        client.send(&[byte]);
    }
    assert_eq!(client.answer().as_deref(), Some("slow"));
}
