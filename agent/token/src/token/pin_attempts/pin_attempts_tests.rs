//! Tests every state of the record, and every way in which an attempt can end.

use crate::token::pin_attempts::*;

const NO_TRY_SPENT: PinFlags =
    PinFlags { count_low: false, final_try: false, locked: false, exact: false };
const TRY_SPENT: PinFlags = PinFlags { count_low: true, ..NO_TRY_SPENT };

fn source(number: i32) -> SourceIdentity {
    SourceIdentity::Fd { number }
}

fn all_flags() -> impl Iterator<Item = PinFlags> {
    (0..16).map(|bits| PinFlags {
        count_low: bits & 1 != 0,
        final_try: bits & 2 != 0,
        locked: bits & 4 != 0,
        exact: bits & 8 != 0,
    })
}

fn all_records() -> impl Iterator<Item = RecordedAttempts> {
    let pending = [None, Some(source(1)), Some(source(2))];
    let refused = [vec![], vec![source(1)], vec![source(2)], vec![source(1), source(2)]];
    pending.into_iter().flat_map(move |pending| {
        refused.clone().into_iter().flat_map(move |refused| {
            let pending = pending.clone();
            (0..3).flat_map(move |unclear| {
                let (pending, refused) = (pending.clone(), refused.clone());
                (0..6).map(move |number| RecordedAttempts {
                    v: 1,
                    pending: pending.clone(),
                    unclear,
                    refused: refused.clone(),
                    refusals_in_a_row: number / 2,
                    cleared: number % 2 == 1,
                })
            })
        })
    })
}

#[test]
fn an_attempt_is_allowed_in_exactly_these_states() {
    for record in all_records() {
        for flags in all_flags() {
            let pending_counts = record.pending.is_some()
                && (flags.count_low || (record.unclear >= 1 && !flags.exact));
            let refused = record.refused.contains(&source(1))
                || (pending_counts && record.pending == Some(source(1)));
            let refusals = record.refusals_in_a_row + u32::from(pending_counts);
            let elsewhere = flags.exact && flags.count_low && refusals == 0 && !record.cleared;
            let allowed = !flags.locked
                && !flags.final_try
                && !refused
                && !elsewhere
                && refusals < MOST_REFUSALS_IN_A_ROW;
            assert_eq!(
                record.verdict(&source(1), flags) == Verdict::Attempt,
                allowed,
                "{record:?} {flags:?}"
            );
        }
    }
}

#[test]
fn the_reason_says_what_happened() {
    let fresh = RecordedAttempts::default();
    let mut refused = fresh.clone();
    refused.refuse(source(1));
    let pending = RecordedAttempts { pending: Some(source(1)), ..fresh.clone() };
    let mut twice = refused.clone();
    twice.refuse(source(2));
    for (record, flags, reason) in [
        (&fresh, PinFlags { locked: true, ..TRY_SPENT }, Reason::Locked),
        (&fresh, PinFlags { final_try: true, ..TRY_SPENT }, Reason::FinalTry),
        (&refused, NO_TRY_SPENT, Reason::RefusedBefore),
        (&pending, TRY_SPENT, Reason::Interrupted),
        (&fresh, PinFlags { exact: true, ..TRY_SPENT }, Reason::Elsewhere),
    ] {
        assert_eq!(record.verdict(&source(1), flags), Verdict::Blocked(reason));
    }
    assert_eq!(twice.verdict(&source(3), NO_TRY_SPENT), Verdict::Blocked(Reason::TooManyRefusals));
}

/// A token that counts the tries. The host may be killed at any point of an attempt.
struct Simulation {
    state: tempfile::TempDir,
    /// True if the token shows that a try was spent.
    shows_count: bool,
    attempts: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum Killed {
    AfterBegin,
    AfterLogin,
    Never,
}

impl Simulation {
    fn new(shows_count: bool) -> Self {
        Self { state: tempfile::tempdir().expect("a directory"), shows_count, attempts: 0 }
    }

