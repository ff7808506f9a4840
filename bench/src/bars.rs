//! The bars that the agent has to reach, and the values that were measured.

use serde::Serialize;

use crate::agent::Memory;
use crate::fleet::{ONE_HOP, P256, TOKEN_COPY, agent_name};
use crate::measure::Figure;
use crate::micro::Step;

/// One bar: a value, and the most or the least that it may be.
#[derive(Debug, Serialize)]
pub(crate) struct Bar {
    what: &'static str,
    value: f64,
    wanted: f64,
    unit: &'static str,
    met: bool,
}

impl std::fmt::Display for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let said = if self.met { "met" } else { "MISSED" };
        write!(
            f,
            "{:72} {:9.2} (bar {:.2} {}): {said}",
            self.what, self.value, self.wanted, self.unit
        )
    }
}

pub(crate) fn bars(figures: &[Figure], steps: &[Step], memory: Option<&Memory>) -> Vec<Bar> {
    let figure = |name: &str, pinned| {
        figures.iter().find(|figure| figure.name == name && figure.pinned == pinned)
    };
    let p50 = |name: &str| figure(name, true).map(|figure| figure.microseconds(0.5));
    let rate = |name: &str, pinned| figure(name, pinned).map(Figure::per_second);
    let agent = p50(&agent_name(1, 1));
    let ratio = |one: Option<f64>, other: Option<f64>| Some(one? / other?);
    let floor = p50(ONE_HOP).zip(p50(TOKEN_COPY)).map(|(echo, token)| 2.0 * echo + token);
    let busiest = agent_name(16, 8);
    let helper = p50("ssh-agent with PKCS#11 helper, P-256");
    let together = steps.last().map(|step| step.ns.max(step.ns_with_1000_keys) / 1000.0);
    [
        most(
            "p50 of one client, pinned, by 2 × echo + raw token",
            ratio(agent, floor),
            1.35,
            "times",
        ),
        most(
            "p50 of one client, pinned, by p11-kit server",
            ratio(agent, p50("p11-kit server, HMAC")),
            0.65,
            "times",
        ),
        least(
            "16 × 8 unpinned, by the raw single-thread token rate",
            ratio(rate(&busiest, false), rate(TOKEN_COPY, false)),
            0.4,
            "times",
        ),
        most(
            "P-256 of the agent, pinned, by ssh-agent with its PKCS#11 helper",
            ratio(p50(P256), helper),
            0.5,
            "times",
        ),
        most("parse + classify + decide + draft", together, 3.0, "µs"),
        most(
            "front with 1,000 idle connections",
            memory.map(|memory| memory.front_with_idle_kib as f64 / 1024.0),
            24.0,
            "MiB",
        ),
        most(
            "growth of the front over the requests",
            memory.map(|memory| memory.growth_kib as f64 / 1024.0),
            1.0,
            "MiB",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn most(what: &'static str, value: Option<f64>, wanted: f64, unit: &'static str) -> Option<Bar> {
    value.map(|value| Bar { what, value, wanted, unit, met: value <= wanted })
}

fn least(what: &'static str, value: Option<f64>, wanted: f64, unit: &'static str) -> Option<Bar> {
    value.map(|value| Bar { what, value, wanted, unit, met: value >= wanted })
}
