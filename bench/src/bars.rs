//! The bars that the agent has to reach, and the values that were measured.

use serde::Serialize;

use crate::agent::Memory;
use crate::fleet::{
    ED25519, ONE_HOP, P256, TOKEN_COPY, TWO_TOKENS, WITHOUT_WORK, WITHOUT_WORK_PACED, agent_name,
    paced_name,
};
use crate::measure::Figure;
use crate::micro::Step;
use crate::ratio::{Ratio, Series};

/// One bar: a value, and the most or the least that it may be.
#[derive(Debug, Serialize)]
pub(crate) struct Bar {
    what: &'static str,
    value: f64,
    wanted: f64,
    unit: &'static str,
    met: bool,
    /// Absent if the value is no ratio of rows.
    ratio: Option<Ratio>,
}

/// The values of all rows, round by round.
struct Rows<'a>(&'a [Figure]);

impl std::fmt::Display for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let said = if self.met { "met" } else { "MISSED" };
        let Self { what, value, wanted, unit, .. } = self;
        write!(f, "{what:66} {value:7.2} (bar {wanted:.2} {unit}): {said}")?;
        self.ratio.iter().try_for_each(|ratio| write!(f, "; {ratio}"))
    }
}

/// All bars whose rows were measured. Some are lower where the CPU has instructions for SHA-256.
pub(crate) fn bars(
    figures: &[Figure],
    steps: &[Step],
    memory: Option<&Memory>,
    with_sha: bool,
) -> Vec<Bar> {
    let rows = Rows(figures);
    let step = steps.last().map(|step| step.ns.max(step.ns_with_1000_keys) / 1000.0);
    let mebibytes = |kib: fn(&Memory) -> f64| memory.map(|memory| kib(memory) / 1024.0);
    let idle = mebibytes(|memory| memory.front_with_idle_kib as f64);
    let growth = mebibytes(|memory| memory.growth_kib as f64);
    let others = [
        most("parse + classify + decide + draft", step, 2.0, "µs"),
        most("front with 1,000 idle connections", idle, 24.0, "MiB"),
        most("growth of the front over the requests", growth, 1.0, "MiB"),
    ];
    rows.bars(with_sha).into_iter().chain(others).flatten().collect()
}

impl Rows<'_> {
    fn bars(&self, with_sha: bool) -> [Option<Bar>; 9] {
        let wanted = |with, without| if with_sha { with } else { without };
        let agent = agent_name(1, 1);
        let by = |name: &str| self.p50_by(&agent, name);
        let share = self.rate(&agent_name(16, 8)).zip(self.rate(TWO_TOKENS));
        [
            at_most(
                "one client, pinned, p50, by 2 × echo + raw token",
                self.p50(&agent).zip(self.floor()).map(|(agent, floor)| agent.by(&floor)),
                wanted(1.5, 1.65),
            ),
            at_most("one client, pinned, p50, by the agent without work", by(WITHOUT_WORK), 1.3),
            at_most(
                "one client, pinned, p50, by p11-kit server",
                by("p11-kit server, HMAC"),
                wanted(0.65, 0.7),
            ),
            at_most(
                "one client, pinned, p50, by ccxt's own sign()",
                by("ccxt sign() in Python"),
                1.0,
            ),
            at_most(
                "one client, paced, pinned, p50, by the agent without work",
                self.p50_by(&paced_name(), WITHOUT_WORK_PACED),
                1.25,
            ),
            at_least(
                "16 × 8, any CPU, requests/s, by one of two raw tokens at once",
                share.map(|(agent, two_tokens)| agent.by(&two_tokens.times(0.5))),
                0.6,
            ),
            at_most("P-256, pinned, p50, by ssh-agent", self.p50_by(P256, "ssh-agent, P-256"), 0.5),
            at_most(
                "P-256, pinned, p50, by ssh-agent with its PKCS#11 helper",
                self.p50_by(P256, "ssh-agent with PKCS#11 helper, P-256"),
                0.5,
            ),
            at_most(
                "Ed25519, pinned, p50, by ssh-agent",
                self.p50_by(ED25519, "ssh-agent, Ed25519"),
                0.5,
            ),
        ]
    }

    fn figure(&self, name: &str, pinned: bool) -> Option<&Figure> {
        self.0.iter().find(|figure| figure.name == name && figure.pinned == pinned)
    }

    fn p50(&self, name: &str) -> Option<Series> {
        self.figure(name, true).map(Figure::p50s)
    }

    fn rate(&self, name: &str) -> Option<Series> {
        self.figure(name, false).map(Figure::rates)
    }

    /// Two hops and a signature.
    fn floor(&self) -> Option<Series> {
        Some(self.p50(ONE_HOP)?.times(2.0).plus(&self.p50(TOKEN_COPY)?))
    }

    fn p50_by(&self, name: &str, other: &str) -> Option<Ratio> {
        Some(self.p50(name)?.by(&self.p50(other)?))
    }
}

fn most(what: &'static str, value: Option<f64>, wanted: f64, unit: &'static str) -> Option<Bar> {
    value.map(|value| Bar { what, value, wanted, unit, met: value <= wanted, ratio: None })
}

fn at_most(what: &'static str, ratio: Option<Ratio>, wanted: f64) -> Option<Bar> {
    let bar = most(what, Some(ratio.as_ref()?.median), wanted, "times")?;
    Some(Bar { ratio, ..bar })
}

fn at_least(what: &'static str, ratio: Option<Ratio>, wanted: f64) -> Option<Bar> {
    let bar = at_most(what, ratio, wanted)?;
    Some(Bar { met: bar.value >= wanted, ..bar })
}
