//! A disk that is really full: the agent signs nothing more and still takes a lock. With room it
//! signs again without a restart.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign::{Admin, AgentClient, Error};
use countersign_core::refusal::Code;
use countersign_core::wire::{PlainRequest, admin};
use rustix::process::Signal;

use crate::harness::agent::{self, API_KEY, Agent, SECRET, call};
use crate::harness::recorded::{Journal, assert_verified};
use crate::harness::small_disk::{Namespace, ask_until_full, fill, read, started};
use crate::harness::softhsm::SoftHsm;
use crate::harness::timing::StopAtEnd;

#[test]
fn a_full_disk_ends_signing_and_room_brings_it_back_without_a_restart() {
    let namespace = Namespace::new("size=2m");
    let (mut agent, state_dir) = started(&namespace);
    let (mut client, mut signed) = (agent.client(), Vec::new());
    let filler = state_dir.join("filler");
    for cycle in 0..3 {
        fill(&filler);
        ask_until_full(&mut client, &mut signed);
        let status = agent.admin().status().expect("status goes on");
        assert_eq!(status.ledger.expect("a ledger").state, "unavailable");
        assert!(
            status.warnings.iter().any(|warning| warning.contains("room for the journal")),
            "{:?}",
            status.warnings
        );
        assert!(agent.admin().lock().is_ok(), "cycle {cycle}: locked on a full disk");
        assert_eq!(agent::code(read(&mut client)), Err(Code::AgentLocked), "a refusal is recorded");
        assert!(state_dir.join("locked").exists(), "also after a restart");
        fs::remove_file(&filler).expect("removed");
        agent.wait_until("the journal is written again", |agent| {
            agent
                .admin()
                .status()
                .is_ok_and(|status| status.ledger.is_some_and(|ledger| ledger.state == "healthy"))
        });
        agent.admin().unlock().expect("there is room");
        signed.push(read(&mut client).expect("signed without a restart").request_id);
        assert_verified(&state_dir);
    }
    // The agent records its end on a full disk, too.
    fill(&filler);
    ask_until_full(&mut client, &mut signed);
    assert_eq!(agent.stop(Signal::TERM), Some(0), "{}", agent.log());
    assert_verified(&state_dir);
    let journal = Journal::below(&state_dir);
    assert!(signed.iter().all(|id| journal.signed.contains(id) && journal.intents.contains(id)));
    assert!(signed.len() > 4, "{}", signed.len());
    agent.begin();
    agent.wait_until("the agent starts on a full disk", |agent| agent.tokens_are("healthy"));
    assert_eq!(agent::code(read(&mut agent.client())), Err(Code::LedgerUnavailable));
    fs::remove_file(&filler).expect("removed");
    agent.wait_until("it signs", |agent| read(&mut agent.client()).is_ok());
    assert_verified(&state_dir);
}

/// A disk can be full of names as well.
#[test]
fn a_disk_without_room_for_a_file_more_still_takes_a_lock() {
    let namespace = Namespace::new("size=4m,nr_inodes=60");
    let (agent, state_dir) = started(&namespace);
    let mut made = Vec::new();
    loop {
        let path = state_dir.join(format!("other-{}", made.len()));
        match fs::File::create(&path) {
            Ok(_) => made.push(path),
            Err(error) => break assert_eq!(error.kind(), std::io::ErrorKind::StorageFull),
        }
    }
    assert!(agent.admin().lock().is_ok(), "{}", agent.log());
    assert_eq!(agent::code(read(&mut agent.client())), Err(Code::AgentLocked));
    assert!(state_dir.join("locked").exists());
    made.into_iter().for_each(|path| fs::remove_file(path).expect("removed"));
    agent.wait_until("unlocked", |agent| agent.admin().unlock().is_ok());
    agent.wait_until("it signs", |agent| read(&mut agent.client()).is_ok());
    assert_verified(&state_dir);
}

