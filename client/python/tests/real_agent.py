"""A real agent for one test class. The command line enrols its keys on a SoftHSM token of its own.
Everything is removed at the end.
"""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from countersign import Agent, Unavailable

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug"

# The exchanges published these keys as examples, or they belong to nobody.
BINANCE_KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
BINANCE_SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
KRAKEN_SECRET = (
    "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
)


class Key(NamedTuple):
    exchange: str
    algorithm: str
    credentials: dict  # as ccxt names them


def private_key(*algorithm):
    return subprocess.run(
        ["openssl", "genpkey", "-algorithm", *algorithm], check=True, capture_output=True, text=True
    ).stdout


KEYS = {
    "binance": Key("binance", "hmac-sha256", {"apiKey": BINANCE_KEY, "secret": BINANCE_SECRET}),
    "binance-ed25519": Key(
        "binance", "ed25519", {"apiKey": "ed25519-test", "secret": private_key("ED25519")}
    ),
    "binance-rsa": Key(
        "binance",
        "rsa-pkcs1v15-sha256",
        {"apiKey": "rsa-test", "secret": private_key("RSA", "-pkeyopt", "rsa_keygen_bits:2048")},
    ),
    "kraken": Key("kraken", "hmac-sha512", {"apiKey": "kraken-test", "secret": KRAKEN_SECRET}),
    "okx": Key(
        "okx",
        "hmac-sha256",
        {"apiKey": "okx-test", "secret": "9F3C0E5A7B1D", "password": "pass phrase"},
    ),
}


def replaced(text, old, new):
    """The text with `old` replaced, which has to be in it exactly once."""
    assert text.count(old) == 1, f"{old!r} is in it {text.count(old)} times"
    return text.replace(old, new)


class RealAgent:
    """A running agent whose only client is this user. It listens at `socket`."""

    def __init__(self, keys=KEYS, scopes=("read", "trade")):
        self._keys, self._scopes = keys, scopes
        self._directory = tempfile.TemporaryDirectory(prefix="countersign-test.", dir="/tmp")
        self._process = None
        self.directory = Path(self._directory.name)
        self.socket = str(self.directory / "run" / "agent.sock")
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise

    def close(self):
        self._stop()
        self._directory.cleanup()

    def restart(self):
        self._stop()
        self._start()

    def _set_up(self):
        names = [word for name in self._keys for word in ("--key", name)]
        self._command("init", "--dir", str(self.directory), "--yes", "--client", "bot", *names)
        self._grant()
        self._start()
        (token,) = json.loads(self._command("--json", "status"))["tokens"]
        for name, key in self._keys.items():
            self._enrol(name, key, token["name"])

    def _grant(self):
        """Gives the client the test's scopes in place of a first client's, and a rate that no test
        reaches.
        """
        configuration = self.directory / "agent.toml"
        text = configuration.read_text()
        for granted, wanted in (
            ('\nscopes = ["read", "trade"]\n', f"\nscopes = {json.dumps(self._scopes)}\n"),
            ('\nrate = "50/s"\n', '\nrate = "100000/s"\n'),
        ):
            text = replaced(text, granted, wanted)
        configuration.write_text(text)

    def _enrol(self, name, key, token):
        names = {"api_key": "apiKey", "secret": "secret", "passphrase": "password"}
        secret = {
            ours: key.credentials[ccxts]
            for ours, ccxts in names.items()
            if ccxts in key.credentials
        }
        place = ["--exchange", key.exchange, "--token", token, "--algorithm", key.algorithm]
        scopes = [word for scope in self._scopes for word in ("--scope", scope)]
        self._command("key", "add", name, *place, *scopes, "--stdin", stdin=json.dumps(secret))

    def _run(self, *arguments, stdin="", stderr=subprocess.PIPE):
        return subprocess.run(
            [PROGRAMS / "countersign", "--socket", self.socket, *arguments],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            timeout=60,
        )

    def _command(self, *arguments, stdin=""):
        ended = self._run(*arguments, stdin=stdin)
        if ended.returncode:
            raise AssertionError(
                f"countersign {' '.join(arguments)}: {ended.returncode}\n"
                f"{ended.stdout}{ended.stderr}"
            )
        return ended.stdout

    def _start(self):
        with open(self.directory / "agent.log", "ab") as log:
            self._process = subprocess.Popen(
                [PROGRAMS / "countersign-agent", "run", "--config", self.directory / "agent.toml"],
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        deadline = time.monotonic() + 20
        while not self._serves():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(
                    "the agent did not start:\n" + (self.directory / "agent.log").read_text()
                )
            time.sleep(0.05)

    def _serves(self):
        """True if the agent answers and its token is ready."""
        try:
            with Agent(self.socket, timeout=2) as agent:
                return all(token["state"] == "healthy" for token in agent.status()["tokens"])
        except Unavailable:
            return False

    def _stop(self):
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._process = None
