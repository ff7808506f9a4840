"""A real agent for one test class: a throw-away SoftHSM token, its keys enrolled by the command line, all gone at the end."""

import getpass
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"

# The keys of the exchanges' own documentation, and one of nobody.
BINANCE_KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
BINANCE_SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
KRAKEN_SECRET = "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="


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
    "binance-ed25519": Key("binance", "ed25519", {"apiKey": "ed25519-test", "secret": private_key("ED25519")}),
    "binance-rsa": Key(
        "binance",
        "rsa-pkcs1v15-sha256",
        {"apiKey": "rsa-test", "secret": private_key("RSA", "-pkeyopt", "rsa_keygen_bits:2048")},
    ),
    "kraken": Key("kraken", "hmac-sha512", {"apiKey": "kraken-test", "secret": KRAKEN_SECRET}),
    "okx": Key("okx", "hmac-sha256", {"apiKey": "okx-test", "secret": "9F3C0E5A7B1D", "password": "pass phrase"}),
}
