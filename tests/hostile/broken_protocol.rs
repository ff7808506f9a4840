//! Peers that break the protocol: they send half a frame or a byte at a time, never read, connect
//! again and again, or pass descriptors. Each attack is one line. A client makes it, a stranger on
//! the clients' socket, and a stranger on the operator's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::LazyLock;
use std::time::Duration;

use countersign::{Admin, AgentClient};

use crate::harness::attacker::{Act, Attacker};
use crate::harness::byte_client::{MOST_DESCRIPTORS, extension, framed};
use crate::harness::flood::{self, Echo};
use crate::harness::machine;
use crate::harness::served::raise_descriptors;
use crate::harness::timing::{missed, percentile_99, repetitions, timed};
use crate::harness::town::{
    BESIDE_EIGHT, BESIDE_ONE, CONNECTIONS, CONNECTIONS_OF_EIGHT, HOSTILE, LOCKED, Town, load,
    names, read, sign,
};

static ORDER: LazyLock<Vec<u8>> =
    LazyLock::new(|| sign("binance-mm", &names(1_900, "\"123456789012345\"")));

static STATUS: LazyLock<Vec<u8>> = LazyLock::new(|| extension("status@countersign", r#"{"v":1}"#));

static LISTS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    [&STATUS[..], &extension("keys@countersign", r#"{"v":1}"#), &framed(&[11])].concat().repeat(32)
});

static READS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let read = r#"{"v":1,"key":"binance-mm","method":"GET","path":"/api/v3/account"}"#;
    extension("sign@countersign", read).repeat(16)
});

/// The beginning of a frame of this length.
fn begun(length: u32) -> Vec<u8> {
    [&length.to_be_bytes()[..], b"\x1b"].concat()
}

const LONGEST: u32 = 256 * 1024;
const ALL: usize = 65_536;

/// The attacks: a name, and the step on each connection.
#[rustfmt::skip]
const ATTACKS: &[(&str, Act)] = &[
    ("a frame but for its last byte", |peer| peer.once(&ORDER[..ORDER.len() - 1])),
    ("the longest frame, begun", |peer| peer.once(&begun(LONGEST))),
    ("the longest frame, half of \
      it", |peer| peer.once(&[begun(LONGEST), vec![0; 130_000]].concat())),
    ("a frame a byte at a time", |peer| peer.one_byte(&ORDER)),
    ("a small frame a byte at a time", |peer| { peer.one_byte(&STATUS); peer.read(ALL) }),
    ("longer than any frame", |peer| peer.once(&begun(u32::MAX))),
    ("a byte longer than a frame", |peer| peer.once(&begun(LONGEST + 1))),
    ("a frame of no bytes", |peer| peer.once(&begun(0))),
    ("nothing asked, half closed", |peer| peer.finish_writing()),
    ("half a frame, half closed", |peer| { peer.once(&ORDER[..20_000]); peer.finish_writing() }),
    ("lists, half closed, never read", |peer| { peer.once(&LISTS); peer.finish_writing() }),
    ("signatures, half closed, never read", |peer| { peer.once(&READS); peer.finish_writing() }),
    ("connects and leaves", |peer| peer.leave()),
    ("connects and leaves behind a byte", |peer| { peer.one_byte(&STATUS); peer.close() }),
    ("connects and leaves behind signatures", |peer| { peer.once(&READS); peer.close() }),
    ("connects and leaves behind lists", |peer| { peer.once(&LISTS); peer.close() }),
    ("lists, never read", |peer| peer.fill(&LISTS)),
    ("refusals, never read", |peer| peer.fill(&ORDER)),
    ("signatures, never read", |peer| peer.fill(&READS)),
    ("lists, read a byte at a time", |peer| { peer.fill(&LISTS); peer.read(1) }),
    ("signatures, read a byte at a time", |peer| { peer.fill(&READS); peer.read(1) }),
    ("urgent bytes", |peer| { peer.fill(&STATUS); peer.urgent_byte(); peer.read(ALL) }),
    ("a descriptor with each message", |peer| { peer.pass(&STATUS, ALL, 1); peer.read(ALL) }),
    ("three descriptors with each message", |peer| { peer.pass(&STATUS, ALL, 3); peer.read(ALL) }),
    ("all descriptors with each \
      message", |peer| { peer.pass(&STATUS, ALL, MOST_DESCRIPTORS); peer.read(ALL) }),
    ("descriptors within a frame", |peer| { peer.pass(&ORDER, 20_000, 3); peer.read(ALL) }),
    ("a descriptor with each byte", |peer| { peer.pass(&STATUS, 1, 1); peer.read(ALL) }),
    ("all descriptors with each \
      byte", |peer| { peer.pass(&ORDER, 1, MOST_DESCRIPTORS); peer.read(ALL) }),
    ("descriptors, never read", |peer| peer.pass(&STATUS, ALL, MOST_DESCRIPTORS)),
    ("connects and leaves behind \
      descriptors", |peer| { peer.pass(&STATUS, ALL, MOST_DESCRIPTORS); peer.close() }),
];

