//! An agent with a vault on a real SoftHSM, sealed to two virtual YubiKeys.

use std::fs;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use countersign::{AgentClient, Error};
use countersign_base::messages::yubikey::Slot;
use countersign_core::scope::Scope;
use countersign_core::wire::SignReply;
use countersign_core::wire::admin::{DoneReply, Register};
use countersign_token::vault::sealed::Sealed;
use virtual_yubikey::{Card, Firmware};

use super::agent::{API_KEY, Agent, Launch, SECRET, call};
use super::person::Person;
use super::shim::Shim;
use super::softhsm::{AGENT, SoftHsm};
use super::yubikey_desk::{Desk, PIN, SERIAL};

pub(crate) const SPARE: u32 = 87_654_321;
pub(crate) const ADDRESS: &str = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq";

const BOT: &str = "keys = [\"binance-wd\", \"okx-wd\", \"kraken-wd\"]\nscopes = [\"read\", \
                   \"transfer\", \"withdraw\"]\n";

/// Dropped in this order: the agent ends before its readers.
pub(crate) struct VaultAgent {
    pub(crate) agent: Agent,
    pub(crate) vault: SoftHsm,
    pub(crate) shim: Shim,
    pub(crate) alice: Person,
    pub(crate) spare: Card,
    pub(crate) desk: Desk,
}

/// The options of a vault and its agent.
pub(crate) struct Making<'a> {
    pub(crate) profile: &'a str,
    /// The directory of the YubiKeys' PINs; `None` if they come from a file.
    pub(crate) credentials: Option<&'a Path>,
    /// Variables in the agent's environment.
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) vault: SoftHsm,
}

impl Default for Making<'_> {
    fn default() -> Self {
        Self {
            profile: "softhsm",
            credentials: None,
            environment: Vec::new(),
            vault: SoftHsm::new(),
        }
    }
}

impl VaultAgent {
    /// A vault that is made and empty, and an agent that runs.
    pub(crate) fn start() -> Self {
        Self::of_profile("softhsm")
    }

    pub(crate) fn of_profile(profile: &str) -> Self {
        Self::made(Making { profile, ..Making::default() })
    }

    pub(crate) fn made(making: Making<'_>) -> Self {
        let profile = making.profile;
        let this = Self::unmade(making);
        let pin_file = this.vault.pin_file().to_owned();
        let made =
            this.command(&["init", "vault", "--pin-file", pin_file.to_str().expect("UTF-8")]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let rotates = profile == "softhsm";
        assert_eq!(
            pin_file.exists(),
            !rotates,
            "the first PIN is of no use any more where there is another"
        );
        this
    }

    /// An agent that runs, and a vault that is not made yet.
    pub(crate) fn unmade(making: Making<'_>) -> Self {
        let Making { profile, credentials, environment, vault } = making;
        let desk = Desk::new(Firmware::V5_4_3);
        let spare = desk
            .rig
            .insert_at(1, Firmware::V5_7_1, SPARE)
            .unwrap_or_else(|error| panic!("{error}"));
        let alice = Person::new("alice", 1);
        let shim = Shim::of(vault.module());
        let wrapper = ["nsenter", "--mount", "--net", "--wd=."].map(str::to_owned).to_vec();
        let wrapper =
            [wrapper, vec![format!("--target={}", desk.rig.pid()), "--".to_owned()]].concat();
        let pin_file = credentials.unwrap_or(desk.directory.path()).join("yk.pin");
        write_pin(&pin_file);
        let pin = match credentials {
            Some(_) => "{ credential = \"yk.pin\" }".to_owned(),
            None => format!("{{ file = \"{}\" }}", pin_file.display()),
        };
        let credentials = credentials
            .iter()
            .map(|path| ("CREDENTIALS_DIRECTORY".to_owned(), path.display().to_string()));
        let environment = environment.into_iter().chain(credentials).collect();
        let launch = Launch { wrapper, environment, ..Launch::default() };
        let rest = rest(&desk, &spare, &vault, &shim, &alice).replace("YUBIKEY_PIN", &pin);
        let rest = rest.replace("profile = \"softhsm\"", &format!("profile = \"{profile}\""));
        let agent = Agent::start_with(SoftHsm::new(), launch, BOT, &rest);
        Self { agent, vault, shim, alice, spare, desk }
    }

    /// A vault with keys of three exchanges. Both cards are touched as soon as they blink.
    pub(crate) fn with_keys() -> Self {
        Self::start().with_keys_added()
    }

    pub(crate) fn with_keys_added(self) -> Self {
        let this = self;
        this.fingers(true);
        this.add("binance-wd", "binance", SECRET, None).expect("enrolled");
        this.add("okx-wd", "okx", OKX_SECRET, Some("p4ss!w0rd")).expect("enrolled");
        this.add("kraken-wd", "kraken", KRAKEN_SECRET, None).expect("enrolled");
        this
    }

    /// Lays fingers on both cards, or takes them away.
    pub(crate) fn fingers(&self, on: bool) {
        self.desk.card.set_auto(on);
        self.spare.set_auto(on);
    }

    /// `countersign-agent vault …`, as an operator runs it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        self.vault_command(arguments).stdin(Stdio::null()).output().expect("it runs")
    }

