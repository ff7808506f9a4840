//! The peers, which also sign for a client: p11-kit's server, OpenSSH's agent, and ccxt in the
//! bot's own process.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use data_encoding::BASE64;

use crate::load::{Load, frame, string};
use crate::process::Process;
use crate::softhsm::SoftHsm;
use crate::worker::{TokenKey, TokenWorker, Worker};

/// A server that ends with this program.
#[derive(Debug)]
pub(crate) struct Server(Child);

impl Server {
    pub(crate) fn start(command: &mut Command, socket: &Path) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let server = Self(child.with_context(|| format!("{:?}", command.get_program()))?);
        let start = Instant::now();
        while UnixStream::connect(socket).is_err() {
            ensure!(
                start.elapsed() < Duration::from_secs(10),
                "{:?} does not listen",
                command.get_program()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    pub(crate) fn process(&self, role: &'static str) -> Process {
        Process { role, pid: self.0.id() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// This program with a key on a token: as a worker, or as a signing host.
fn with_key(role: &str, key: &TokenWorker, environment: (&str, &str)) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(role).arg("--module").arg(&key.module).arg("--label").arg(&key.label);
    command.arg("--pin-file").arg(&key.pin_file);
    command.args(["--key", key.key.name()]).env_clear().env(environment.0, environment.1);
    Ok(command)
}

/// The same on a SoftHSM token of its own.
pub(crate) fn with_own_token(
    role: &str,
    program: &Path,
    directory: &Path,
    (label, key): (&str, TokenKey),
) -> anyhow::Result<Command> {
    let token = SoftHsm::new(program, directory, label)?;
    let configuration = token.environment();
    let SoftHsm { module, label, pin_file, .. } = token;
    let key = TokenWorker { module, label, pin_file, key };
    with_key(role, &key, ("SOFTHSM2_CONF", &configuration))
}

/// A worker on a SoftHSM token of its own.
pub(crate) fn raw_token(
    name: &str,
    program: &Path,
    directory: &Path,
    token: (&str, TokenKey),
) -> anyhow::Result<Worker> {
    Worker::start(name, with_own_token("worker", program, directory, token)?, None)
}

/// p11-kit's module that talks to its server. It is in a folder of `/usr/lib` for one architecture,
/// as on Debian, or right in `/usr/lib` or `/usr/lib64`.
pub(crate) fn p11_kit_client() -> Option<PathBuf> {
    let libraries = Path::new("/usr/lib");
    let architectures = fs::read_dir(libraries).ok()?.flatten().map(|entry| entry.path());
    let directories = architectures.chain([libraries.to_owned(), "/usr/lib64".into()]);
    directories
        .map(|directory| directory.join("pkcs11/p11-kit-client.so"))
        .find(|module| module.exists())
}

/// Starts p11-kit's server, and a worker that verifies a MAC of 200 bytes with a token object, in
/// two calls through the server's socket.
pub(crate) fn p11_kit(program: &Path, directory: &Path) -> anyhow::Result<(Server, Worker)> {
    let token = SoftHsm::new(program, directory, "p11kit")?;
    let configuration = token.environment();
    let socket = directory.join("p11-kit.sock");
    let mut command = Command::new("p11-kit");
    command.args(["server", "--foreground", "--provider"]).arg(&token.module);
    command.arg("--name").arg(&socket).arg("pkcs11:").env("SOFTHSM2_CONF", &configuration);
    let server = Server::start(&mut command, &socket)?;
    let SoftHsm { label, pin_file, .. } = token;
    let worker = TokenWorker {
        module: p11_kit_client().context("p11-kit has no client module")?,
        label,
        pin_file,
        key: TokenKey::Verified,
    };
    let address = format!("unix:path={}", socket.display());
    let command = with_key("worker", &worker, ("P11_KIT_SERVER_ADDRESS", &address))?;
    let worker = Worker::start("p11-kit server, HMAC", command, Some(server.process("server")))?;
    Ok((server, worker))
}

/// Starts OpenSSH's agent with keys from files and from a token.
pub(crate) fn ssh_agent(program: &Path, directory: &Path) -> anyhow::Result<(Server, Vec<Load>)> {
    let socket = directory.join("ssh-agent.sock");
    let token = SoftHsm::new(program, directory, "ssh")?;
    let mut command = Command::new("ssh-agent");
    command
        .arg("-D")
        .arg("-a")
        .arg(&socket)
        .env("SOFTHSM2_CONF", token.environment())
        .stderr(Stdio::null());
    let server = Server::start(&mut command, &socket)?;
    let mut keys = vec![
        ("ssh-agent, Ed25519", add_file(directory, &socket, "ed25519")?),
        ("ssh-agent, P-256", add_file(directory, &socket, "ecdsa")?),
    ];
    keys.push(("ssh-agent with PKCS#11 helper, P-256", add_token(directory, &socket, &token)?));
    let load = |(name, key): (&str, Vec<u8>)| {
        let request = frame(13, &[&string(&key), &string(&[7; 200]), &[0; 4]]);
        let agent = server.process("ssh-agent");
        let processes = move || {
            let mut processes = agent.children("helper");
            processes.push(agent.clone());
            processes
        };
        Load::new(name, &socket, (1, 1), request, processes, |answer| answer.first() == Some(&14))
    };
    let loads = keys.into_iter().map(load).collect::<Result<_, _>>()?;
    Ok((server, loads))
}

fn add_file(directory: &Path, socket: &Path, kind: &str) -> anyhow::Result<Vec<u8>> {
    let file = directory.join(kind);
    run(Command::new("ssh-keygen").args(["-q", "-N", "", "-t", kind, "-f"]).arg(&file))?;
    run(Command::new("ssh-add").arg("-q").arg(&file).env("SSH_AUTH_SOCK", socket))?;
    public_key(&fs::read_to_string(file.with_extension("pub"))?)
}

fn add_token(directory: &Path, socket: &Path, token: &SoftHsm) -> anyhow::Result<Vec<u8>> {
    let pin = fs::read_to_string(&token.pin_file)?;
    let mut tool = Command::new("pkcs11-tool");
    tool.arg("--module").arg(&token.module).args([
        "--token-label",
        &token.label,
        "--login",
        "--pin",
        "env:TOKEN_PIN",
    ]);
    tool.args(["--keypairgen", "--key-type", "EC:prime256v1", "--id", "01", "--label", "p256"]);
    run(tool
        .env("TOKEN_PIN", &pin)
        .env("SOFTHSM2_CONF", token.environment())
        .stdout(Stdio::null()))?;
    let ask = directory.join("askpass");
    fs::write(&ask, format!("#!/bin/sh\ncat '{}'\n", token.pin_file.display()))?;
    fs::set_permissions(&ask, fs::Permissions::from_mode(0o700))?;
    let mut add = Command::new("ssh-add");
    add.arg("-q").arg("-s").arg(token.module.canonicalize()?).env("SSH_AUTH_SOCK", socket);
    run(add.env("SSH_ASKPASS", ask).env("SSH_ASKPASS_REQUIRE", "force"))?;
    let listed = Command::new("ssh-add").arg("-L").env("SSH_AUTH_SOCK", socket).output()?;
    let listed = String::from_utf8(listed.stdout)?;
    public_key(listed.lines().last().context("no key from the token")?)
}

fn public_key(line: &str) -> anyhow::Result<Vec<u8>> {
    Ok(BASE64.decode(line.split(' ').nth(1).context("no public key")?.as_bytes())?)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("{:?}", command.get_program()))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// ccxt's own `sign()` of the same order, in Python, with the secret in the bot's memory.
pub(crate) fn ccxt(python: &Path, directory: &Path) -> anyhow::Result<Worker> {
    let script: PathBuf = directory.join("ccxt_sign.py");
    fs::File::create(&script)?.write_all(include_bytes!("ccxt_sign.py"))?;
    let mut command = Command::new(python);
    command.arg(script);
    Worker::start("ccxt sign() in Python", command, None)
}
