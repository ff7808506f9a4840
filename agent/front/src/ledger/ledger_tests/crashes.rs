//! Cuts a scripted run at each change that it makes to the disk: by a kill, and by power cuts that
//! lose more or less.

use std::collections::VecDeque;

use crate::ledger::ledger_tests::*;
use crate::ledger::simulated_disk::Loss;

/// The spends, requests and nonces that have left the agent, or were about to.
#[derive(Clone, Debug, Default)]
struct World {
    now_ms: u64,
    released: [Amount; 2],
    in_flight: [Amount; 2],
    /// Trades that are held, with the step in which each began.
    held: VecDeque<(usize, Spend)>,
    /// The number of requests of each window that have left, and that were about to.
    released_requests: [usize; 2],
    requests_in_flight: [usize; 2],
    nonces: Vec<u64>,
    /// Spends that earlier power cuts made up: nobody released them, and they count all the same.
    made_up: [Amount; 2],
}

const WINDOWS: [&str; 2] = [USDT, BTC];
const CAPS: [&str; 2] = ["2000", "50"];
/// The largest amount that can be reserved and not spent: a twentieth of the cap, rounded up, and
/// less than one spend more.
const BLOCKS: [&str; 2] = ["121.25", "5.1"];
/// The trades of one step.
const TRADES: [&str; 2] = ["20.25", "13"];

impl World {
    fn appended(&mut self, window: usize, asked: Amount) {
        self.in_flight[window] = self.in_flight[window].checked_add(asked).expect("small");
        self.requests_in_flight[window] += 1;
    }

    fn withdraw(&mut self, ledger: &mut LedgerWriter) -> Result<(), ReserveError> {
        let spend = spend(WINDOWS[1], "1.5", CAPS[1]);
        ledger.intend(self.now_ms, intent(Scope::Withdraw, vec![spend.clone()]))?;
        self.appended(1, spend.amount);
        Ok(())
    }

    fn begin_trades(&mut self, ledger: &mut LedgerWriter, step: usize) -> Result<(), ReserveError> {
        for asked in TRADES {
            let spend = spend(WINDOWS[0], asked, CAPS[0]);
            ledger.hold(self.now_ms, "bot", std::slice::from_ref(&spend), 0)?;
            self.held.push_back((step, spend));
        }
        Ok(())
    }

    /// Ends the trades that began in `step` or before. Of one step, the last ends first.
    fn end_trades(&mut self, ledger: &mut LedgerWriter, step: usize) -> Result<(), LedgerError> {
        while let Some((began, _)) = self.held.front().cloned().filter(|(began, _)| *began <= step)
        {
            let last = self.held.iter().rposition(|trade| trade.0 == began).expect("one began");
            let (_, spend) = self.held.remove(last).expect("is there");
            ledger.append_held(self.now_ms, &signed(vec![spend.clone()]), 0, 0)?;
            self.appended(0, spend.amount);
        }
        Ok(())
    }

    /// The replies leave the agent.
    fn release(&mut self) {
        for window in 0..2 {
            let in_flight = std::mem::take(&mut self.in_flight[window]);
            self.released[window] = self.released[window].checked_add(in_flight).expect("small");
            self.released_requests[window] += std::mem::take(&mut self.requests_in_flight[window]);
        }
    }

    fn nonce(&mut self, ledger: &mut LedgerWriter) -> Result<(), LedgerError> {
        let kraken = KeyName::parse("kraken").expect("a name");
        let nonce = ledger.nonce(&kraken, NonceUnit::Milliseconds, self.now_ms)?;
        assert!(
            self.nonces.iter().all(|earlier| *earlier < nonce),
            "{nonce} is not above {:?}",
            self.nonces.last()
        );
        self.nonces.push(nonce);
        Ok(())
    }