    pub(crate) fn vault_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.desk.rig.command(AGENT);
        command.arg("vault").args(arguments).arg("--config").arg(self.agent.config_file());
        command
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.agent.state_dir().join("vault/vault")
    }

    pub(crate) fn register(&self, name: &str, exchange: &str, scopes: &[Scope]) -> Register {
        let Register::Add(mut key) = self.agent.register(name, exchange, None) else {
            panic!("no new key")
        };
        key.token = "vault".to_owned();
        key.scopes = scopes.iter().copied().collect();
        Register::Add(key)
    }

    pub(crate) fn add(
        &self,
        name: &str,
        exchange: &str,
        secret: &str,
        passphrase: Option<&str>,
    ) -> Result<DoneReply, Error> {
        let mut entered = serde_json::json!({"api_key": API_KEY, "secret": secret});
        if let Some(passphrase) = passphrase {
            entered["passphrase"] = passphrase.into();
        }
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        writer.write_all(entered.to_string().as_bytes()).expect("a small text");
        drop(writer);
        self.agent.admin().add(
            &self.register(name, exchange, &[Scope::Withdraw, Scope::Transfer]),
            reader.as_fd(),
        )
    }

    /// Asks, has alice approve, and waits for the end.
    pub(crate) fn withdraw(&self, key: &str, path: &str, params: &str) -> Result<SignReply, Error> {
        let mut client = self.agent.client();
        let id = self.ask(&mut client, key, path, params)?;
        self.approve(&id).expect("approved");
        Self::outcome(&mut client, &id)
    }

    /// The outcome of a request, after its announcements.
    pub(crate) fn outcome(client: &mut AgentClient, id: &str) -> Result<SignReply, Error> {
        let begun = std::time::Instant::now();
        loop {
            match client.result(id, Duration::from_secs(5)) {
                Err(Error::Waits(_)) if begun.elapsed() < Duration::from_secs(40) => {}
                outcome => return outcome,
            }
        }
    }

    /// The vault hosts that use this agent's configuration. Any process may have started them.
    pub(crate) fn vault_hosts(&self) -> Vec<i32> {
        let file = self.agent.config_file().display().to_string();
        let pids = fs::read_dir("/proc").expect("readable");
        let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let ours = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.contains(&file))
        };
        pids.filter(|pid| is_vault_host(*pid) && ours(pid)).collect()
    }

    pub(crate) fn ask(
        &self,
        client: &mut AgentClient,
        key: &str,
        path: &str,
        params: &str,
    ) -> Result<String, Error> {
        match client.sign(&call(key, "POST", path, params)) {
            Err(Error::Waits(waits)) => Ok(waits.pending.id),
            Err(error) => Err(error),
            Ok(_) => panic!("nothing is signed without an approval"),
        }
    }

    pub(crate) fn approve(&self, id: &str) -> Result<DoneReply, Error> {
        let mut admin = self.agent.admin();
        let pending = admin.pending().expect("answered").pending;
        let entry = pending.iter().find(|entry| entry.id == id).expect("it waits");
        admin.approve(id, &self.alice.approve(&entry.statement, 1))
    }

    /// The PIN that a thief gets with one touch. A thief with the agent's uid, the PIV PIN and
    /// PC/SC can make an agreement of their own.
    pub(crate) fn stolen_pin(&self, token: &str) -> String {
        let file = self.agent.state_dir().join("vault").join(token).join("sealed");
        let sealed = Sealed::parse(&fs::read(file).expect("readable")).expect("whole");
        let point = sealed.point_for(SERIAL).expect("a recipient");
        let pin = self.desk.pin(PIN, 7);
        let agreed = self.desk.inside(|| {
            self.desk.yubikey().agree(Slot::KEY_MANAGEMENT, point, &pin, Box::new(|| ()))
        });
        let contents = sealed.open(SERIAL, &agreed.expect("touched")).expect("opens");
        String::from_utf8(contents.pin.as_bytes().to_vec()).expect("hex")
    }

    /// The number of touches of both cards for an agreement.
    pub(crate) fn agreements(&self) -> u32 {
        [&self.desk.card, &self.spare]
            .map(|card| card.status().counts.agreements as u32)
            .into_iter()
            .sum()
    }

    /// Waits until nothing of a vault host is left.
    pub(crate) fn wait_until_closed(&self) {
        self.agent.wait_until("no process is left", |agent| {
            agent.children().iter().all(|pid| !is_vault_host(*pid))
        });
    }
}

