//! A disk that is really full: a small file system of its own for the state directory.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};

use countersign::{Admin, Client};
use countersign_core::wire::{PlainRequest, admin};
use rustix::process::Signal;

use super::*;
use crate::agent;

/// Holds the mount namespace in which the agents of a test see a state directory on a file system
/// of its own.
pub(super) struct Namespace {
    holder: Child,
    size: &'static str,
}

/// Mounts the file system where it is not yet, beside the configuration that is the agent's last
/// argument.
const MOUNT: &str = "size=$1; shift; state=$(dirname \"$4\")/state; \
    mountpoint -q \"$state\" || mount -t tmpfs -o \"$size,mode=700\" tmpfs \"$state\"; exec \"$@\"";

impl Namespace {
    /// `None` without the rights to mount one: the failing disk of the other tests stands for it
    /// then.
    pub(super) fn new(size: &'static str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not root: no file system of its own can be mounted");
            return None;
        }
        let mut holder = Command::new("unshare");
        holder.args(["--mount", "--propagation", "private", "sleep", "600"]).process_group(0);
        Some(Self { holder: holder.spawn().expect("util-linux"), size })
    }

    pub(super) fn launch(&self) -> Launch {
        let holder = self.holder.id().to_string();
        let enter = ["nsenter", "--mount", "--target", &holder, "sh", "-c", MOUNT, "sh", self.size];
        Launch { wrapper: enter.map(str::to_owned).to_vec(), ..Launch::default() }
    }

    /// The state directory as the agent sees it.
    pub(super) fn state_dir(&self, agent: &Agent) -> PathBuf {
        let state = agent.state_dir();
        Path::new(&format!("/proc/{}/root", self.holder.id()))
            .join(state.strip_prefix("/").expect("absolute"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

pub(super) fn read(client: &mut Client) -> Result<SignReply, Error> {
    client.sign(&call("binance-mm", "GET", "/api/v3/account", "{}"))
}

pub(super) fn started(namespace: &Namespace) -> (Agent, PathBuf) {
    let agent = Agent::start_with(SoftHsm::new(), namespace.launch(), agent::BOT, "");
    agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
    let state_dir = namespace.state_dir(&agent);
    (agent, state_dir)
}

/// Writes into a file of another program until nothing more fits.
pub(super) fn fill(file: &Path) {
    use std::io::Write;
    let mut filler = fs::File::create(file).expect("a file");
    while filler.write_all(&[7; 512]).is_ok() {}
}

/// Asks until a request is refused with `ledger.unavailable`; keeps the ids of what was signed.
pub(super) fn ask_until_full(client: &mut Client, signed: &mut Vec<String>) {
    for _ in 0..20_000 {
        match read(client) {
            Ok(reply) => signed.push(reply.request_id),
            refused => match agent::code(refused) {
                Some(Code::LedgerUnavailable) => return,
                Some(Code::PolicyRate) => thread::sleep(Duration::from_millis(5)),
                other => panic!("{other:?}"),
            },
        }
    }
    panic!("the disk should be full");
}

#[test]
fn a_full_disk_ends_signing_and_room_brings_it_back_without_a_restart() {
    let Some(namespace) = Namespace::new("size=2m") else { return };
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
        assert_eq!(
            agent::code(read(&mut client)),
            Some(Code::AgentLocked),
            "a refusal is recorded"
        );
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
        killed::assert_verified(&state_dir);
    }
    // The end of the run is recorded on a full disk, too.
    fill(&filler);
    ask_until_full(&mut client, &mut signed);
    assert_eq!(agent.stop(Signal::TERM), Some(0), "{}", agent.log());
    killed::assert_verified(&state_dir);
    let journal = killed::Journal::below(&state_dir);
    assert!(signed.iter().all(|id| journal.signed.contains(id) && journal.intents.contains(id)));
    assert!(signed.len() > 4, "{}", signed.len());
    agent.begin();
    agent.wait_until("the agent starts on a full disk", |agent| agent.tokens_are("healthy"));
    assert_eq!(agent::code(read(&mut agent.client())), Some(Code::LedgerUnavailable));
    fs::remove_file(&filler).expect("removed");
    agent.wait_until("it signs", |agent| read(&mut agent.client()).is_ok());
    killed::assert_verified(&state_dir);
}

/// A disk can be full of names as well.
#[test]
fn a_disk_without_room_for_a_file_more_still_takes_a_lock() {
    let Some(namespace) = Namespace::new("size=4m,nr_inodes=60") else { return };
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
    assert_eq!(agent::code(read(&mut agent.client())), Some(Code::AgentLocked));
    assert!(state_dir.join("locked").exists());
    made.into_iter().for_each(|path| fs::remove_file(path).expect("removed"));
    agent.wait_until("unlocked", |agent| agent.admin().unlock().is_ok());
    agent.wait_until("it signs", |agent| read(&mut agent.client()).is_ok());
    killed::assert_verified(&state_dir);
}

/// A tighter configuration has the room that was set aside; one that cannot be kept changes
/// nothing.
#[test]
fn a_reload_on_a_full_disk_is_all_or_nothing() {
    let Some(namespace) = Namespace::new("size=2m") else { return };
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
    assert!(!state_dir.join("accepted.toml.new").exists(), "what was written of it takes no room");
    let accepted = fs::read_to_string(state_dir.join("accepted.toml")).expect("kept");
    assert!(accepted.contains("[client.one]") && !accepted.contains("[client.two]"));
    fs::remove_file(&filler).expect("removed");
    fs::remove_file(state_dir.join("more")).expect("removed");
    reload(&agent).expect("there is room");
    assert_eq!((exists(&agent, "one.sock"), exists(&agent, "two.sock")), (false, true));
    // What stands there already is not written again.
    let kept =
        |state_dir: &Path| fs::metadata(state_dir.join("accepted.toml")).expect("kept").ino();
    let before = kept(&state_dir);
    reload(&agent).expect("the same");
    assert_eq!(kept(&state_dir), before);
    agent.wait_until("it signs", |agent| read(&mut agent.client()).is_ok());
    assert_eq!(agent.stop(Signal::TERM), Some(0), "{}", agent.log());
    killed::assert_verified(&state_dir);
}

fn reload(agent: &Agent) -> Result<admin::DoneReply, Error> {
    agent.admin().connection().call(admin::RELOAD, &PlainRequest::NOW)
}

#[test]
fn an_agent_that_was_killed_starts_on_a_disk_that_is_full_since() {
    let Some(namespace) = Namespace::new("size=2m") else { return };
    let (mut agent, state_dir) = started(&namespace);
    let signed = read(&mut agent.client()).expect("signed").request_id;
    agent.stop(Signal::KILL);
    let filler = state_dir.join("filler");
    fill(&filler);
    agent.begin();
    agent.wait_until("it answers", |agent| Admin::open(&agent.sockets()).is_ok());
    assert!(read(&mut agent.client()).is_err(), "nothing is signed");
    assert!(agent.admin().lock().is_ok(), "{}", agent.log());
    // No PIN is tried that could not be counted.
    agent.wait_until("the token waits for room", |agent| {
        agent.log().contains("without it no PIN is tried")
    });
    fs::remove_file(&filler).expect("removed");
    agent.wait_until("unlocked", |agent| agent.admin().unlock().is_ok());
    agent.wait_until("it signs without a restart", |agent| read(&mut agent.client()).is_ok());
    assert!(killed::Journal::below(&state_dir).signed.contains(&signed));
    killed::assert_verified(&state_dir);
}

#[test]
fn retention_keeps_up_with_a_client_without_a_rate_on_a_small_disk() {
    let Some(namespace) = Namespace::new("size=4m") else { return };
    let (agent, state_dir) = started(&namespace);
    let calls = vec![call("binance-mm", "GET", "/api/v3/account", "{}"); 50];
    let mut client = agent.client();
    let start = Instant::now();
    let mut signed = 0;
    // 880 bytes each: more than the file system holds.
    while signed < 6_000 {
        let replies = client.sign_all(&calls).expect("answered");
        signed += replies.iter().inspect(|reply| assert!(reply.is_ok(), "{reply:?}")).count();
    }
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("{signed} requests, {:.0} KiB a second", signed as f64 * 880.0 / 1024.0 / seconds);
    killed::assert_verified(&state_dir);
    let space = rustix::fs::statvfs(&state_dir).expect("mounted");
    assert!(space.f_bavail * 4 > space.f_blocks, "a quarter at least is free");
}

/// While other programs leave little, the client that writes most makes way and another feels
/// nothing.
#[test]
fn below_the_floor_the_client_that_writes_most_is_slowed_and_then_refused() {
    let Some(namespace) = Namespace::new("size=16m") else { return };
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
                        // The space is looked at every second: until then nobody makes way.
                        Ok(_) => signed += usize::from(!refused.is_empty()),
                        Err(refusal) => refused.push(format!("{refusal:?}")),
                    }
                }
            }
            (signed, refused)
        });
        thread::sleep(Duration::from_secs(2));
        let mut other = Client::open(&countersign::Sockets::at(agent.path().join("quiet.sock")))
            .expect("listens");
        for _ in 0..5 {
            read(&mut other).expect("whoever writes little is not refused");
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
    killed::assert_verified(&state_dir);
}
