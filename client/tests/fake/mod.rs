//! An agent that answers as a test tells it, in a thread of the test.
#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod program;

use std::io::{BufRead, BufReader, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// The fake's reaction to one message.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Answers with this JSON.
    Json(String),
    /// Answers FAILURE.
    Failure,
    /// Sends these bytes as they are.
    Bytes(Vec<u8>),
    /// Sends these bytes one by one, with a pause after each.
    Drip(Vec<u8>, Duration),
    /// Never answers, but stays connected.
    Silence,
    Close,
    /// Reads one line from the terminal whose descriptor came along, then answers.
    AskOnDescriptor(String),
    /// Reads the descriptor that came along to its end, then answers.
    ReadDescriptor(String),
}

pub(crate) type Script = dyn Fn(&str, &str) -> Act + Send + Sync;

/// Listens on `agent.sock` and `admin.sock` in a directory of its own. The directory is removed
/// with it.
#[derive(Debug)]
pub(crate) struct FakeAgent {
    pub(crate) directory: Directory,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// One message as it arrived.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Seen {
    /// `agent` or `admin`.
    pub(crate) socket: &'static str,
    pub(crate) extension: String,
    pub(crate) payload: String,
    /// The text that was read from the descriptor that came along.
    pub(crate) read: Option<String>,
}

impl FakeAgent {
    pub(crate) fn start(script: impl Fn(&str, &str) -> Act + Send + Sync + 'static) -> Self {
        let fake = Self { directory: Directory::new(), seen: Arc::default() };
        let script: Arc<Script> = Arc::new(script);
        for (socket, path) in
            [("agent", fake.socket()), ("admin", fake.directory.path().join("admin.sock"))]
        {
            let listener = UnixListener::bind(path).expect("binds");
            let (script, seen) = (Arc::clone(&script), Arc::clone(&fake.seen));
            thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                    thread::spawn(move || serve(stream, socket, &*script, &seen));
                }
            });
        }
        fake
    }

    /// Answers every message with the same JSON.
    pub(crate) fn answering(json: &'static str) -> Self {
        Self::start(move |_, _| Act::Json(json.to_owned()))
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("agent.sock")
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no test panicked while it held it").clone()
    }
}

fn serve(mut stream: UnixStream, socket: &'static str, script: &Script, seen: &Mutex<Vec<Seen>>) {
    let mut buffer = Vec::new();
    let mut descriptor = None;
    loop {
        while let Some((extension, payload)) = next_message(&mut buffer) {
            let act = script(&extension, &payload);
            let read = match (&act, descriptor.take()) {
                (Act::ReadDescriptor(_), Some(descriptor)) => Some(read_to_end(descriptor)),
                (Act::AskOnDescriptor(_), Some(descriptor)) => Some(ask_on(descriptor)),
                _ => None,
            };
            let message = Seen { socket, extension: extension.clone(), payload, read };
            seen.lock().expect("no test panicked while it held it").push(message);
            if !perform(&mut stream, &extension, act) {
                return;
            }
        }
        if !receive(&stream, &mut buffer, &mut descriptor) {
            return;
        }
    }
}

fn read_to_end(descriptor: OwnedFd) -> String {
    let mut text = String::new();
    std::fs::File::from(descriptor).read_to_string(&mut text).expect("reads");
    text
}

fn ask_on(descriptor: OwnedFd) -> String {
    assert!(rustix::termios::isatty(&descriptor), "a terminal");
    let mut terminal = std::fs::File::from(descriptor);
    terminal.write_all(b"Secret: ").expect("can be asked on");
    let mut line = String::new();
    BufReader::new(terminal).read_line(&mut line).expect("reads");
    line
}

fn receive(stream: &UnixStream, buffer: &mut Vec<u8>, descriptor: &mut Option<OwnedFd>) -> bool {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut chunk = [0; 4096];
    let Ok(message) =
        recvmsg(stream, &mut [IoSliceMut::new(&mut chunk)], &mut control, RecvFlags::CMSG_CLOEXEC)
    else {
        return false;
    };
    for received in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = received {
            *descriptor = descriptors.last();
        }
    }
    buffer.extend_from_slice(&chunk[..message.bytes]);
    message.bytes > 0
}

/// Takes one whole extension message from the front of `buffer`.
fn next_message(buffer: &mut Vec<u8>) -> Option<(String, String)> {
    let length = u32::from_be_bytes(*buffer.first_chunk::<4>()?) as usize;
    if buffer.len() < 4 + length {
        return None;
    }
    let frame: Vec<u8> = buffer.drain(..4 + length).skip(4).collect();
    assert_eq!(frame[0], 27, "an extension message");
    let (name, rest) = string(&frame[1..]);
    let (payload, rest) = string(rest);
    assert!(rest.is_empty(), "nothing after the payload");
    Some((name, payload))
}

fn string(bytes: &[u8]) -> (String, &[u8]) {
    let length = u32::from_be_bytes(*bytes.first_chunk::<4>().expect("a length")) as usize;
    let (text, rest) = bytes[4..].split_at(length);
    (String::from_utf8(text.to_vec()).expect("UTF-8"), rest)
}

/// The frame of an answer.
pub(crate) fn answer(extension: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![29];
    for string in [extension.as_bytes(), payload] {
        message.extend_from_slice(&(string.len() as u32).to_be_bytes());
        message.extend_from_slice(string);
    }
    [&(message.len() as u32).to_be_bytes(), &message[..]].concat()
}

/// False if the connection ends.
fn perform(stream: &mut UnixStream, extension: &str, act: Act) -> bool {
    let bytes = match act {
        Act::AskOnDescriptor(json) | Act::Json(json) | Act::ReadDescriptor(json) => {
            answer(extension, json.as_bytes())
        }
        Act::Failure => vec![0, 0, 0, 1, 5],
        Act::Bytes(bytes) => bytes,
        Act::Drip(bytes, pause) => {
            return bytes.chunks(1).all(|byte| {
                thread::sleep(pause);
                stream.write_all(byte).is_ok()
            });
        }
        Act::Silence => return true,
        Act::Close => return false,
    };
    stream.write_all(&bytes).is_ok()
}

/// A directory that is removed with everything in it.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("countersign-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