    /// Two runs of one boot, half a day: trades in batches that end two steps after they began,
    /// withdrawals synced before the token, nonces, rotation, an orderly end. The second run ends
    /// with trades under way.
    fn script(&mut self, disk: &SimulatedDisk, boot_id: &str) -> Result<(), ReserveError> {
        for run in 0..2 {
            let options = Options { segment_bytes: 4_000, ..options(boot_id) };
            let (mut ledger, _) = open_with(disk, options, self.now_ms)?;
            for step in 0..24 {
                self.now_ms += 12 * 60_000;
                if step >= 2 {
                    self.end_trades(&mut ledger, step - 2)?;
                }
                match step % 6 {
                    0 => self.nonce(&mut ledger)?,
                    3 => {
                        self.withdraw(&mut ledger)?;
                        ledger.sync()?;
                        ledger.append(self.now_ms, &result())?;
                    }
                    _ => self.begin_trades(&mut ledger, step)?,
                }
                if step % 2 == 1 {
                    ledger.flush()?;
                    self.release();
                }
            }
            if run == 0 {
                self.end_trades(&mut ledger, usize::MAX)?;
                ledger.close(self.now_ms)?;
            }
        }
        Ok(())
    }

    /// Checks that the ledger counts all that left the agent, and no more than may have left it.
    /// Of the trades that were held, a kill counts nothing, and a power cut what was reserved.
    fn check(&mut self, ledger: &LedgerWriter, lost_power: bool, what: &str) {
        let add = |sum: Amount, spend: &Spend| sum.checked_add(spend.amount).expect("small");
        let held = self.held.drain(..).fold(Amount::ZERO, |sum, (_, spend)| add(sum, &spend));
        for (window, name) in WINDOWS.into_iter().enumerate() {
            let used = ledger.used(self.now_ms, name);
            let least = self.released[window].checked_add(self.made_up[window]).expect("small");
            let slack = match (lost_power, window) {
                (false, _) => Amount::ZERO,
                (true, 0) => amount(BLOCKS[0]).checked_add(held).expect("small"),
                (true, _) => amount(BLOCKS[window]),
            };
            let most = least
                .checked_add(self.in_flight[window])
                .and_then(|sum| sum.checked_add(slack))
                .expect("small");
            assert!(
                used >= self.released[window],
                "{what}: {name}: {used} of {} released",
                self.released[window]
            );
            assert!(
                used <= most,
                "{what}: {name}: {used} where at most {most} can have been spent"
            );
            self.in_flight[window] = Amount::ZERO;
            self.made_up[window] = used.checked_sub(self.released[window]).expect("covers");
        }
    }

    /// Checks that each request that left the agent is on record: a withdrawal even after a power
    /// cut, all others after a kill.
    fn check_records(&mut self, disk: &SimulatedDisk, lost_power: bool, what: &str) {
        let recorded = entries(disk);
        for (window, scope) in [Scope::Trade, Scope::Withdraw].into_iter().enumerate() {
            let of_scope = |entry: &&JournalEntry| {
                entry.record().as_ref().and_then(Record::intent).map(|intent| intent.scope)
                    == Some(scope)
            };
            let intents = recorded.iter().filter(of_scope).count();
            let released = self.released_requests[window];
            if scope == Scope::Withdraw || !lost_power {
                assert!(
                    intents >= released,
                    "{what}: {intents} intents of {scope}, {released} left"
                );
            }
            // Requests that the cut took were promised to nobody. Requests that it left count in
            // later checks.
            (self.released_requests[window], self.requests_in_flight[window]) = (intents, 0);
        }
    }

    /// Opens the journal that a crash left, checks it, and uses it.
    fn recover(&mut self, disk: &SimulatedDisk, boot_id: &str, lost_power: bool, what: &str) {
        let (mut ledger, report) =
            open(disk, boot_id, self.now_ms).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_sound(disk);
        assert!(lost_power || report.carried != CarriedState::Reserved, "{what}");
        self.check(&ledger, lost_power, what);
        self.check_records(disk, lost_power, what);
        self.nonce(&mut ledger).expect(what);
    }
}

