//! While a clock is wrong, limits hold, `status` says that the clock is not to be trusted, and
//! nothing moves money.

use countersign_core::refusal::Code;
use rustix::process::Signal;

use crate::harness::agent;
use crate::harness::faulty_front::FaultyFront;

const LIMITED: &str = "keys = [\"binance-mm\"]\nscopes = [\"read\", \"trade\", \"transfer\", \
                       \"withdraw\"]\n\
                       symbols = [\"BTCUSDT\"]\nlimit.USDT = { per_day = \"1000\" }\n";

const ADDRESS: &str = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq";

/// An agent whose clock a plan sets.
struct Watched(FaultyFront);

impl Watched {
    fn new() -> Self {
        let rest = format!(
            "[[destination]]\nlabel = \"cold\"\nasset = \"BTC\"\nnetwork = \"BTC\"\naddress = \
             \"{ADDRESS}\"\n\n\
             [transfer.BTC]\nper_request = \"1\"\nper_day = \"1\"\n"
        );
        Self(FaultyFront::with_rest(LIMITED, &rest))
    }

    fn ask(&self, path: &str, params: &str) -> Result<(), Code> {
        agent::code(self.0.agent.sign("binance-mm", "POST", path, params))
    }

    /// An order of 300 USDT: three fit into the day's 1000.
    fn order(&self) -> Result<(), Code> {
        self.ask("/api/v3/order", agent::ORDER)
    }

    /// A transfer of 0.4 BTC: two fit into a day, and no person has to approve them.
    fn transfer(&self) -> Result<(), Code> {
        self.ask(
            "/sapi/v1/asset/transfer",
            r#"{"type":"MAIN_UMFUTURE","asset":"BTC","amount":"0.4"}"#,
        )
    }

    fn withdrawal(&self) -> Result<(), Code> {
        let params =
            format!(r#"{{"coin":"BTC","network":"BTC","address":"{ADDRESS}","amount":"0.1"}}"#);
        self.ask("/sapi/v1/capital/withdraw/apply", &params)
    }

    fn warnings(&self) -> Vec<String> {
        let status = self.0.agent.admin().status().expect("a status");
        status.warnings.into_iter().filter(|warning| warning.contains("clock")).collect()
    }

    /// Checks that with this clock nothing moves money and the day's limit stays spent.
    fn assert_doubted(&self, plan: &str, said: &str) {
        self.0.plan(plan);
        assert_eq!(self.order(), Err(Code::PolicyLimit), "{plan}");
        assert_eq!(self.transfer(), Err(Code::ClockUntrusted), "{plan}");
        assert_eq!(self.withdrawal(), Err(Code::ClockUntrusted), "{plan}");
        let account = self.0.agent.sign("binance-mm", "GET", "/api/v3/account", "{}");
        assert!(account.is_ok(), "{plan}: a request that moves nothing is signed: {account:?}");
        let warnings = self.warnings();
        assert!(warnings.iter().any(|warning| warning.contains(said)), "{plan}: {warnings:?}");
    }
}

fn doubted(journal: &str) -> usize {
    journal.matches("\"code\":\"clock.untrusted\"").count()
}

#[test]
fn while_a_clock_is_wrong_limits_hold_and_nothing_moves_money_until_it_is_right() {
    let watched = Watched::new();
    assert_eq!([(); 3].map(|()| watched.order()), [Ok(()); 3]);
    assert_eq!(watched.transfer(), Ok(()));
    assert_eq!(watched.warnings(), [""; 0], "a good clock");
    for (plan, said) in [
        ("clock 3600", "set ahead by 3"),
        ("clock -3600", "set back by 3"),
        ("clock 91000", "set ahead by 9"),
    ] {
        let intents = watched.0.agent.journal().matches("\"scope\":\"transfer\"").count();
        let doubts = doubted(&watched.0.agent.journal());
        watched.assert_doubted(plan, said);
        let journal = watched.0.agent.journal();
        assert_eq!(journal.matches("\"scope\":\"transfer\"").count(), intents, "{plan}: an intent");
        // The transfer and the withdrawal, each on record.
        assert_eq!(doubted(&journal), doubts + 2, "{plan}: refusals on record");
        watched.0.plan("");
        assert_eq!(watched.warnings(), [""; 0], "{plan}, and right again");
        assert_eq!(watched.order(), Err(Code::PolicyLimit), "{plan}, and right again");
        assert_eq!(watched.withdrawal(), Err(Code::ApprovalRequired), "{plan}, and right again");
    }
    assert_eq!(watched.transfer(), Ok(()), "0.8 of 1: what the clock refused was not counted");
    assert_eq!(watched.transfer(), Err(Code::PolicyLimit));
    watched.0.plan("clock 3");
    assert_eq!(
        watched.withdrawal(),
        Err(Code::ApprovalRequired),
        "seconds are what daemons set at once"
    );
    assert_eq!(watched.warnings(), [""; 0]);
}

#[test]
fn a_start_with_a_clock_behind_the_record_is_doubted_until_the_clock_has_passed_it() {
    let mut watched = Watched::new();
    assert_eq!([(); 3].map(|()| watched.order()), [Ok(()); 3]);
    watched.0.agent.stop(Signal::KILL);
    watched.0.plan("clock -3600");
    watched.0.agent.begin();
    watched.0.agent.wait_until("the agent is back", |agent| agent.tokens_are("healthy"));
    watched.assert_doubted("clock -3600", "behind the latest time on record");
    watched.0.plan("");
    assert_eq!(watched.withdrawal(), Err(Code::ApprovalRequired), "right again");
    assert_eq!(watched.order(), Err(Code::PolicyLimit));
    assert_eq!(watched.warnings(), [""; 0]);
}

/// Only a person knows which of the two times is right. A restart by a person means that the new
/// one is.
#[test]
fn a_restart_takes_the_clock_for_right() {
    let mut watched = Watched::new();
    watched.0.plan("clock 3600");
    assert_eq!(watched.transfer(), Err(Code::ClockUntrusted));
    watched.0.agent.stop(Signal::TERM);
    watched.0.agent.begin();
    watched.0.agent.wait_until("the agent is back", |agent| agent.tokens_are("healthy"));
    assert_eq!(watched.transfer(), Ok(()));
    assert_eq!(watched.warnings(), [""; 0]);
}
