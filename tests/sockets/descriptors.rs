//! Descriptors that peers pass. One that the operator passes reaches the request that it came with.
//! All others are closed, and no other peer waits for that.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use countersign_front::sockets::listener::ServerLimits;
use rustix::net::SendFlags;
use rustix::net::sockopt::{set_socket_linger, set_socket_send_buffer_size};

use crate::harness::byte_client::{ByteClient, extension, framed};
use crate::harness::served::{Served, quick};

/// The kernel ends a read behind each message that carries descriptors, even if more follows.
#[test]
fn every_request_with_which_the_operator_passes_a_descriptor_is_answered() {
    let served = Served::start(quick());
    let operator = &mut ByteClient::connect(&served.path("admin.sock"));
    for number in 0..40 {
        operator.send_with(&extension("echo@countersign", &number.to_string()), 1);
    }
    for number in 0..40 {
        assert_eq!(operator.answer(), Some(number.to_string()));
    }
}

#[test]
fn a_client_that_passes_descriptors_has_read_its_last_answer() {
    let served = Served::start(quick());
    for socket in ["agent.sock", "bot.sock"] {
        for descriptors in 1..=3 {
            let client = &mut ByteClient::connect(&served.path(socket));
            client.send(&extension("echo@countersign", "before"));
            client.send_with(&extension("echo@countersign", "beside"), descriptors);
            client.send(&extension("echo@countersign", "after"));
            let answers: Vec<_> = std::iter::from_fn(|| client.answer()).collect();
            assert_eq!(answers, ["before", "beside"], "{socket}, {descriptors} descriptors");
        }
    }
}

/// A connection whose data nobody reads, and its other end. The process that closes it last has to
/// wait.
fn slow_to_close() -> std::io::Result<(OwnedFd, TcpStream)> {
    const LINGERS: Duration = Duration::from_secs(2);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut stream = TcpStream::connect(listener.local_addr()?)?;
    set_socket_send_buffer_size(&stream, 4096)?;
    stream.set_nonblocking(true)?;
    while stream.write(&[0; 65_536]).is_ok() {}
    set_socket_linger(&stream, Some(LINGERS))?;
    let (other, _) = listener.accept()?;
    Ok((stream.into(), other))
}

/// The name of a case, the peer's step before it passes a descriptor that is slow to close, the
/// flags, and its step after.
type Course = (&'static str, fn(&mut ByteClient), SendFlags, fn(ByteClient) -> Option<ByteClient>);

/// So many answers that the server reads no more until the peer reads, or ends the connection.
fn answers_not_read(client: &mut ByteClient) {
    client.send(&extension("length@countersign", "200000").repeat(40));
    std::thread::sleep(Duration::from_millis(50));
}

fn reads(mut client: ByteClient) -> Option<ByteClient> {
    while client.answer().is_some() {}
    Some(client)
}

#[test]
fn nobody_waits_for_what_a_peer_passed_that_is_slow_to_close() {
    let courses: [Course; 6] = [
        ("it reads", answers_not_read, SendFlags::empty(), reads),
        ("beside an urgent byte", answers_not_read, SendFlags::OOB, reads),
        ("it leaves", answers_not_read, SendFlags::empty(), |_| None),
        ("it stays and does not read", answers_not_read, SendFlags::empty(), Some),
        ("behind a bad frame", |client| client.send(&framed(&[])), SendFlags::empty(), Some),
        ("it is one too many", |_| {}, SendFlags::empty(), Some),
    ];
    let served = Served::start(ServerLimits { connections_per_uid: 2, ..quick() });
    let mut other = served.connect();
    assert_eq!(other.ask("echo@countersign", "in"), "in");
    for (name, before, flags, after) in courses {
        // The client that passes the descriptor is then one too many.
        let _second = (name == "it is one too many").then(|| served.connect());
        let (passed, _untaken) = slow_to_close().expect("connections to this machine itself");
        let mut client = served.connect();
        before(&mut client);
        let _ = client.pass(&extension("echo@countersign", "beside"), &[passed.as_fd()], flags);
        drop(passed);
        let _client = after(client);
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(1) {
            let asked = Instant::now();
            assert_eq!(other.ask("echo@countersign", "here"), "here", "{name}");
            assert!(asked.elapsed() < Duration::from_millis(500), "{name}: {:?}", asked.elapsed());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn send_with(client: &ByteClient, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    assert_eq!(
        client.pass(bytes, descriptors, SendFlags::empty()).expect("the server reads"),
        bytes.len()
    );
}

#[test]
fn a_descriptor_reaches_the_request_it_came_with() {
    let served = Served::start(quick());
    let mut operator = ByteClient::connect(&served.path("admin.sock"));
    let (mut reading, writing) = std::io::pipe().expect("a pipe");
    operator.send(&extension("who@countersign", ""));
    send_with(&operator, &extension("write@countersign", "through the pipe"), &[writing.as_fd()]);
    operator.send(&extension("who@countersign", ""));
    drop(writing);
    assert!(operator.answer().expect("an answer").ends_with("false"));
    assert_eq!(operator.answer().as_deref(), Some("Some(true)"));
    assert!(operator.answer().expect("an answer").ends_with("false"));
    let mut received = String::new();
    std::io::Read::read_to_string(&mut reading, &mut received)
        .expect("the server has closed its end");
    assert_eq!(received, "through the pipe");
}

#[test]
fn stray_descriptors_are_closed() {
    let served = Served::start(quick());
    let closed = |mut reading: std::io::PipeReader| {
        assert_eq!(std::io::Read::read(&mut reading, &mut [0]).expect("no writer is left"), 0);
    };
    let mut operator = ByteClient::connect(&served.path("admin.sock"));
    let (reading, writing) = std::io::pipe().expect("a pipe");
    send_with(&operator, &framed(&[13]), &[writing.as_fd()]);
    drop(writing);
    assert_eq!(operator.answer().as_deref(), Some("FAILURE"), "a message that takes none");
    closed(reading);

    let mut client = served.connect();
    let (reading, writing) = std::io::pipe().expect("a pipe");
    send_with(&client, &extension("who@countersign", ""), &[writing.as_fd()]);
    drop(writing);
    assert!(client.answer().expect("an answer").ends_with("false"), "clients may send none");
    assert_eq!(client.answer(), None);
    closed(reading);

    for count in [2, 3, 10] {
        let mut operator = ByteClient::connect(&served.path("admin.sock"));
        let (reading, writing) = std::io::pipe().expect("a pipe");
        send_with(&operator, &extension("who@countersign", ""), &vec![writing.as_fd(); count]);
        drop(writing);
        assert_eq!(operator.answer(), None, "{count} at once end the connection");
        closed(reading);
    }
}