/// The attacker's identity and socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum By {
    Client,
    Stranger,
    StrangerToTheOperator,
}

impl By {
    /// Strangers need other uids, which only root may take.
    fn all() -> &'static [Self] {
        match flood::uid_of(0) {
            Some(_) => &[Self::Client, Self::Stranger, Self::StrangerToTheOperator],
            None => &[Self::Client],
        }
    }
}

/// The delays of others: over a standing connection, over a new one each time, and of `lock`.
#[derive(Clone, Copy, Debug)]
struct Felt {
    standing: Duration,
    fresh: Duration,
    lock: Duration,
}

impl Felt {
    /// The delays without those of a bare server, which count up to the bar only.
    fn beyond(self, bare: Self) -> Self {
        Self {
            standing: self.standing.saturating_sub(bare.standing.min(BESIDE_ONE)),
            fresh: self.fresh.saturating_sub(bare.fresh.min(BESIDE_ONE)),
            lock: self.lock.saturating_sub(bare.lock.min(BESIDE_ONE)),
        }
    }

    fn is_within(self, bar: Duration) -> bool {
        self.standing <= bar && self.fresh <= CONNECTED && self.lock <= LOCKED
    }
}

/// Longest wait for a new connection. It waits behind all others of its socket, which the kernel
/// keeps in one queue for all users.
const CONNECTED: Duration = Duration::from_secs(2);
/// Memory that the agent may keep in addition, in KiB. It is the share of one uid's connections, as
/// the allocator rounds it.
const KEPT: u64 = 48 * 1024;

/// With this number the 99th percentile is not the longest time.
fn requests() -> usize {
    repetitions(120, 500)
}

impl Town {
    /// A town whose operator's socket every user can reach.
    fn open_to_all() -> Self {
        let town = Self::new();
        let operators = town.agent.sockets().admin;
        fs::set_permissions(operators, fs::Permissions::from_mode(0o666)).expect("ours");
        town
    }

    fn attack(&self, by: By, uid: usize, connections: usize, act: Act) -> Attacker {
        let sockets = self.agent.sockets();
        let socket = match by {
            By::Client => self.socket(&format!("hostile{uid}")),
            By::Stranger => self.agent.path().join("agent.sock"),
            By::StrangerToTheOperator => sockets.admin,
        };
        Attacker::start(&socket, flood::uid_of(uid), connections, act)
    }

    /// Measures on the attacked socket, where the delays are longest.
    fn felt(&self, operator: &mut Admin) -> Felt {
        let shared = || AgentClient::open(&self.agent.sockets()).expect("it listens");
        let sign = |client: &mut AgentClient| {
            drop(client.sign(&read()).expect("another client is served"))
        };
        Felt {
            standing: self.quiet(requests()),
            fresh: percentile_99(&timed(requests(), || sign(&mut shared()))),
            lock: self.lock_over(operator),
        }
    }

    /// The longest `lock` of an operator who is connected. Only a [`By::StrangerToTheOperator`] can
    /// reach the operator's socket as well.
    fn lock_over(&self, operator: &mut Admin) -> Duration {
        let times = timed(5, || drop(operator.lock().expect("locked")));
        operator.unlock().expect("unlocked");
        times.into_iter().max().expect("five")
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.agent.pid())).expect("the agent lives").count()
    }

    /// The memory of the front, in KiB.
    fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.agent.pid()))
            .expect("the agent lives");
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
        line.trim_end_matches("kB").trim().parse().expect("a number")
    }

    /// Checks that attackers that have gone left nothing behind.
    fn assert_is_as_before(&self, (descriptors, resident): (usize, u64)) {
        drop(self.agent.client().sign(&read()).expect("answered at once"));
        self.agent.wait_until("no descriptor is left", |_| self.descriptors() <= descriptors);
        let now = self.resident();
        assert!(now <= resident + KEPT, "{now} KiB where it was {resident}");
        self.assert_no_host_was_restarted();
    }
}

