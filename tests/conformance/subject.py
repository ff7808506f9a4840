"""The exchanges to compare: those that have vectors."""

import json
from pathlib import Path
from urllib.parse import urlsplit

import ccxt

from .explained import UNBOUND, family, given

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests" / "vectors"
TABLES = ROOT / "agent" / "core" / "src" / "exchange"
NOT_REQUESTS = ("attacks", "official", "ws")


def subjects():
    return [
        Subject(path) for path in sorted(VECTORS.glob("*.jsonl")) if path.stem not in NOT_REQUESTS
    ]


class Subject:
    """One exchange with one kind of key."""

    def __init__(self, path):
        cases = [json.loads(line) for line in path.read_text().splitlines()]
        self.name, self.auth = path.stem, cases[0]["auth"]
        self.class_name = self.name.split("_")[0]
        self.cosmetic = {
            name.lower() for case in cases for name in case["expect"].get("headers_not_signed", ())
        }
        self.table = self.name if (TABLES / f"{self.name}.params").exists() else family(self.name)
        self.rows = list(_rows((TABLES / f"{self.table}.params").read_text()))
        self.names = sorted({name for _, _, names in self.rows for name in names})
        self.exact = set(_endpoints((TABLES / f"{self.table}.scopes").read_text()))

    def known_to_ccxt(self):
        return self.class_name in ccxt.exchanges

    def binds(self, path):
        """True if a signature for this path covers path and method."""
        return not path.startswith(UNBOUND.get(self.table, "\n"))

    def given(self, built):
        """Parameters that ccxt would choose itself, as far as a request may carry them."""
        path = urlsplit(built.url).path
        more = given(self.name, path, built, self.auth["random16_hex"])
        own = self.names_for(built.method, path)
        return {name: value for name, value in more.items() if self.binds(path) or name in own}

    def names_for(self, method, path):
        """The names that a request may carry: only those of its own row if the signature leaves
        method or path open.
        """
        if self.binds(path):
            return self.names
        fitting = [
            (pattern, names)
            for row, pattern, names in self.rows
            if row in (method, ANY) and _fits(pattern, path)
        ]
        # An exact row wins over one with placeholders, even if it lists no name.
        if (method, path) in self.exact:
            fitting = [
                (pattern, names) for pattern, names in fitting if pattern in (None, path.split("/"))
            ]
        return sorted({name for _, names in fitting for name in names})


ANY = "harmless"


def _endpoints(table):
    """Method and path of each line of a `.scopes` file."""
    for line in table.splitlines():
        words = line.split("#")[0].removeprefix("!").split()
        if words:
            yield words[0], words[1]


def _rows(table):
    """Method, path and names of each line of a `.params` file."""
    for line in table.splitlines():
        words = line.split("#")[0].split()
        if words and words[0] in ("-", "~", "~-"):
            del words[0]
        if words[:1] == [ANY]:
            yield ANY, None, words[1:]
        elif words:
            names = (word.rpartition("=")[2].partition("?")[0] for word in words[2:])
            yield words[0], words[1].split("/"), [name for name in names if name.isidentifier()]


def _fits(pattern, path):
    """True if a path is one of a row's. A `harmless` line belongs to every row."""
    parts = path.split("/")
    return pattern is None or len(pattern) == len(parts) and all(
        ours == theirs or ours.startswith("{") for ours, theirs in zip(pattern, parts, strict=True)
    )
