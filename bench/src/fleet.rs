//! Starts everything that is measured. Rows that are compared come right after one another.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::agent::Agent;
use crate::load::Load;
use crate::measure::Subject;
use crate::peers::{self, Server};
use crate::worker::{Pair, TokenKey};
use crate::{Beside, Run, echo, without_work};

/// Subjects are dropped before the servers they talk to, and servers before their directory.
pub(crate) struct Fleet {
    pub(crate) subjects: Vec<Box<dyn Subject>>,
    /// The agent that is measured, and then the builds beside it.
    builds: Vec<Build>,
    /// Peers that this machine does not have.
    pub(crate) left_out: Vec<&'static str>,
    servers: Vec<Server>,
    program: PathBuf,
    directory: tempfile::TempDir,
}

struct Build {
    /// Rows are named after it.
    name: String,
    agent: Agent,
}

/// Names that bars refer to.
pub(crate) const TOKEN_COPY: &str = "raw token, HMAC, working copy";
pub(crate) const TWO_TOKENS: &str = "raw token, HMAC, working copy, two at once";
pub(crate) const ONE_HOP: &str = "socket echo, one hop";
pub(crate) const WITHOUT_WORK: &str = "agent without work, 1 × 1";
pub(crate) const WITHOUT_WORK_PACED: &str = "agent without work, paced, 1 × 1";
pub(crate) const P256: &str = "agent, P-256, 1 × 1";
pub(crate) const ED25519: &str = "agent, Ed25519, 1 × 1";
const AGENT: &str = "agent";
const CLIENTS_AND_DEPTHS: [(usize, usize); 4] = [(1, 8), (4, 1), (4, 8), (16, 1)];

pub(crate) fn agent_name(clients: usize, depth: usize) -> String {
    row_name(AGENT, clients, depth)
}

pub(crate) fn paced_name() -> String {
    paced_row_name(AGENT)
}

fn beside_name(name: &str) -> String {
    format!("{name} {AGENT}")
}

fn row_name(build: &str, clients: usize, depth: usize) -> String {
    format!("{build}, {clients} × {depth}")
}

fn paced_row_name(build: &str) -> String {
    format!("{build}, paced, 1 × 1")
}

impl Fleet {
    pub(crate) fn start(run: &Run) -> anyhow::Result<Self> {
        let program = match &run.agent {
            Some(program) => program.clone(),
            None => std::env::current_exe()?.with_file_name("countersign-agent"),
        };
        let directory = tempfile::Builder::new().prefix("countersign-bench").tempdir()?;
        let mut fleet = Self {
            subjects: Vec::new(),
            builds: builds(&program, run, directory.path())?,
            left_out: Vec::new(),
            servers: Vec::new(),
            program,
            directory,
        };
        fleet.agent().generate_keys()?;
        fleet.add_one_client(run)?;
        fleet.add_many_clients()?;
        fleet.add_public_keys()?;
        fleet.subjects.retain(|subject| run.wants(subject.name()));
        Ok(fleet)
    }

    pub(crate) fn agent(&self) -> &Agent {
        &self.builds[0].agent
    }

    /// The floor, the agent and its peers with one client, and then the same with pauses.
    fn add_one_client(&mut self, run: &Run) -> anyhow::Result<()> {
        let sizes = self.agent().load("sizes", "hmac", 1, 1)?.sizes();
        self.add_raw_token(TOKEN_COPY, "raw-copy", TokenKey::Copy)?;
        for echo in echo::echoes(self.directory.path(), sizes, &mut self.servers)? {
            self.add(echo);
        }
        let without_work = self.start_without_work(WITHOUT_WORK, "bare", sizes)?;
        self.add(without_work);
        self.add_builds(|build| build.load(1, 1))?;
        self.add_p11_kit()?;
        match &run.python {
            Some(python) => self.add(peers::ccxt(python, self.directory.path())?),
            None => self.left_out.push("ccxt"),
        }
        let without_work = self.start_without_work(WITHOUT_WORK_PACED, "bare-paced", sizes)?;
        self.add(without_work.paced());
        self.add_builds(Build::paced)
    }

    fn add_many_clients(&mut self) -> anyhow::Result<()> {
        let token = |label| {
            let (program, path) = (&self.program, self.directory.path());
            peers::raw_token(TWO_TOKENS, program, path, (label, TokenKey::Copy))
        };
        let workers = [token("raw-one")?, token("raw-two")?];
        self.add(Pair { name: TWO_TOKENS, workers });
        self.add_builds(|build| build.load(16, 8))?;
        CLIENTS_AND_DEPTHS
            .into_iter()
            .try_for_each(|(clients, depth)| self.add_builds(|build| build.load(clients, depth)))
    }

    fn add_public_keys(&mut self) -> anyhow::Result<()> {
        self.add_raw_token("raw token, HMAC, token object", "raw-object", TokenKey::Object)?;
        self.add_raw_token("raw token, P-256", "raw-p256", TokenKey::P256)?;
        self.add(self.agent().coinbase_load(P256)?);
        let (server, loads) = peers::ssh_agent(&self.program, self.directory.path())?;
        self.servers.push(server);
        loads.into_iter().for_each(|load| self.add(load));
        self.add(self.agent().load(ED25519, "ed25519", 1, 1)?);
        Ok(())
    }

    fn add(&mut self, subject: impl Subject + 'static) {
        self.subjects.push(Box::new(subject));
    }

    /// Adds the same row of every build.
    fn add_builds(&mut self, load: impl Fn(&Build) -> anyhow::Result<Load>) -> anyhow::Result<()> {
        for build in &self.builds {
            self.subjects.push(Box::new(load(build)?));
        }
        Ok(())
    }

    fn add_raw_token(&mut self, name: &str, label: &str, key: TokenKey) -> anyhow::Result<()> {
        let path = self.directory.path();
        self.add(peers::raw_token(name, &self.program, path, (label, key))?);
        Ok(())
    }

    fn start_without_work(
        &mut self,
        name: &str,
        label: &str,
        sizes: (usize, usize),
    ) -> anyhow::Result<Load> {
        let place = (self.directory.path(), label);
        without_work::start(name, &self.program, place, sizes, &mut self.servers)
    }

    fn add_p11_kit(&mut self) -> anyhow::Result<()> {
        if Command::new("p11-kit").arg("--version").output().is_err()
            || peers::p11_kit_client().is_none()
        {
            self.left_out.push("p11-kit server");
            return Ok(());
        }
        let (server, worker) = peers::p11_kit(&self.program, self.directory.path())?;
        self.servers.push(server);
        self.add(worker);
        Ok(())
    }
}

impl Build {
    fn start(name: String, program: &Path, directory: &Path) -> anyhow::Result<Self> {
        Ok(Self { name, agent: Agent::start(program, directory)? })
    }

    fn load(&self, clients: usize, depth: usize) -> anyhow::Result<Load> {
        self.agent.load(&row_name(&self.name, clients, depth), "hmac", clients, depth)
    }

    fn paced(&self) -> anyhow::Result<Load> {
        Ok(self.agent.load(&paced_row_name(&self.name), "hmac", 1, 1)?.paced())
    }
}

/// Starts the agent, and the builds beside it in directories of their own.
fn builds(program: &Path, run: &Run, directory: &Path) -> anyhow::Result<Vec<Build>> {
    let mut builds = vec![Build::start(AGENT.to_owned(), program, directory)?];
    for Beside { name, program } in &run.beside {
        let directory = directory.join(format!("beside-{}", builds.len()));
        fs::create_dir(&directory)?;
        builds.push(Build::start(beside_name(name), program, &directory)?);
    }
    Ok(builds)
}
