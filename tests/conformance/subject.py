"""The exchanges to compare: those that have vectors."""

import json
from pathlib import Path

import ccxt

from .explained import family

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests" / "vectors"
TABLES = ROOT / "agent" / "core" / "src" / "exchange"
NOT_REQUESTS = ("attacks", "official", "ws")


def subjects():
    return [Subject(path) for path in sorted(VECTORS.glob("*.jsonl")) if path.stem not in NOT_REQUESTS]


class Subject:
    """One exchange with one kind of key."""

    def __init__(self, path):
        cases = [json.loads(line) for line in path.read_text().splitlines()]
        self.name, self.auth = path.stem, cases[0]["auth"]
        self.class_name = self.name.split("_")[0]
        self.cosmetic = {name.lower() for case in cases for name in case["expect"].get("headers_not_signed", ())}
        self.table = self.name if (TABLES / f"{self.name}.params").exists() else family(self.name)
        self.names = sorted(set(_names((TABLES / f"{self.table}.params").read_text())))

    def known_to_ccxt(self):
        return self.class_name in ccxt.exchanges


def _names(table):
    """The parameter names of a `.params` file."""
    for line in table.splitlines():
        words = line.split("#")[0].split()
        for word in words[2:] if words and words[0] not in ("-", "~") else words[3:]:
            name = word.rpartition("=")[2].removesuffix("?")
            if name.isidentifier():
                yield name