impl Echo {
    fn felt(&self) -> Felt {
        let fresh = percentile_99(&timed(requests(), || drop(self.asked_anew())));
        Felt { standing: self.quiet(requests()), fresh, lock: fresh }
    }
}

/// Returns the delays of others beside these attackers, without those of a bare server. Checks that
/// the attackers leave nothing behind.
fn beside(
    town: &Town,
    echo: &Echo,
    name: &str,
    attack: impl Fn(Option<&Echo>) -> Vec<Attacker>,
) -> Felt {
    let mut operator = town.agent.admin();
    drop(operator.status().expect("it is served"));
    let attackers = attack(Some(echo));
    let bare = echo.felt();
    drop(attackers);
    let before = (town.descriptors(), town.resident());
    let attackers = attack(None);
    let felt = town.felt(&mut operator);
    let opened: u64 = attackers.iter().map(Attacker::opened).sum();
    assert!(attackers.iter().all(|attacker| attacker.steps() > 0), "{name}: an attack is made");
    drop(attackers);
    town.assert_is_as_before(before);
    let (resident, load) = (town.resident(), load());
    eprintln!("{name}: {felt:?}, bare {bare:?}; {opened} opened; then {resident} KiB; load {load}");
    felt.beyond(bare)
}

/// The delays beside these attackers if they miss the bar, with the name of the attack.
fn missed_beside(
    town: &Town,
    echo: &Echo,
    name: &str,
    bar: Duration,
    attack: impl Fn(Option<&Echo>) -> Vec<Attacker>,
) -> Option<String> {
    let felt = missed(|| beside(town, echo, name, &attack), |felt| felt.is_within(bar));
    felt.map(|felt| format!("{name}: {felt:?}"))
}

/// An attack that is refused at its first step would show nothing.
#[test]
fn every_attack_is_one() {
    raise_descriptors();
    let town = Town::open_to_all();
    for (name, act) in ATTACKS {
        for by in By::all() {
            let attacker = town.attack(*by, 0, 16, *act);
            town.agent.wait_until(&format!("{name}, by {by:?}"), |_| attacker.steps() > 0);
        }
    }
}

#[test]
fn peers_that_keep_to_no_form_are_hardly_felt_and_leave_nothing_behind() {
    raise_descriptors();
    let (town, echo) = (Town::open_to_all(), Echo::start());
    let _alone = machine::alone();
    let mut misses = Vec::new();
    for (number, (name, act)) in ATTACKS.iter().enumerate() {
        let all = By::all();
        for by in if repetitions(0, 1) == 1 { all } else { &all[number % all.len()..][..1] } {
            let name = format!("{name}, by {by:?}");
            misses.extend(missed_beside(&town, &echo, &name, BESIDE_ONE, |echo| match echo {
                Some(echo) => vec![echo.attack(0, CONNECTIONS, *act)],
                None => vec![town.attack(*by, 0, CONNECTIONS, *act)],
            }));
        }
    }
    assert!(misses.is_empty(), "{misses:#?}");
}

#[test]
fn eight_peers_each_with_another_attack_are_hardly_felt() {
    raise_descriptors();
    let (town, echo) = (Town::open_to_all(), Echo::start());
    let _alone = machine::alone();
    let mut misses = Vec::new();
    for mixture in 0..repetitions(2, 3 * ATTACKS.len()) {
        let all = By::all();
        let attack = |echo: Option<&Echo>| -> Vec<Attacker> {
            (0..HOSTILE)
                .map(|uid| {
                    // Each mixture has the next eight of the attacks. The kind of peer that makes
                    // an attack changes too.
                    let number = mixture * HOSTILE + uid;
                    let (act, by) =
                        (ATTACKS[number * 7 % ATTACKS.len()].1, all[number % all.len()]);
                    match echo {
                        Some(echo) => echo.attack(uid, CONNECTIONS_OF_EIGHT, act),
                        None => town.attack(by, uid, CONNECTIONS_OF_EIGHT, act),
                    }
                })
                .collect()
        };
        let name = format!("mixture {mixture}");
        misses.extend(missed_beside(&town, &echo, &name, BESIDE_EIGHT, attack));
    }
    assert!(misses.is_empty(), "{misses:#?}");
}
