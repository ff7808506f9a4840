//! Peers that are slow, half closed or gone keep nobody else waiting.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use crate::harness::byte_client::extension;
use crate::harness::served::{Served, eventually, quick};

#[test]
fn a_frame_that_trickles_in_hits_the_deadline_and_an_idle_connection_does_not() {
    let served = Served::start(quick());
    let mut idle = served.connect();
    let mut slow = served.connect();
    let started = Instant::now();
    let request = extension("echo@countersign", "never");
    let sent = request.iter().take_while(|byte| {
        use std::io::Write;
        std::thread::sleep(Duration::from_millis(100));
        slow.0.write_all(&[**byte]).is_ok()
    });
    assert!(sent.count() < request.len(), "the server hangs up");
    assert!(started.elapsed() >= Duration::from_millis(400));
    assert_eq!(idle.ask("echo@countersign", "here"), "here");
}

#[test]
fn a_half_closed_connection_gets_its_answers_and_then_the_end() {
    let served = Served::start(quick());
    let mut client = served.connect();
    client.send(&extension("sleep@countersign", "300"));
    client.0.shutdown(Shutdown::Write).expect("half-closed");
    assert_eq!(client.answer().as_deref(), Some("300"));
    assert_eq!(client.answer(), None);
}

#[test]
fn a_peer_that_does_not_read_is_dropped_and_others_stay_fast() {
    let served = Served::start(quick());
    let mut deaf = served.connect();
    deaf.send(&extension("length@countersign", "200000").repeat(20));
    let mut other = served.connect();
    let mut longest = Duration::ZERO;
    for _ in 0..200 {
        let started = Instant::now();
        assert_eq!(other.ask("echo@countersign", "fast"), "fast");
        longest = longest.max(started.elapsed());
        std::thread::sleep(Duration::from_millis(4));
    }
    assert!(longest < Duration::from_millis(200), "the slowest answer took {longest:?}");
    let mut read = 0;
    while let Ok(bytes @ 1..) = deaf.read(&mut [0; 65536]) {
        read += bytes;
    }
    assert!(read < 20 * 200_000, "dropped before all was written, after {read} bytes");
}

#[test]
fn a_request_learns_that_its_peer_is_gone() {
    let served = Served::start(quick());
    let note = served.path("note");
    let mut client = served.connect();
    client.send(&extension("until-gone@countersign", note.to_str().expect("text")));
    std::thread::sleep(Duration::from_millis(100));
    assert!(!note.exists());
    drop(client);
    eventually(|| note.exists());
}

#[test]
fn a_half_closed_peer_is_noticed_when_it_goes_too() {
    let served = Served::start(quick());
    let note = served.path("note");
    let mut client = served.connect();
    client.send(&extension("until-gone@countersign", note.to_str().expect("text")));
    client.0.shutdown(Shutdown::Write).expect("half-closed");
    std::thread::sleep(Duration::from_millis(300));
    assert!(!note.exists());
    drop(client);
    eventually(|| note.exists());
}