#[test]
fn a_kill_at_any_point_loses_nothing_and_counts_nothing_twice() {
    for operation in 0.. {
        let (disk, mut world) =
            (SimulatedDisk::default(), World { now_ms: NOW, ..World::default() });
        disk.fail_after(operation);
        let finished = world.script(&disk, "boot 1").is_ok();
        let disk = disk.after_kill();
        world.recover(&disk, "boot 1", false, &format!("killed at {operation}"));
        let again = disk.after_kill();
        again.fail_after(operation / 2);
        let _ = world.script(&again, "boot 1");
        world.recover(
            &again.after_kill(),
            "boot 1",
            false,
            &format!("killed at {operation}, then again"),
        );
        if finished {
            assert!(operation > 40, "the script is too short to say anything");
            break;
        }
    }
}

#[test]
fn a_power_cut_at_any_point_gives_no_spend_back_and_repeats_no_nonce() {
    for loss in Loss::ALL {
        for operation in 0.. {
            let (disk, mut world) =
                (SimulatedDisk::default(), World { now_ms: NOW, ..World::default() });
            disk.fail_after(operation);
            let finished = world.script(&disk, "boot 1").is_ok();
            let disk = disk.after_power_cut(loss);
            let what = format!("power cut at {operation}, {loss:?}");
            world.recover(&disk, "boot 2", true, &what);
            // The clock comes back wrong, and the power goes again.
            world.now_ms -= 3_600_000;
            let again = disk.after_kill();
            again.fail_after(operation / 3);
            let _ = world.script(&again, "boot 2");
            world.now_ms += 3_600_000;
            world.recover(
                &again.after_power_cut(Loss::All),
                "boot 3",
                true,
                &format!("{what}, then again"),
            );
            if finished {
                break;
            }
        }
    }
}

#[test]
fn a_power_cut_spends_the_reservation_once() {
    let disk = SimulatedDisk::default();
    let (mut ledger, _) = open(&disk, "boot 1", NOW).expect("opens");
    ledger.intend(NOW, intent(Scope::Trade, vec![spend(USDT, "1", "200")])).expect("fits");
    ledger.flush().expect("written");
    let disk = disk.after_power_cut(Loss::All);
    for (boot_id, carried) in [("boot 2", CarriedState::Reserved), ("boot 2", CarriedState::Exact)]
    {
        let (ledger, report) = open(&disk, boot_id, NOW).expect("opens");
        assert_eq!((report.carried, ledger.used(NOW, USDT)), (carried, amount("11")));
    }
    let (ledger, _) = open(&disk, "boot 2", NOW).expect("opens");
    ledger.close(NOW).expect("closes");
    let (ledger, report) = open(&disk, "boot 4", NOW).expect("opens");
    assert_eq!((report.carried, ledger.used(NOW, USDT)), (CarriedState::Clean, amount("11")));
}

#[test]
fn a_power_cut_after_an_orderly_end_spends_nothing_of_the_run_before() {
    let disk = SimulatedDisk::default();
    let (mut ledger, _) = open(&disk, "boot 1", NOW).expect("opens");
    ledger.intend(NOW, intent(Scope::Trade, vec![spend(USDT, "1", "200")])).expect("fits");
    ledger.close(NOW).expect("closes");
    drop(open(&disk, "boot 2", NOW).expect("opens"));
    let (ledger, report) = open(&disk.after_power_cut(Loss::All), "boot 3", NOW).expect("opens");
    assert_eq!((report.carried, ledger.used(NOW, USDT)), (CarriedState::Reserved, amount("1")));
}

#[test]
fn an_unknown_boot_counts_as_another_one() {
    let disk = SimulatedDisk::default();
    drop(open(&disk, "", NOW).expect("opens"));
    let (_, report) = open(&disk, "", NOW).expect("opens");
    assert_eq!(report.carried, CarriedState::Reserved);
}
