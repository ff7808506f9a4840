//! An agent whose front's writes, syncs and clock fail as a plan says.

use std::fs;
use std::path::Path;

use countersign_core::refusal::Code;

use super::agent::{self, API_KEY, Agent, Launch, SECRET};
use super::shim::write_plan;
use super::softhsm::SoftHsm;

/// An agent whose front is started with `tests/fixtures/process-faults.c`.
pub(crate) struct FaultyFront {
    pub(crate) agent: Agent,
    directory: tempfile::TempDir,
}

impl FaultyFront {
    pub(crate) fn new(bot: &str) -> Self {
        Self::with_rest(bot, "")
    }

    pub(crate) fn with_rest(bot: &str, rest: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let library = directory.path().join("process-faults.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/process-faults.c");
        let mut compiler = std::process::Command::new("cc");
        let compiler = compiler
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", source, "-o"])
            .arg(&library);
        assert!(compiler.status().expect("a C compiler").success());
        fs::write(directory.path().join("plan"), "").expect("written");
        let variable =
            |name: &str, path: &Path| (name.to_owned(), path.to_str().expect("UTF-8").to_owned());
        let environment = vec![
            variable("LD_PRELOAD", &library),
            variable("PROCESS_FAULTS", &directory.path().join("plan")),
        ];
        let agent = Agent::start_with(
            SoftHsm::new(),
            Launch { environment, ..Launch::default() },
            bot,
            rest,
        );
        agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
        Self { agent, directory }
    }

    pub(crate) fn plan(&self, plan: &str) {
        write_plan(&self.directory.path().join("plan"), plan);
    }

    pub(crate) fn read(&self) -> Result<(), Code> {
        agent::code(self.agent.sign("binance-mm", "GET", "/api/v3/account", "{}"))
    }
}