    fn start(&mut self, number: i32, outcome: LoginOutcome, killed: Killed) -> Verdict {
        let flags = PinFlags { count_low: self.shows_count && self.attempts > 0, ..NO_TRY_SPENT };
        let mut record = PinAttempts::open(self.state.path(), "hsm").expect("opens");
        let verdict = record.verdict(&source(number), flags);
        if verdict == Verdict::Attempt {
            record.begin(&source(number), flags).expect("writes");
            if killed == Killed::AfterBegin {
                return verdict;
            }
            self.attempts += 1;
            if killed == Killed::Never {
                record.settle(outcome).expect("writes");
            }
        }
        verdict
    }
}

#[test]
fn a_thousand_starts_with_a_wrong_pin_are_one_attempt() {
    for shows_count in [true, false] {
        let mut token = Simulation::new(shows_count);
        for _ in 0..1000 {
            let _ = token.start(3, LoginOutcome::Refused, Killed::Never);
        }
        assert_eq!(token.attempts, 1);
    }
}

#[test]
fn being_killed_in_between_never_adds_more_than_one_attempt() {
    for (killed, shows_count, most) in [
        (Killed::AfterLogin, true, 1),
        (Killed::AfterLogin, false, 2),
        (Killed::AfterBegin, true, 0),
        (Killed::AfterBegin, false, 0),
    ] {
        let mut token = Simulation::new(shows_count);
        for _ in 0..50 {
            let _ = token.start(3, LoginOutcome::Refused, killed);
        }
        assert_eq!(token.attempts, most);
    }
}

#[test]
fn killed_before_the_login_leaves_one_more_attempt() {
    let mut token = Simulation::new(true);
    let _ = token.start(3, LoginOutcome::Accepted, Killed::AfterBegin);
    assert_eq!(token.start(3, LoginOutcome::Accepted, Killed::Never), Verdict::Attempt);
    assert_eq!(token.start(3, LoginOutcome::Accepted, Killed::Never), Verdict::Attempt);
}

#[test]
fn outcomes_that_do_not_judge_the_pin() {
    let mut token = Simulation::new(false);
    for _ in 0..20 {
        let _ = token.start(3, LoginOutcome::NotJudged, Killed::Never);
    }
    assert_eq!(token.attempts, 20, "an absent device spends no try");
    let mut token = Simulation::new(false);
    for _ in 0..20 {
        let _ = token.start(3, LoginOutcome::Unclear, Killed::Never);
    }
    assert_eq!(token.attempts, 2, "an unclear error may have spent one");
}

#[test]
fn a_corrected_source_is_tried_and_success_clears_the_count_but_not_the_refused_pin() {
    let mut token = Simulation::new(false);
    assert_eq!(token.start(1, LoginOutcome::Refused, Killed::Never), Verdict::Attempt);
    assert_eq!(token.start(2, LoginOutcome::Accepted, Killed::Never), Verdict::Attempt);
    assert_eq!(
        token.start(1, LoginOutcome::Accepted, Killed::Never),
        Verdict::Blocked(Reason::RefusedBefore)
    );
    assert_eq!(token.start(3, LoginOutcome::Refused, Killed::Never), Verdict::Attempt);
    assert_eq!(token.start(4, LoginOutcome::Refused, Killed::Never), Verdict::Attempt);
    assert_eq!(
        token.start(5, LoginOutcome::Accepted, Killed::Never),
        Verdict::Blocked(Reason::TooManyRefusals)
    );
    assert!(reset(token.state.path(), "hsm").expect("removable"));
    assert!(!reset(token.state.path(), "hsm").expect("nothing left"));
    assert_eq!(token.start(1, LoginOutcome::Accepted, Killed::Never), Verdict::Attempt);
}

/// The agent and a vault each keep a record for one YubiKey, which counts the tries of both.
#[test]
fn of_two_records_one_tries_a_wrong_pin_until_a_person_allows_one_more() {
    let (agent, vault) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let mut spent = 0;
    let mut attempt = |state: &Path, outcome| {
        let flags = PinFlags { count_low: spent > 0, exact: true, ..NO_TRY_SPENT };
        let mut record = PinAttempts::open(state, "yk").expect("opens");
        let verdict = record.verdict(&source(1), flags);
        if verdict == Verdict::Attempt {
            record.begin(&source(1), flags).expect("writes");
            record.settle(outcome).expect("writes");
            spent = if outcome == LoginOutcome::Refused { spent + 1 } else { 0 };
        }
        verdict
    };
    assert_eq!(attempt(vault.path(), LoginOutcome::Accepted), Verdict::Attempt);
    assert_eq!(attempt(agent.path(), LoginOutcome::Refused), Verdict::Attempt);
    assert_eq!(attempt(vault.path(), LoginOutcome::Refused), Verdict::Blocked(Reason::Elsewhere));
    assert!(reset(vault.path(), "yk").expect("writable"));
    assert_eq!(
        attempt(vault.path(), LoginOutcome::Refused),
        Verdict::Attempt,
        "a person allowed it"
    );
    assert_eq!(
        attempt(vault.path(), LoginOutcome::Refused),
        Verdict::Blocked(Reason::RefusedBefore)
    );
    assert!(reset(vault.path(), "yk").expect("writable"));
    assert_eq!(attempt(vault.path(), LoginOutcome::Accepted), Verdict::Attempt, "it was set right");
    assert!(reset(agent.path(), "yk").expect("writable"));
    assert_eq!(attempt(agent.path(), LoginOutcome::Refused), Verdict::Attempt);
}

#[test]
fn a_record_that_another_holds_is_not_waited_for_without_end() {
    let state = tempfile::tempdir().expect("a directory");
    let held = PinAttempts::open(state.path(), "hsm").expect("opens");
    let busy = PinAttempts::open_within(Duration::from_millis(50), state.path(), "hsm");
    assert!(matches!(busy, Err(PinAttemptsError::Busy { .. })), "{busy:?}");
    drop(held);
    // A process that another test starts at this moment has the lock until it runs its program.
    PinAttempts::open(state.path(), "hsm").expect("free");
}

#[test]
fn a_damaged_record_stops_all_attempts() {
    let state = tempfile::tempdir().expect("a directory");
    let mut record = PinAttempts::open(state.path(), "hsm").expect("opens");
    record.begin(&source(1), NO_TRY_SPENT).expect("writes");
    drop(record);
    let path = state.path().join(PIN_ATTEMPTS_DIRECTORY).join("hsm.json");
    let whole = fs::read_to_string(&path).expect("written");
    for text in ["", "{}", &whole[..whole.len() - 1], &whole.replace("\"v\"", "\"w\"")] {
        fs::write(&path, text).expect("writable");
        assert!(
            matches!(PinAttempts::open(state.path(), "hsm"), Err(PinAttemptsError::Damaged { .. })),
            "{text:?}"
        );
    }
}

#[test]
fn a_corrected_file_is_a_new_source_and_the_record_holds_nothing_of_the_pin() {
    let state = tempfile::tempdir().expect("a directory");
    let path = state.path().join("pin");
    let identity = |pin: &str| {
        fs::write(&path, pin).expect("writable");
        SourceIdentity::of_file(&path, &File::open(&path).expect("there")).expect("has metadata")
    };
    let wrong = identity("918273645");
    assert_eq!(
        wrong,
        SourceIdentity::of_file(&path, &File::open(&path).expect("there")).expect("has metadata")
    );
    let mut record = PinAttempts::open(state.path(), "hsm").expect("opens");
    record.begin(&wrong, NO_TRY_SPENT).expect("writes");
    record.settle(LoginOutcome::Refused).expect("writes");
    let text = fs::read_to_string(state.path().join(PIN_ATTEMPTS_DIRECTORY).join("hsm.json"))
        .expect("written");
    assert!(!text.contains("918273645"), "{text}");
    assert_ne!(wrong, identity("91827364"));
}
