//! Starts everything that is measured.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::Run;
use crate::agent::Agent;
use crate::echo::INNER;
use crate::load::{Load, frame};
use crate::measure::Subject;
use crate::peers::{self, Server};
use crate::process::Process;
use crate::worker::TokenKey;

/// Subjects are dropped before the servers they talk to, and servers before their directory.
pub(crate) struct Fleet {
    pub(crate) subjects: Vec<Box<dyn Subject>>,
    pub(crate) agent: Agent,
    /// Peers that this machine does not have.
    pub(crate) left_out: Vec<&'static str>,
    _other: Option<Agent>,
    _servers: Vec<Server>,
    _directory: tempfile::TempDir,
}

/// Names that bars refer to.
pub(crate) const TOKEN_COPY: &str = "raw token, HMAC, working copy";
pub(crate) const TOKEN_OBJECT: &str = "raw token, HMAC, token object";
pub(crate) const ONE_HOP: &str = "socket echo, one hop";
pub(crate) const TWO_HOPS: &str = "socket echo, two hops";
pub(crate) const P256: &str = "agent, P-256, 1 × 1";
const CLIENTS_AND_DEPTHS: [(usize, usize); 6] = [(1, 1), (1, 8), (4, 1), (4, 8), (16, 1), (16, 8)];

pub(crate) fn agent_name(clients: usize, depth: usize) -> String {
    format!("agent, {clients} × {depth}")
}

impl Fleet {
    pub(crate) fn start(run: &Run) -> anyhow::Result<Self> {
        let program = match &run.agent {
            Some(program) => program.clone(),
            None => std::env::current_exe()?.with_file_name("countersign-agent"),
        };
        let directory = tempfile::Builder::new().prefix("countersign-bench").tempdir()?;
        let path = directory.path();
        let agent = Agent::start(&program, path)?;
        agent.generate_keys()?;
        let first = agent.load(&agent_name(1, 1), "hmac", 1, 1)?;
        let sizes = first.sizes();
        let (mut servers, mut left_out) = (Vec::new(), Vec::new());
        let mut subjects: Vec<Box<dyn Subject>> = vec![
            Box::new(peers::raw_token(TOKEN_COPY, &program, path, TokenKey::Copy)?),
            Box::new(peers::raw_token(TOKEN_OBJECT, &program, path, TokenKey::Object)?),
            Box::new(peers::raw_token("raw token, P-256", &program, path, TokenKey::P256)?),
        ];
        for echo in echoes(path.to_owned(), sizes, &mut servers)? {
            subjects.push(Box::new(echo));
        }
        subjects.push(Box::new(first));
        for (clients, depth) in CLIENTS_AND_DEPTHS.into_iter().skip(1) {
            subjects.push(Box::new(agent.load(
                &agent_name(clients, depth),
                "hmac",
                clients,
                depth,
            )?));
        }
        subjects.push(Box::new(agent.load("agent, Ed25519, 1 × 1", "ed25519", 1, 1)?));
        subjects.push(Box::new(agent.coinbase_load(P256)?));
        if Command::new("p11-kit").arg("--version").output().is_ok()
            && peers::p11_kit_client().is_some()
        {
            let (server, worker) = peers::p11_kit(&program, path)?;
            servers.push(server);
            subjects.push(Box::new(worker));
        } else {
            left_out.push("p11-kit server");
        }
        let (server, loads) = peers::ssh_agent(&program, path)?;
        servers.push(server);
        loads.into_iter().for_each(|load| subjects.push(Box::new(load)));
        if let Some(python) = &run.python {
            subjects.push(Box::new(peers::ccxt(python, path)?));
        } else {
            left_out.push("ccxt");
        }
        let other = run
            .beside
            .as_deref()
            .map(|program| other_agent(program, path, &mut subjects))
            .transpose()?;
        subjects.retain(|subject| run.wants(subject.name()));
        Ok(Self {
            subjects,
            agent,
            left_out,
            _other: other,
            _servers: servers,
            _directory: directory,
        })
    }
}

/// Starts another build of the agent, for the rows of HMAC. Each of its rows comes right after the
/// first agent's row, so that both are measured alike.
fn other_agent(
    program: &Path,
    directory: &Path,
    subjects: &mut Vec<Box<dyn Subject>>,
) -> anyhow::Result<Agent> {
    let directory = directory.join("other");
    fs::create_dir(&directory)?;
    let other = Agent::start(program, &directory)?;
    for (clients, depth) in CLIENTS_AND_DEPTHS {
        let name = agent_name(clients, depth);
        let place =
            subjects.iter().position(|subject| subject.name() == name).context("just added")?;
        let load = other.load(&format!("other {name}"), "hmac", clients, depth)?;
        subjects.insert(place + 1, Box::new(load));
    }
    Ok(other)
}

/// Starts the socket echoes. One hop is from the client to an echo and back; two hops are from the
/// client to a relay, from there to an echo, and back.
fn echoes(
    directory: PathBuf,
    sizes: (usize, usize),
    servers: &mut Vec<Server>,
) -> anyhow::Result<Vec<Load>> {
    let (one, last, relay) =
        (directory.join("one"), directory.join("last"), directory.join("relay"));
    let outer = (sizes.0 + 4, sizes.1 + 4);
    let mut start =
        |socket: &PathBuf, (request, answer): (usize, usize), next: Option<&PathBuf>| {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("echo").arg("--socket").arg(socket);
            command.args(["--request", &request.to_string(), "--answer", &answer.to_string()]);
            command.args(next.iter().flat_map(|next| [OsStr::new("--next"), next.as_os_str()]));
            servers.push(Server::start(&mut command, socket)?);
            servers.last().map(|server| server.process("echo")).context("just started")
        };
    let one_process = start(&one, outer, None)?;
    let last_process = start(&last, INNER, None)?;
    let relay_process = Process { role: "relay", ..start(&relay, outer, Some(&last))? };
    let request = frame(0, &[&vec![0; sizes.0 - 1]]);
    let two = move || vec![relay_process.clone(), last_process.clone()];
    Ok(vec![
        Load::new(
            ONE_HOP,
            &one,
            (1, 1),
            request.clone(),
            move || vec![one_process.clone()],
            |_| true,
        )?,
        Load::new(TWO_HOPS, &relay, (1, 1), request, two, |_| true)?,
    ])
}