/// The agent keeps a tighter configuration in the room that it set aside. A configuration that it
/// cannot keep changes nothing.
#[test]
fn a_reload_on_a_full_disk_is_all_or_nothing() {
    let namespace = Namespace::new("size=2m");
    let (mut agent, state_dir) = started(&namespace);
    let filler = state_dir.join("filler");
    let with_socket = |name: &str, comments: usize| {
        let uid = rustix::process::getuid().as_raw();
        let client = format!(
            "[client.{name}]\nuser = {uid}\nkeys = []\nscopes = [\"read\"]\nsocket = \
             \"DIR/{name}.sock\"\n"
        );
        format!("{}{client}", "# a comment that takes room on the disk\n".repeat(comments))
    };
    let exists = |agent: &Agent, name: &str| agent.path().join(name).exists();
    fill(&filler);
    agent.configure(agent::BOT, &with_socket("one", 1));
    reload(&agent).expect("the room that was set aside is for it");
    assert!(exists(&agent, "one.sock"));
    fill(&state_dir.join("more"));
    agent.configure(agent::BOT, &with_socket("two", 2_000));
    let refused = reload(&agent).expect_err("there is no room").to_string();
    assert!(refused.contains("cannot be kept in the state directory"), "{refused}");
    assert_eq!(
        (exists(&agent, "one.sock"), exists(&agent, "two.sock")),
        (true, false),
        "nothing has changed"
    );
    assert!(
        !state_dir.join("accepted.toml.new").exists(),
        "the part that was written takes no room"
    );
    let accepted = fs::read_to_string(state_dir.join("accepted.toml")).expect("kept");
    assert!(accepted.contains("[client.one]") && !accepted.contains("[client.two]"));
    fs::remove_file(&filler).expect("removed");
    fs::remove_file(state_dir.join("more")).expect("removed");
    reload(&agent).expect("there is room");
    assert_eq!((exists(&agent, "one.sock"), exists(&agent, "two.sock")), (false, true));
    // A configuration that is kept already is not written again.
    let kept =
        |state_dir: &Path| fs::metadata(state_dir.join("accepted.toml")).expect("kept").ino();
    let before = kept(&state_dir);
    reload(&agent).expect("the same");
    assert_eq!(kept(&state_dir), before);
    agent.wait_until("it signs", |agent| read(&mut agent.client()).is_ok());
    assert_eq!(agent.stop(Signal::TERM), Some(0), "{}", agent.log());
    assert_verified(&state_dir);
}

fn reload(agent: &Agent) -> Result<admin::DoneReply, Error> {
    agent.admin().connection().call(admin::RELOAD, &PlainRequest::NOW)
}

#[test]
fn an_agent_that_was_killed_starts_on_a_disk_that_is_full_since() {
    let namespace = Namespace::new("size=2m");
    let (mut agent, state_dir) = started(&namespace);
    let signed = read(&mut agent.client()).expect("signed").request_id;
    agent.stop(Signal::KILL);
    let filler = state_dir.join("filler");
    fill(&filler);
    agent.begin();
    agent.wait_until("it answers", |agent| Admin::open(&agent.sockets()).is_ok());
    assert!(read(&mut agent.client()).is_err(), "nothing is signed");
    assert!(agent.admin().lock().is_ok(), "{}", agent.log());
    // The agent tries no PIN if it cannot count the try.
    agent.wait_until("the token waits for room", |agent| {
        agent.log().contains("without it no PIN is tried")
    });
    fs::remove_file(&filler).expect("removed");
    agent.wait_until("unlocked", |agent| agent.admin().unlock().is_ok());
    agent.wait_until("it signs without a restart", |agent| read(&mut agent.client()).is_ok());
    assert!(Journal::below(&state_dir).signed.contains(&signed));
    assert_verified(&state_dir);
}

