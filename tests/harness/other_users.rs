//! Other users of the machine, as which a test acts, and what they can look into.

use std::fs;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Gid, Uid};

use super::flood;

/// The uid of a user that is nobody's client.
pub(crate) fn stranger() -> u32 {
    flood::uid_of(0).expect("only root can act as another user: run the tests as root")
}

/// Acts in a thread of this user, which has no right of root's.
pub(crate) fn as_user<T: Send>(user: u32, act: impl FnOnce() -> T + Send) -> T {
    let acting = || {
        let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
        // The ids of this thread alone.
        rustix::thread::set_thread_groups(&[]).expect("root may");
        rustix::thread::set_thread_res_gid(gid, gid, gid).expect("root may");
        rustix::thread::set_thread_res_uid(uid, uid, uid).expect("root may");
        act()
    };
    thread::scope(|scope| scope.spawn(acting).join().expect("no panic"))
}

/// The command that starts a program as this user without the rights of root, which would open
/// every process to it.
pub(crate) fn without_rights() -> Vec<String> {
    let command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"];
    let is_root = rustix::process::geteuid().is_root();
    command.into_iter().filter(|_| is_root).map(str::to_owned).collect()
}

/// Checks that another process of the same user cannot look into this one, which was started
/// [`without_rights`]: the kernel would keep it from a process that has more rights anyway.
pub(crate) fn assert_cannot_be_looked_into(pid: i32) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("readable");
    assert!(status.contains("CapPrm:\t0000000000000000\n"), "{status}");
    let ordinary = Ordinary::start();
    for file in ["environ", "maps", "mem"] {
        assert!(!is_open(pid, file), "/proc/{pid}/{file} is open to other processes");
        // Some systems let no process open the memory of another.
        assert!(file == "mem" || is_open(ordinary.pid(), file), "{file} of an ordinary process");
    }
}

fn is_open(pid: i32, file: &str) -> bool {
    let file = format!("/proc/{pid}/{file}");
    let look = ["sh", "-c", ": < \"$1\"", "sh", &file].map(str::to_owned).to_vec();
    let look = [without_rights(), look].concat();
    let looked = Command::new(&look[0]).args(&look[1..]).output().expect("it runs");
    let said = String::from_utf8_lossy(&looked.stderr);
    assert!(looked.status.success() || said.contains("Permission denied"), "{file}: {said}");
    looked.status.success()
}

/// A process that hides nothing.
struct Ordinary(Child);

impl Ordinary {
    fn start() -> Self {
        let sleep = [without_rights(), vec!["sleep".to_owned(), "60".to_owned()]].concat();
        let sleep = Command::new(&sleep[0]).args(&sleep[1..]).spawn().expect("it runs");
        let (ordinary, begun) = (Self(sleep), Instant::now());
        while !is_open(ordinary.pid(), "environ") {
            assert!(begun.elapsed() < Duration::from_secs(10), "an ordinary process is open");
            thread::sleep(Duration::from_millis(5));
        }
        ordinary
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }
}

impl Drop for Ordinary {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
