//! A clock that is set: limits hold, and status says that it is not to be trusted.

use rustix::process::Signal;

use super::disk::Mercy;
use super::*;
use crate::agent;

const LIMITED: &str = "keys = [\"binance-mm\"]\nscopes = [\"read\", \"trade\"]\nsymbols = [\"BTCUSDT\"]\n\
                       limit.USDT = { per_day = \"1000\" }\n";

/// 300 USDT each: three fit into the day's 1000.
#[test]
fn a_clock_that_is_set_frees_no_limit_and_status_says_so() {
    let mut mercy = Mercy::new(LIMITED);
    let order = |mercy: &Mercy| agent::code(mercy.agent.sign("binance-mm", "POST", "/api/v3/order", agent::ORDER));
    for _ in 0..3 {
        assert_eq!(order(&mercy), None);
    }
    assert_eq!(clock_warnings(&mercy), [""; 0], "a good clock");
    for (plan, said) in [("clock 3600", "ahead"), ("clock -3600", "behind"), ("", "behind")] {
        mercy.plan(plan);
        assert_eq!(order(&mercy), Some(Code::PolicyLimit), "{plan}");
        let warnings = clock_warnings(&mercy);
        assert!(warnings.iter().any(|warning| warning.contains(said)), "{plan}: {warnings:?}");
    }
    mercy.agent.stop(Signal::KILL);
    mercy.plan("clock -3600");
    mercy.agent.begin();
    mercy.agent.wait_until("the agent is back", |agent| agent.tokens_are("healthy"));
    assert_eq!(order(&mercy), Some(Code::PolicyLimit), "a restart forgets nothing");
    assert!(clock_warnings(&mercy).iter().any(|warning| warning.contains("behind")));
}

fn clock_warnings(mercy: &Mercy) -> Vec<String> {
    let status = mercy.agent.admin().status().expect("a status");
    status.warnings.into_iter().filter(|warning| warning.contains("clock")).collect()
}
