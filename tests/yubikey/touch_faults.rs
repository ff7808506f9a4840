//! The touch does not come, the YubiKey is unplugged or reset, or pcscd is killed: nothing is
//! signed, and the next touch signs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use countersign::Error;
use countersign_core::algorithm::Algorithm;
use countersign_core::wire::SignReply;
use virtual_yubikey::{Firmware, Step};

use crate::harness::timing::repetitions;
use crate::harness::touch_agent::TouchAgent;
use crate::harness::yubikey_desk::{Desk, LONG, SERIAL};

/// A fault that happens to the YubiKey at one step of its work.
#[derive(Clone, Copy, Debug)]
enum Fault {
    KilledPcscd,
    /// For a moment that no reader notices.
    LostPower,
    Unplugged,
}

impl Fault {
    /// A part of the message to the person.
    fn says(self) -> &'static str {
        match self {
            Self::KilledPcscd => "pcscd does not answer",
            Self::LostPower => "was reset meanwhile",
            Self::Unplugged => "was unplugged",
        }
    }

    /// The steps at which the fault can happen: without power a card neither blinks nor answers.
    fn steps(self) -> impl Iterator<Item = Step> {
        let works_on = move |step: &Step| {
            !matches!(self, Self::LostPower) || !matches!(step, Step::Blinking | Step::Touched)
        };
        Step::ALL.into_iter().filter(works_on)
    }

    /// True if the YubiKey makes a signature that nobody receives.
    fn leaves_a_signature(self, step: Step) -> bool {
        match step {
            Step::Signed | Step::BetweenAnswers => true,
            Step::Touched => matches!(self, Self::KilledPcscd),
            _ => false,
        }
    }
}

/// True if the YubiKey comes to this step only after a touch.
fn takes_a_touch(step: Step) -> bool {
    matches!(step, Step::Touched | Step::Signed | Step::BetweenAnswers)
}

impl TouchAgent {
    /// An agent with a key whose messages and signatures go in pieces.
    fn with_long_key() -> Self {
        Self::with_cold_key(Firmware::V5_7_1, Algorithm::RsaPkcs1v15Sha256, "")
    }

    /// Asks, stops the YubiKey at this step, runs `act`, and waits for the outcome.
    fn ask_and_stop_at(&self, step: Step, act: impl FnOnce()) -> Result<SignReply, Error> {
        let card = &self.desk.card;
        card.stop_at(step);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| self.ask());
            if takes_a_touch(step) {
                assert!(card.wait_blink(LONG), "{step:?}; log:\n{}", self.agent.log());
                assert!(card.press());
            }
            assert!(card.wait_stopped(LONG), "{step:?}; log:\n{}", self.agent.log());
            act();
            asking.join().expect("no panic")
        })
    }

    /// Checks that a request fails at this step, for a reason that a person understands.
    fn comes_to_nothing(&mut self, fault: Fault, step: Step) {
        let (card, pcscd) = (&self.desk.card, self.desk.rig.pcscd().expect("it runs"));
        let (signatures, released) = (card.status().counts.signatures, self.signed_on_record());
        let outcome = self.ask_and_stop_at(step, || match fault {
            Fault::KilledPcscd => {
                kill(pcscd);
                card.go_on();
            }
            Fault::LostPower => card.go_on_without_memory(),
            Fault::Unplugged => card.unplug(),
        });
        let error = outcome.expect_err("no signature").to_string();
        assert!(error.contains(fault.says()), "{fault:?} at {step:?}: {error}");
        self.blinks_no_more();
        assert!(!card.press(), "a late press reaches nothing");
        // When the fault is mended, the card finishes the work that it had begun.
        self.mend(fault);
        let made = self.desk.card.status().counts.signatures - signatures;
        assert_eq!(made, u64::from(fault.leaves_a_signature(step)), "{fault:?} at {step:?}");
        assert_eq!(self.signed_on_record(), released, "{fault:?} at {step:?}");
    }

    /// Waits until the card blinks no more. A card that was cut off notices it only after a moment.
    fn blinks_no_more(&self) {
        let begun = Instant::now();
        while self.desk.card.status().blinking && begun.elapsed() < LONG {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn mend(&mut self, fault: Fault) {
        match fault {
            Fault::LostPower => {}
            Fault::Unplugged => self.desk.card.plug(),
            Fault::KilledPcscd => {
                self.desk.rig.kill_pcscd().expect("reaped");
                self.desk.rig.start_pcscd().expect("started");
                self.desk.card.plug();
            }
        }
    }

    fn survives(mut self, fault: Fault, long: usize) {
        let pid = self.agent.pid();
        for round in 0..repetitions(1, long) {
            for step in fault.steps() {
                self.comes_to_nothing(fault, step);
                self.touched();
                assert_eq!(self.agent.pid(), pid, "round {round}, {step:?}");
            }
        }
        assert_eq!(self.state("yk"), "healthy");
    }

    /// Resets the card as another program, as often as it can.
    fn reset_while(&self, hammering: &AtomicBool) {
        while hammering.load(Ordering::Relaxed) {
            let _ = self.desk.reset_by_another();
            std::thread::sleep(Duration::from_millis(3));
        }
    }
}

impl Desk {
    /// Resets the card as another program, if it can.
    fn reset_by_another(&self) -> Result<(), pcsc::Error> {
        let context = self.inside(|| pcsc::Context::establish(pcsc::Scope::System))?;
        let reader = context
            .list_readers_owned()?
            .into_iter()
            .next()
            .ok_or(pcsc::Error::NoReadersAvailable)?;
        let card = context.connect(&reader, pcsc::ShareMode::Shared, pcsc::Protocols::ANY)?;
        card.disconnect(pcsc::Disposition::ResetCard).map_err(|(_, error)| error)
    }
}

/// Ends the resets when it is dropped, also if the test fails.
struct EndsHammering<'a>(&'a AtomicBool);