pub(crate) const OKX_SECRET: &str = "22582BD0CFF14C41EDBF1AB98506286D";

/// 64 bytes in base64, as Kraken gives them.
pub(crate) const KRAKEN_SECRET: &str =
    "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg==";

pub(crate) fn is_vault_host(pid: i32) -> bool {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split('\0').any(|word| word == "vault-host")
}

fn write_pin(path: &Path) {
    let file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.expect("made").write_all(PIN.as_bytes()).expect("written");
}

fn rest(desk: &Desk, spare: &Card, vault: &SoftHsm, shim: &Shim, alice: &Person) -> String {
    let yubikey = |name: &str, serial: u32, card: &Card| {
        format!(
            "[token.{name}]\nprofile = \"yubikey-piv\"\nserial = {serial}\npin = YUBIKEY_PIN\n\
             attestation_root = \"{}\"\n\n",
            card.authority().display()
        )
    };
    let place = |label: &str, asset: &str, network: &str, address: &str| {
        format!(
            "[[destination]]\nlabel = \"{label}\"\nasset = \"{asset}\"\nnetwork = \
             \"{network}\"\naddress = \"{address}\"\n\n"
        )
    };
    [
        yubikey("yk", SERIAL, &desk.card),
        yubikey("yk-spare", SPARE, spare),
        format!(
            "[token.vault]\nprofile = \"softhsm\"\nlabel = \"{}\"\nmodule = \"{}\"\n\
             environment = {{ SOFTHSM2_CONF = \"{}\" }}\n\
             pin = {{ sealed_by = [\"yk\", \"yk-spare\"], slot = \"9d\" }}\n\n",
            vault.label(),
            shim.module().display(),
            vault.configuration().display()
        ),
        place("cold", "BTC", "BTC", ADDRESS),
        place("cold-okx", "BTC", "BTC-Bitcoin", ADDRESS),
        place("cold-kraken", "XBT", "none", ADDRESS),
        "[transfer.BTC]\nper_day = \"2\"\napprovers = [{ above = \"0\", count = 1 \
         }]\n\n[transfer.XBT]\nper_day = \"2\"\n\n"
            .to_owned(),
        format!("[approver.alice]\nssh_key = \"{}\"\n", alice.public_key()),
    ]
    .concat()
}

/// A withdrawal at Binance: key, path, parameters.
pub(crate) fn binance(amount: &str) -> (&'static str, &'static str, String) {
    let params =
        format!(r#"{{"coin":"BTC","network":"BTC","address":"{ADDRESS}","amount":"{amount}"}}"#);
    ("binance-wd", "/sapi/v1/capital/withdraw/apply", params)
}
