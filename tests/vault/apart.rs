//! A vault of a user of its own, as in the system install. A service manager starts its process for
//! each connection, not the agent.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::harness::agent::SECRET;
use crate::harness::log_sink::{Kind, Sink};
use crate::harness::softhsm::AGENT;
use crate::harness::vault_agent::{ADDRESS, Making, VaultAgent, binance, is_vault_host};

/// A uid that no user has on a system that gives uids out from below.
const UID: u32 = 64_321;

fn owned(path: &Path) {
    let owner = Command::new("chown").arg("-R").arg(format!("{UID}:{UID}")).arg(path).status();
    assert!(owner.expect("chown").success());
}

fn passable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("own directory");
}

/// Does the work of `countersign-vault.socket` and `countersign-vault@.service` in
/// packaging/systemd.
fn serve(this: &VaultAgent, socket: &Path, credentials: &Path) {
    let listener = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    );
    let listener = listener.expect("a socket");
    rustix::net::bind(&listener, &SocketAddrUnix::new(socket).expect("a path")).expect("bound");
    rustix::net::listen(&listener, 4).expect("listens");
    let (rig, config, state) =
        (this.desk.rig.pid(), this.agent.config_file(), this.agent.state_dir());
    let credentials = credentials.to_owned();
    // It serves even if nobody reads its log.
    let mut log = Sink::new(Kind::BlockedPipe);
    log.spoil();
    thread::spawn(move || {
        while let Ok(connection) = rustix::net::accept_with(&listener, SocketFlags::CLOEXEC) {
            let mut command = as_user(rig);
            command.args([AGENT, "spawner", "--only-vaults", "--config"]).arg(&config);
            command.arg("--credentials").arg(&credentials).arg("--front-writes").arg(&state);
            command
                .args(["--confinement", "required"])
                .env_clear()
                .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
            let deaf = log.agents.try_clone().expect("copied");
            let spawned = command.stdin(connection).stdout(Stdio::null()).stderr(deaf).spawn();
            let Ok(mut spawner) = spawned else { return };
            thread::spawn(move || spawner.wait());
        }
    });
}

/// A command of the vault's user that sees the rig's pcscd.
fn as_user(rig: u32) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--target={rig}")).args(["--mount", "--net", "--wd=.", "--", "setpriv"]);
    command.args([
        format!("--reuid={UID}"),
        format!("--regid={UID}"),
        "--clear-groups".to_owned(),
        "--".to_owned(),
    ]);
    command.process_group(0);
    command
}

#[test]
fn a_vault_of_a_user_of_its_own_opens_where_the_agent_cannot_write() {
    let place =
        tempfile::Builder::new().prefix("countersign-vault").tempdir().expect("a directory");
    let made = |name: &str| {
        let path = place.path().join(name);
        fs::create_dir(&path).expect("made");
        path
    };
    let (agents, vaults, directory) = (made("agents"), made("vaults"), made("state"));
    let mut this = VaultAgent::unmade(Making { credentials: Some(&agents), ..Making::default() });
    fs::copy(agents.join("yk.pin"), vaults.join("yk.pin")).expect("copied");
    let hsm = this.vault.configuration().parent().expect("a directory").to_owned();
    let shim = this.shim.module().parent().expect("a directory").to_owned();
    for path in [
        place.path(),
        this.agent.path(),
        this.desk.directory.path(),
        &shim,
        hsm.parent().expect("above"),
    ] {
        passable(path);
    }
    for path in [&vaults, &directory, &hsm, &shim] {
        owned(path);
    }
    let socket = place.path().join("vault.sock");
    let text = fs::read_to_string(this.agent.config_file()).expect("readable");
    let fields = format!(
        "[agent]\nvault_dir = \"{}\"\nvault_socket = \"{}\"\n",
        directory.display(),
        socket.display()
    );
    fs::write(this.agent.config_file(), text.replacen("[agent]\n", &fields, 1)).expect("written");
    // As if it had been so from the first start: otherwise this is a looser configuration.
    fs::remove_file(this.agent.state_dir().join("accepted.toml")).expect("it was accepted");
    // A module has to belong to root or to the user that loads it.
    serve(&this, &socket, &vaults);
    this.agent.restart();
    let agent_id = fs::read_to_string(this.agent.state_dir().join("agent-id")).expect("an id");
    let mut init = as_user(this.desk.rig.pid());
    init.args([AGENT, "vault", "init", "vault", "--agent-id", agent_id.trim(), "--pin-file"])
        .arg(this.vault.pin_file());
    init.env("CREDENTIALS_DIRECTORY", &vaults);
    let init = init.arg("--config").arg(this.agent.config_file()).output().expect("it runs");
    assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));

    this.fingers(true);
    this.add("binance-wd", "binance", SECRET, None).expect("enrolled");
    this.fingers(false);
    let mut client = this.agent.client();
    let (key, path, params) = binance("0.5");
    let id = this.ask(&mut client, key, path, &params).expect("asked");
    this.approve(&id).expect("approved");
    assert!(this.desk.card.wait_blink(Duration::from_secs(10)), "it blinks: {}", this.agent.log());
    assert!(
        this.agent.children().iter().all(|pid| !is_vault_host(*pid)),
        "the agent's spawner starts none"
    );
    let hosts = this.vault_hosts();
    assert!(!hosts.is_empty());
    for pid in hosts {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("readable");
        assert!(status.contains(&format!("Uid:\t{UID}\t{UID}")), "{status}");
    }
    assert!(this.desk.card.press());
    let reply = VaultAgent::outcome(&mut client, &id).expect("signed");
    assert!(reply.body.expect("a form").contains(ADDRESS));
    let kept = directory.join("vault/vault");
    assert_eq!(fs::metadata(kept.join("spent")).expect("a record").uid(), UID);
    assert!(!this.directory().exists(), "nothing of it is the agent's");
}