impl Drop for EndsHammering<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Kills the process, and returns when it has ended.
fn kill(pid: u32) {
    let process = rustix::process::Pid::from_raw(pid as i32).expect("a pid");
    rustix::process::kill_process(process, rustix::process::Signal::KILL).expect("ours");
    let begun = Instant::now();
    let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    while stat().rsplit_once(')').is_some_and(|(_, after)| !after.starts_with(" Z"))
        && begun.elapsed() < LONG
    {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn unplugged_at_any_step_of_a_touch_it_signs_nothing_and_the_next_signs_without_a_restart() {
    TouchAgent::with_long_key().survives(Fault::Unplugged, 18);
}

#[test]
fn whenever_pcscd_is_killed_during_a_touch_nothing_is_signed_and_the_next_signs_without_a_restart()
{
    TouchAgent::with_long_key().survives(Fault::KilledPcscd, 18);
}

#[test]
fn reset_at_any_step_of_a_touch_it_signs_nothing_and_the_next_signs_without_a_restart() {
    TouchAgent::with_long_key().survives(Fault::LostPower, 18);
}

/// The agent's transaction keeps others out from before the PIN until the answer is there.
#[test]
fn no_other_program_can_reset_the_yubikey_during_a_touch() {
    const A_MOMENT: Duration = Duration::from_millis(100);
    let this = TouchAgent::with_long_key();
    let card = &this.desk.card;
    for step in Step::ALL.into_iter().cycle().take(Step::ALL.len() * repetitions(1, 18)) {
        let signatures = card.status().counts.signatures;
        std::thread::scope(|scope| {
            let reply = this.ask_and_stop_at(step, || {
                scope.spawn(|| this.desk.reset_by_another());
                // pcscd keeps the other program waiting, or refuses it.
                std::thread::sleep(A_MOMENT);
                card.go_on();
                if !takes_a_touch(step) {
                    assert!(card.wait_blink(LONG), "{step:?}; log:\n{}", this.agent.log());
                    assert!(card.press());
                }
            });
            this.verify(
                &reply.unwrap_or_else(|error| {
                    panic!("{step:?}: {error}; log:\n{}", this.agent.log())
                }),
            );
        });
        assert_eq!(card.status().counts.signatures - signatures, 1);
    }
}

#[test]
fn reset_all_the_time_or_not_touched_it_signs_nothing_and_the_next_signs_without_a_restart() {
    let this = TouchAgent::with_cold_key(Firmware::V5_7_1, Algorithm::Ed25519, "");
    let (pid, card) = (this.agent.pid(), &this.desk.card);
    for round in 0..repetitions(3, 60) {
        let signatures = card.status().counts.signatures;
        card.set_timeout(Duration::from_millis(400));
        let hammering = AtomicBool::new(round % 2 == 1);
        let error = std::thread::scope(|scope| {
            scope.spawn(|| this.reset_while(&hammering));
            let _ends = EndsHammering(&hammering);
            this.ask().expect_err("no touch, no signature").to_string()
        });
        // A card that is reset all the time may not even come to the touch.
        assert!(
            error.contains("nobody touched") || (round % 2 == 1 && error.contains("reset")),
            "{round}: {error}"
        );
        this.blinks_no_more();
        assert!(!card.press(), "a late press reaches nothing");
        assert_eq!(card.status().counts.signatures, signatures);
        card.set_timeout(Duration::from_secs(15));
        this.touched();
        assert_eq!(this.agent.pid(), pid);
    }
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
fn another_program_that_holds_the_yubikey_is_named_as_the_reason() {
    let this = TouchAgent::with_cold_key(Firmware::V5_7_1, Algorithm::Ed25519, "");
    let context =
        this.desk.inside(|| pcsc::Context::establish(pcsc::Scope::System)).expect("a pcscd");
    let reader = context.list_readers_owned().expect("readers").remove(0);
    let mut card =
        context.connect(&reader, pcsc::ShareMode::Shared, pcsc::Protocols::ANY).expect("the card");
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
