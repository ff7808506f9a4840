//! The agent that is measured, with its own token, policy and journal, and the orders that it
//! signs.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::ensure;
use countersign::{Admin, Sockets};
use countersign_core::algorithm::Algorithm;
use countersign_core::scope::Scope;
use countersign_core::wire::admin::{NewKey, Register};
use serde::Serialize;

use crate::load::{Load, frame, string};
use crate::process::Process;
use crate::softhsm::SoftHsm;

/// Binance's published test key:
/// <https://developers.binance.com/docs/binance-spot-api-docs/rest-api/request-security>
const API_KEY: &str = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A";
const SECRET: &str = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j";

/// A Binance order; `KEY` stands for the name of the key.
pub(crate) const ORDER: &str = r#"{"v":1,"key":"KEY","method":"POST","path":"/api/v3/order",
    "params":{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT","timeInForce":"GTC","quantity":"0.01",
    "price":"30000"}}"#;
/// A Coinbase order; the agent signs a token (JWT) for it with P-256.
const COINBASE_ORDER: &str = r#"{"v":1,"key":"p256","method":"POST",
    "path":"/api/v3/brokerage/orders","params":{"client_order_id":"11111-000000",
    "product_id":"BTC-USD","side":"BUY",
    "order_configuration":{"limit_limit_gtc":{"base_size":"0.001","limit_price":"10000.00",
    "post_only":false}}}}"#;

#[derive(Debug)]
pub(crate) struct Agent {
    child: Child,
    directory: PathBuf,
}

/// Resident memory in KiB.
#[derive(Debug, Serialize)]
pub(crate) struct Memory {
    pub(crate) front_kib: u64,
    pub(crate) host_kib: u64,
    /// Number of idle connections that were then added.
    pub(crate) idle_connections: usize,
    pub(crate) front_with_idle_kib: u64,
    /// Number of requests over which the front grew by `growth_kib`.
    pub(crate) requests: u64,
    pub(crate) growth_kib: i64,
}

