//! `make bench`: the agent, the raw token, bare sockets and the agent's peers, measured in turns in
//! one run.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)] // prints the table, and a worker's answers to the driver

mod agent;
mod bars;
mod calibration;
mod echo;
mod fleet;
mod load;
mod measure;
mod micro;
mod peers;
mod process;
mod ratio;
mod report;
mod softhsm;
mod without_work;
mod worker;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};

use measure::Plan;

#[derive(Debug, Parser)]
#[command(about = "Measures the agent beside its peers, in turns, in one run")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Everything, as a table and as JSON
    Run(Run),
    /// The parts of a decision, without a token or a journal
    Micro,
    /// One end of a bare socket: started by `run`
    Echo(echo::Echo),
    /// The front of the agent without work: started by `run`
    Relay(without_work::Relay),
    /// The token host of the agent without work: started by `run`
    SigningHost(without_work::SigningHost),
    /// Signs with a token in its own process: started by `run`
    Worker(worker::TokenWorker),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// The agent to be measured; by default the one beside this program
    #[arg(long)]
    agent: Option<PathBuf>,
    /// Minutes instead of seconds, and a million requests for the growth of memory
    #[arg(long)]
    long: bool,
    /// File for the figures as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// A Python that has ccxt; without it ccxt is left out
    #[arg(long)]
    python: Option<PathBuf>,
    /// Another build of the agent, measured in turns with the first; may be given more than once.
    /// Its rows are named "NAME agent, …"
    #[arg(long, value_name = "NAME=AGENT", value_parser = Beside::parse)]
    beside: Vec<Beside>,
    /// Only these rows, each by a part of its name (x for ×), and neither steps nor memory: "agent,
    /// 1 x 1"
    rows: Vec<String>,
}

/// Another build of the agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Beside {
    name: String,
    program: PathBuf,
}

impl Beside {
    /// The agent's row that this build's row is compared with.
    fn agent_row<'a>(&self, row: &'a str) -> Option<&'a str> {
        row.strip_prefix(&self.name)?.strip_prefix(' ')
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let (name, program) = text.split_once('=').context("NAME=AGENT is expected")?;
        anyhow::ensure!(!name.is_empty() && !program.is_empty(), "NAME=AGENT is expected");
        Ok(Self { name: name.to_owned(), program: program.into() })
    }
}

impl Run {
    fn wants(&self, name: &str) -> bool {
        let plain = |name: &str| name.replace('×', "x");
        self.rows.is_empty() || self.rows.iter().any(|row| plain(name).contains(&plain(row)))
    }
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().what {
        What::Run(run) => measure_all(&run),
        What::Micro => {
            let (tables, exchanges) = (micro::tables_ms(), countersign_core::exchange::ALL.len());
            println!(
                "the tables of {exchanges} exchanges            {tables:8.1} ms, once (bar 20 ms)"
            );
            micro::measure().iter().for_each(|step| println!("{step}"));
            Ok(())
        }
        What::Echo(echo) => echo.serve(),
        What::Relay(relay) => relay.serve(),
        What::SigningHost(host) => host.serve(),
        What::Worker(worker) => worker.run(),
    }
}

fn measure_all(run: &Run) -> anyhow::Result<()> {
    let plan = if run.long { Plan::LONG } else { Plan::SHORT };
    let mut fleet = fleet::Fleet::start(run)?;
    anyhow::ensure!(!fleet.subjects.is_empty(), "no row has such a name");
    let figures = measure::rounds(plan, &mut fleet.subjects)?;
    fleet.subjects.clear(); // and their connections with them
    let (steps, memory) = match run.rows.is_empty() {
        true => (
            micro::measure(),
            Some(fleet.agent().memory(if run.long { 1_000_000 } else { 50_000 })?),
        ),
        false => (Vec::new(), None),
    };
    let report = report::Report::new(figures, steps, memory, &run.beside, fleet.left_out);
    print!("{report}");
    if let Some(path) = &run.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_beside_the_agent_have_names() {
        let run = |arguments: &[&str]| {
            let command = ["bench", "run"].iter().chain(arguments);
            match Arguments::try_parse_from(command).map(|arguments| arguments.what) {
                Ok(What::Run(run)) => Some(run.beside),
                _ => None,
            }
        };
        let beside =
            |name: &str, program: &str| Beside { name: name.to_owned(), program: program.into() };
        assert_eq!(run(&[]), Some(Vec::new()));
        assert_eq!(
            run(&["--beside", "old=/a=b", "--beside", "new=c"]),
            Some(vec![beside("old", "/a=b"), beside("new", "c")])
        );
        for wrong in ["/a", "=/a", "old="] {
            assert_eq!(run(&["--beside", wrong]), None, "{wrong}");
        }
    }
}
