"""Runs the recipes in place of an agent (the `recipe` example of the core), with the keys and the
clock of the vectors.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from countersign import Refused

ROOT = Path(__file__).resolve().parents[3]
RECIPE = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug" / "examples" / "recipe"
sys.path.insert(0, str(ROOT / "tests"))

from conformance import comparison, explained, signed_by_ccxt  # noqa: E402, F401
from conformance.subject import subjects  # noqa: E402, F401


class Recipes:
    """Answers as an agent with one key would, without its policy."""

    def __init__(self, subject):
        self._subject = subject

    def sign(self, _key, method, path, params, params_in, host):
        text = (
            params if isinstance(params, str) else json.dumps(params if params is not None else {})
        )
        request = {"method": method, "host": host, "path": path}
        if params_in:
            request["params_in"] = params_in
        case = json.dumps(
            {
                "id": "",
                "exchange": self._subject.name,
                "auth": self._subject.auth,
                "request": request,
            }
        )
        answer = self._answer(f'{case[:-2]},"params":{text}}}}}\n')
        return {"method": method, **{name: answer[name] for name in ("url", "headers", "body")}}

    def session(self, _key, purpose="ws", **arguments):
        case = {
            "id": "",
            "exchange": self._subject.name,
            "auth": self._subject.auth,
            "purpose": purpose,
            **arguments,
        }
        answer = self._answer(json.dumps(case) + "\n")
        frame = None if answer["headers"] else json.dumps(answer["frame"])
        return {"url": answer["url"], "headers": answer["headers"], "frame": frame}

    def keys(self):
        return [{"name": "k", "api_key": self._subject.auth["api_key"]}]

    def _answer(self, line):
        answer = json.loads(self._line(line))
        if "error" in answer:
            raise Refused(answer["error"]["code"], answer["error"]["message"])
        return answer

    def _line(self, line):
        return subprocess.run(
            [RECIPE], input=line.encode(), stdout=subprocess.PIPE, check=True
        ).stdout


# Values that no exchange writes in two ways. For others ccxt may sign one spelling and send
# another; the agent signs the one that is sent.
PLAIN = ("1", "0.01", "BTCUSDT")


def random_request(chance, subject, made, endpoints):
    """An endpoint and parameters that ccxt signs. None if it signs nothing for them."""
    endpoint = chance.choice(endpoints)
    plain, in_path = signed_by_ccxt.build(made, endpoint, {}), made.extract_params(endpoint.path)
    if plain is None:
        return None
    names = [
        name
        for name in subject.names_for(plain.method, urlsplit(plain.url).path)
        if name not in in_path
    ]
    params = (
        {name: chance.choice(PLAIN) for name in chance.sample(names, min(2, len(names)))}
        if names
        else {}
    )
    built = signed_by_ccxt.build(made, endpoint, params)
    if built is None or not built.messages:
        return None
    more = subject.given(built)
    return endpoint, {**params, **more}