impl Agent {
    pub(crate) fn start(program: &Path, directory: &Path) -> anyhow::Result<Self> {
        let token = SoftHsm::new(program, directory, "agent")?;
        fs::create_dir(directory.join("state"))?;
        let config = directory.join("agent.toml");
        fs::write(&config, configuration(directory, &token))?;
        let log = fs::File::create(directory.join("log"))?;
        let mut command = Command::new(program);
        let child = command
            .args(["run", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()?;
        let agent = Self { child, directory: directory.to_owned() };
        agent.wait_until_healthy()?;
        agent.add_hmac()?;
        Ok(agent)
    }

    fn wait_until_healthy(&self) -> anyhow::Result<()> {
        let start = Instant::now();
        let sockets = self.sockets();
        let healthy = || {
            Ok::<_, countersign::Error>(
                Admin::open(&sockets)?.status()?.tokens[0].state == "healthy",
            )
        };
        while !healthy().unwrap_or(false) {
            let log = || fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            ensure!(
                start.elapsed() < Duration::from_secs(15),
                "the agent does not start:\n{}",
                log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn add_hmac(&self) -> anyhow::Result<()> {
        let (reader, mut writer) = std::io::pipe()?;
        writer.write_all(
            serde_json::json!({"api_key": API_KEY, "secret": SECRET}).to_string().as_bytes(),
        )?;
        drop(writer);
        Admin::open(&self.sockets())?
            .add(&Register::Add(new_key("hmac", "binance", None)), reader.as_fd())?;
        Ok(())
    }

    /// Makes two keys on the token: `ed25519` for Binance and `p256` for Coinbase.
    pub(crate) fn generate_keys(&self) -> anyhow::Result<()> {
        let mut admin = Admin::open(&self.sockets())?;
        for (name, exchange, algorithm) in [
            ("ed25519", "binance", Algorithm::Ed25519),
            ("p256", "coinbase", Algorithm::EcdsaP256Sha256),
        ] {
            admin.register(&Register::Generate(new_key(name, exchange, Some(algorithm))))?;
            admin.register(&Register::Activate {
                v: 1,
                name: name.to_owned(),
                api_key: "id".to_owned(),
            })?;
        }
        Ok(())
    }

    fn sockets(&self) -> Sockets {
        Sockets::at(self.socket())
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("agent.sock")
    }

    fn front(&self) -> Process {
        Process { role: "front", pid: self.child.id() }
    }

    /// Orders at Binance from `clients` connections with `depth` under way on each.
    pub(crate) fn load(
        &self,
        name: &str,
        key: &str,
        clients: usize,
        depth: usize,
    ) -> anyhow::Result<Load> {
        self.orders(name, &self.socket(), &ORDER.replace("KEY", key), (clients, depth))
    }

    /// Orders at Coinbase, one at a time. Each needs a token (JWT) signed with P-256.
    pub(crate) fn coinbase_load(&self, name: &str) -> anyhow::Result<Load> {
        self.orders(name, &coinbase_socket(&self.directory), COINBASE_ORDER, (1, 1))
    }

    fn orders(
        &self,
        name: &str,
        socket: &Path,
        order: &str,
        clients: (usize, usize),
    ) -> anyhow::Result<Load> {
        let request = frame(27, &[&string(b"sign@countersign"), &string(order.as_bytes())]);
        let front = self.front();
        let processes = move || {
            let mut processes = front.grandchildren("host");
            processes.push(front.clone());
            processes
        };
        let good = |answer: &[u8]| String::from_utf8_lossy(answer).contains("\"signature\":");
        Load::new(name, socket, clients, request, processes, good)
    }

    /// Has the agent answer `requests` requests, opens a thousand connections, and reads the
    /// resident memory in between. No other client may be connected, because the agent takes 1,024
    /// connections in all.
    pub(crate) fn memory(&self, requests: u64) -> anyhow::Result<Memory> {
        let front = self.front();
        let mut load = self.load("memory", "hmac", 4, 8)?;
        load.requests(requests.min(20_000))?;
        let before = front.rss_kib();
        load.requests(requests)?;
        let after = front.rss_kib();
        let idle: Vec<_> =
            (0..IDLE).map(|number| self.idle_connection(number)).collect::<Result<_, _>>()?;
        Ok(Memory {
            front_kib: after,
            host_kib: front.grandchildren("host").iter().map(Process::rss_kib).sum(),
            idle_connections: idle.len(),
            front_with_idle_kib: front.rss_kib(),
            requests,
            growth_kib: after as i64 - before as i64,
        })
    }
}

impl Agent {
    /// A connection that has asked for the status once.
    fn idle_connection(&self, number: usize) -> anyhow::Result<UnixStream> {
        let mut stream = UnixStream::connect(idle_socket(&self.directory, number % IDLE_SOCKETS))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(&frame(27, &[&string(b"status@countersign"), &string(br#"{"v":1}"#)]))?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut answer)?;
        ensure!(
            String::from_utf8_lossy(&answer).contains("\"started_ms\":"),
            "no status for an idle connection"
        );
        Ok(stream)
    }
}

/// Number of idle connections, and of the sockets that share them. The agent keeps its last places
/// for peers with at most 16 connections to a socket.
const IDLE: usize = 1_000;
const IDLE_SOCKETS: usize = 64;

fn idle_socket(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("idle-{number}.sock"))
}

/// The socket of a client that has no limits on orders. Coinbase's token does not cover the
/// parameters of an order, so a client with limits would be refused.
fn coinbase_socket(directory: &Path) -> PathBuf {
    directory.join("coinbase.sock")
}

impl Drop for Agent {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32);
        // It may have ended already.
        let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
        let _ = self.child.wait();
    }
}

fn new_key(name: &str, exchange: &str, algorithm: Option<Algorithm>) -> NewKey {
    let scopes = [Scope::Read, Scope::Trade].into_iter().collect();
    NewKey { algorithm, ..NewKey::plain(name, exchange, "hsm", scopes) }
}

/// The agent's configuration. Symbols, quantity and notional are all judged, and no limit is
/// reached.
fn configuration(directory: &Path, token: &SoftHsm) -> String {
    let uid = rustix::process::getuid().as_raw();
    let idle = |number| {
        let socket = idle_socket(directory, number);
        format!(
            "[client.idle-{number}]\nuser = {uid}\nsocket = \"{}\"\nkeys = [\"hmac\"]\nscopes = \
             [\"read\"]\n",
            socket.display()
        )
    };
    let idle: String = (0..IDLE_SOCKETS).map(idle).collect();
    format!(
        "[agent]\nstate_dir = \"{directory}/state\"\nsocket = \"{directory}/agent.sock\"\n\
         admin_socket = \"{directory}/admin.sock\"\nallow_software_tokens = true\nallow_same_user \
         = true\n\n\
         [token.hsm]\nprofile = \"softhsm\"\nlabel = \"{}\"\npin = {{ file = \"{}\" }}\n\
         environment = {{ SOFTHSM2_CONF = \"{}\" }}\n\n\
         [client.bot]\nuser = {uid}\nkeys = [\"hmac\", \"ed25519\"]\nscopes = [\"read\", \
         \"trade\"]\n\
         symbols = [\"BTCUSDT\", \"ETHUSDT\"]\nmax_quantity = {{ BTCUSDT = \"0.5\" }}\n\
         limit.USDT = {{ per_request = \"5000\", per_day = \"1000000000000000\" }}\n\n\
         [client.coinbase]\nuser = {uid}\nsocket = \"{}\"\nkeys = [\"p256\"]\nscopes = [\"read\", \
         \"trade\"]\n{idle}",
        token.label,
        token.pin_file.display(),
        token.configuration.display(),
        coinbase_socket(directory).display(),
        directory = directory.display(),
    )
}
