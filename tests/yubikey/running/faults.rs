//! A touch that does not come, a YubiKey that is unplugged or reset, a pcscd that is killed, a PIN that is wrong.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::*;

/// In `make test`, and in the long form.
fn rounds(short: u32, long: u32) -> u32 {
    if std::env::var_os("COUNTERSIGN_SOAK").is_some() { long } else { short }
}

/// What happens while it blinks.
#[derive(Clone, Copy, Debug)]
enum Fault {
    NoPress,
    Unplugged,
    KilledPcscd,
    /// By another program, again and again.
    Reset,
}

impl TouchAgent {
    /// A request that comes to nothing, for a reason a person understands, and leaves no signature.
    fn comes_to_nothing(&mut self, fault: Fault, says: &[&str]) {
        let signatures = self.desk.card.status().counts.signatures;
        let pcscd = self.desk.rig.pcscd();
        let hammering = AtomicBool::new(matches!(fault, Fault::Reset));
        let error = std::thread::scope(|scope| {
            scope.spawn(|| self.reset_while(&hammering));
            let _ends = EndsHammering(&hammering);
            let asking = scope.spawn(|| self.ask());
            // Who is reset all the time may never come so far.
            let blinks = matches!(fault, Fault::Reset) || self.desk.card.wait_blink(LONG);
            assert!(blinks, "{fault:?}; log:\n{}", self.agent.log());
            match fault {
                Fault::NoPress | Fault::Reset => {}
                Fault::Unplugged => self.desk.card.unplug(),
                Fault::KilledPcscd => kill(pcscd.expect("it runs")),
            }
            asking.join().expect("no panic").expect_err("no touch, no signature").to_string()
        });
        assert!(says.iter().any(|says| error.contains(says)), "{fault:?}: {error}");
        // A card that was cut off in the middle looks only now and then whether it still has its line.
        let begun = Instant::now();
        while self.desk.card.status().blinking && begun.elapsed() < LONG {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!self.desk.card.press(), "a late press reaches nothing");
        assert_eq!(self.desk.card.status().counts.signatures, signatures);
    }

    /// Another program that resets the card as often as it can, at every step of what the agent does.
    fn reset_while(&self, hammering: &AtomicBool) {
        if !hammering.load(Ordering::Relaxed) {
            return;
        }
        let context = self.desk.inside(|| pcsc::Context::establish(pcsc::Scope::System)).expect("a pcscd");
        let reader = context.list_readers_owned().expect("readers").remove(0);
        while hammering.load(Ordering::Relaxed) {
            if let Ok(card) = context.connect(&reader, pcsc::ShareMode::Shared, pcsc::Protocols::ANY) {
                let _ = card.disconnect(pcsc::Disposition::ResetCard);
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    fn mend(&mut self, fault: Fault) {
        match fault {
            Fault::NoPress | Fault::Reset => {}
            Fault::Unplugged => self.desk.card.plug(),
            Fault::KilledPcscd => {
                self.desk.rig.kill_pcscd().expect("reaped");
                self.desk.rig.start_pcscd().expect("started");
                self.desk.card.plug();
            }
        }
    }
}

/// However the test goes on.
struct EndsHammering<'a>(&'a AtomicBool);

impl Drop for EndsHammering<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("ours");
}

#[test]
fn whatever_happens_during_a_touch_the_next_signs_without_a_restart() {
    let mut this = TouchAgent::with_cold_key(Firmware::V5_7_1, Algorithm::Ed25519, "");
    let pid = this.agent.pid();
    for round in 0..rounds(5, 125) {
        for fault in [Fault::NoPress, Fault::Unplugged, Fault::KilledPcscd, Fault::Reset] {
            this.desk.card.set_timeout(Duration::from_millis(400));
            let says: &[&str] = match fault {
                Fault::NoPress => &["nobody touched"],
                Fault::Unplugged => &["unplugged"],
                Fault::KilledPcscd => &["pcscd"],
                Fault::Reset => &["nobody touched", "reset"],
            };
            this.comes_to_nothing(fault, says);
            this.mend(fault);
            this.desk.card.set_timeout(Duration::from_secs(15));
            this.touched();
            assert_eq!(this.agent.pid(), pid, "round {round}");
        }
    }
    assert_eq!(this.state("yk"), "healthy");
}

#[test]
fn a_yubikey_that_is_away_is_said_to_be_and_is_there_again_by_itself() {
    let this = TouchAgent::with_cold_key(Firmware::V5_7_1, Algorithm::Ed25519, "");
    this.desk.card.unplug();
    let error = this.ask().expect_err("away").to_string();
    assert!(error.contains(&SERIAL.to_string()), "{error}");
    this.agent.wait_until("it is degraded", |_| this.state("yk") == "degraded");
    assert_eq!(this.state("hsm"), "healthy");
    this.desk.card.plug();
    this.agent.wait_until("it is healthy", |_| this.state("yk") == "healthy");
    this.touched();
}

#[test]
fn a_wrong_pin_costs_one_try_however_often_the_agent_starts() {
    let desk = Desk::new(Firmware::V5_4_3);
    let mut this = TouchAgent::with(desk, PIN, "");
    let before = this.desk.card.status().counts.verifies;
    write_pin(&this.desk, "999999");
    for _ in 0..rounds(5, 1_000) {
        this.agent.stop(rustix::process::Signal::TERM);
        this.agent.begin();
        this.agent.wait_until("it is down", |agent| {
            let status = countersign::Admin::open(&agent.sockets()).and_then(|mut admin| admin.status());
            status.is_ok_and(|status| status.tokens.iter().any(|token| token.name == "yk" && token.state == "down"))
        });
    }
    let status = this.desk.card.status();
    assert_eq!((status.counts.verifies - before, status.pin_tries), (1, 2));
    write_pin(&this.desk, PIN);
    this.agent.signal(rustix::process::Signal::HUP);
    this.agent.wait_until("it is healthy", |_| this.state("yk") == "healthy");
    assert_eq!(this.desk.card.status().pin_tries, 3);
}

#[test]
fn another_program_that_holds_the_yubikey_is_named_as_the_reason() {
    let this = TouchAgent::with_cold_key(Firmware::V5_7_1, Algorithm::Ed25519, "");
    let context = this.desk.inside(|| pcsc::Context::establish(pcsc::Scope::System)).expect("a pcscd");
    let reader = context.list_readers_owned().expect("readers").remove(0);
    let mut card = context.connect(&reader, pcsc::ShareMode::Shared, pcsc::Protocols::ANY).expect("the card");
    let held = card.transaction().expect("free");
    let begun = Instant::now();
    let error = this.ask().expect_err("held").to_string();
    assert!(error.contains("held by another program"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(8));
    drop(held);
    drop(card);
    let begun = Instant::now();
    this.desk.card.set_auto(true);
    while this.ask().is_err() {
        assert!(begun.elapsed() < LONG, "it is free again");
    }
}
