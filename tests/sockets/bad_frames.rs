//! A frame that is not served is refused, and a bad one ends its connection and no other.

use crate::harness::byte_client::{extension, framed};
use crate::harness::served::{Served, ServedApart, quick};

const MIB: u64 = 1 << 20;

#[test]
fn a_bad_frame_ends_its_connection_after_the_answers_before_it_and_no_other() {
    let served = Served::start(quick());
    let mut other = served.connect();
    let bad = [
        framed(&[]),
        (600u32 << 20).to_be_bytes().to_vec(),
        vec![0xff; 4],
        framed(&[11, 0]),
        framed(&[27, 0, 0, 1, 0]),
    ];
    for bad in bad {
        let mut client = served.connect();
        client.send(
            &[extension("echo@countersign", "before"), bad, extension("echo@countersign", "after")]
                .concat(),
        );
        assert_eq!(client.answer().as_deref(), Some("before"));
        assert_eq!(client.answer(), None);
        assert_eq!(other.ask("echo@countersign", "fine"), "fine");
    }
}

#[test]
fn what_is_not_served_is_refused_and_the_connection_goes_on() {
    let served = Served::start(quick());
    let mut client = served.connect();
    for kind in [13, 17, 18, 19, 20, 21, 22, 23, 25, 26, 0, 255] {
        client.send(&framed(&[kind, 1, 2, 3]));
        assert_eq!(client.answer().as_deref(), Some("FAILURE"), "type {kind}");
    }
    assert_eq!(client.ask("nothing@countersign", "{}"), "FAILURE");
    assert_eq!(client.ask(&"x".repeat(100_000), "{}"), "FAILURE");
    client.send(&framed(&[&[27], &framed(&[0xff, 0xfe])[..]].concat()));
    assert_eq!(client.answer().as_deref(), Some("FAILURE"));
    assert!(client.ask("echo@countersign", &"x".repeat(65_537)).contains("request.malformed"));
    client.send(&framed(&[11]));
    assert_eq!(client.answer().as_deref(), Some("IDENTITIES"));
}

#[test]
fn a_length_of_600_mib_costs_no_memory() {
    let served = ServedApart::start(1024);
    assert_eq!(served.connect().ask("echo@countersign", "warm"), "warm");
    let before = served.resident();
    let mut hostile: Vec<_> = (0..50).map(|_| served.connect()).collect();
    for client in &mut hostile {
        client.send(&(600u32 << 20).to_be_bytes());
        assert_eq!(client.answer(), None);
    }
    let grown = served.resident().saturating_sub(before);
    assert!(grown < 2 * MIB, "grew by {grown} bytes");
}
