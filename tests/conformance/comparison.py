"""Asks the recipes for the same requests, and says where they differ from what ccxt built."""

import json
import subprocess
from typing import NamedTuple
from urllib.parse import urlsplit


class Case(NamedTuple):
    """A request for the `recipe` example (exchange-sign-vector/1)."""

    exchange: str
    method: str
    host: str
    path: str
    params: dict
    params_text: str  # its numbers as ccxt writes them
    auth: dict

    def line(self):
        request = {"method": self.method, "host": self.host, "path": self.path}
        case = json.dumps(
            {"id": "", "exchange": self.exchange, "auth": self.auth, "request": request}
        )
        return f'{case[:-2]},"params":{self.params_text}}}}}\n'


def case(exchange, auth, built, params, params_text):
    url = urlsplit(built.url)
    return Case(exchange, built.method, url.netloc, url.path, params, params_text, auth)


def answers(recipe, cases):
    """The recipes' answers, in order."""
    lines = "".join(case.line() for case in cases)
    ended = subprocess.run([recipe], input=lines.encode(), stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in ended.stdout.decode().splitlines()]


def differences(built, answer, cosmetic):
    """The parts of a signed request that are not ccxt's, as pairs by the name of the part.
    `cosmetic` headers are no part of the API.
    """
    (message,) = [message for message in answer["messages"] if message["purpose"] == "request"]
    message = bytes.fromhex(message["message_hex"])
    parts = {
        "url": (built.url, answer["url"]),
        "body": (built.body or None, answer["body"] or None),
        "headers": (
            _headers(built.headers.items(), cosmetic, {"content-type"} if not built.body else ()),
            _headers(answer["headers"], cosmetic, {"content-type"} if not built.body else ()),
        ),
    }
    if message not in built.messages:
        parts["message"] = (built.messages, message)
    return {name: pair for name, pair in parts.items() if pair[0] != pair[1]}


def _headers(pairs, cosmetic, ignored):
    lower = ((name.lower(), value) for name, value in pairs)
    return sorted(
        (name, str(value)) for name, value in lower if name not in cosmetic and name not in ignored
    )