#[test]
fn retention_keeps_up_with_a_client_without_a_rate_on_a_small_disk() {
    let namespace = Namespace::new("size=4m");
    let (agent, state_dir) = started(&namespace);
    let calls = vec![call("binance-mm", "GET", "/api/v3/account", "{}"); 50];
    let mut client = agent.client();
    let start = Instant::now();
    let mut signed = 0;
    // Each takes 880 bytes: together more than the file system holds.
    while signed < 6_000 {
        let replies = client.sign_all(&calls).expect("answered");
        signed += replies.iter().inspect(|reply| assert!(reply.is_ok(), "{reply:?}")).count();
    }
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("{signed} requests, {:.0} KiB a second", signed as f64 * 880.0 / 1024.0 / seconds);
    assert_verified(&state_dir);
    let space = rustix::fs::statvfs(&state_dir).expect("mounted");
    assert!(space.f_bavail * 4 > space.f_blocks, "a quarter at least is free");
}

/// While other programs leave little room, the client that writes most makes way, and another
/// client does not notice.
#[test]
fn below_the_floor_the_client_that_writes_most_is_slowed_and_then_refused() {
    let namespace = Namespace::new("size=16m");
    let uid = rustix::process::getuid().as_raw();
    let quiet = format!(
        "\n[client.quiet]\nuser = {uid}\nkeys = [\"binance-mm\"]\nscopes = [\"read\"]\nsocket = \
         \"DIR/quiet.sock\"\n"
    );
    let agent = Agent::start_with(SoftHsm::new(), namespace.launch(), agent::BOT, &quiet);
    agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
    let state_dir = namespace.state_dir(&agent);
    let free = || {
        let space = rustix::fs::statvfs(&state_dir).expect("mounted");
        space.f_bavail * space.f_frsize
    };
    // The floor is a sixteenth.
    fs::write(state_dir.join("filler"), vec![7; (free() - 512 * 1024) as usize])
        .expect("room for it");
    let (stop, start) = (AtomicBool::new(false), Instant::now());
    thread::scope(|scope| {
        let ending = StopAtEnd(&stop);
        let flood = scope.spawn(|| {
            let calls = vec![call("binance-mm", "GET", "/api/v3/account", "{}"); 20];
            let (mut client, mut signed, mut refused) = (agent.client(), 0, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                for reply in client.sign_all(&calls).expect("answered") {
                    match reply {
                        // The agent looks at the space every second: until then nobody makes way.
                        Ok(_) => signed += usize::from(!refused.is_empty()),
                        Err(refusal) => refused.push(format!("{refusal:?}")),
                    }
                }
            }
            (signed, refused)
        });
        thread::sleep(Duration::from_secs(2));
        let mut other =
            AgentClient::open(&countersign::Sockets::at(agent.path().join("quiet.sock")))
                .expect("listens");
        for _ in 0..5 {
            read(&mut other).expect("a client that writes little is not refused");
            thread::sleep(Duration::from_secs(1));
        }
        let status = agent.admin().status().expect("a status");
        let said =
            status.warnings.iter().any(|warning| warning.contains("the client bot writes most"));
        assert!(said, "{:?}", status.warnings);
        drop(ending);
        let (signed, refused) = flood.join().expect("the flood ends");
        let seconds = start.elapsed().as_secs_f64();
        eprintln!(
            "the flood in {seconds:.1} s: {signed} signed, {} refused: {:?}",
            refused.len(),
            refused.last()
        );
        assert!(refused.len() > 2 * signed, "{signed} signed, {} refused", refused.len());
        let reason = |text: &&String| {
            text.contains("policy.rate") && text.contains("the disk of the journal is nearly full")
        };
        assert!(
            refused.iter().all(|text| reason(&text)),
            "{:?}",
            refused.iter().find(|text| !reason(text))
        );
    });
    assert!(free() > 256 * 1024, "{} bytes are free", free());
    assert_verified(&state_dir);
}
