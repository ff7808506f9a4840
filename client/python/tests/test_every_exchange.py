"""attach at every exchange, request by request: what leaves is what ccxt would have sent with the secret in its own hands.

The recipes stand in for the agent (the `recipe` example of the core), with the keys and the clock of the vectors; the
requests are those of `make conformance`.
"""

import asyncio
import copy
import json
import os
import random
import subprocess
import sys
import unittest
from pathlib import Path

import ccxt
import ccxt.pro

from countersign import Refused, attach
from countersign._attach import LOGIN_FRAMES, STAND_IN

ROOT = Path(__file__).resolve().parents[3]
RECIPE = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug" / "examples" / "recipe"
sys.path.insert(0, str(ROOT / "tests"))

from conformance import comparison, explained, signed_by_ccxt  # noqa: E402
from conformance.subject import subjects  # noqa: E402

HTX = "wss://api.huobi.pro/ws/v2"
REQUESTS = 15
TRIES = 60
# What no exchange writes in two ways: where ccxt signs another spelling than it sends, the agent signs what is sent.
PLAIN = ("1", "0.01", "BTCUSDT")


class Recipes:
    """Answers as an agent with one key would, without its policy."""

    def __init__(self, subject):
        self._subject = subject

    def sign(self, _key, method, path, params, params_in, host):
        text = params if isinstance(params, str) else json.dumps(params if params is not None else {})
        request = {"method": method, "host": host, "path": path}
        if params_in:
            request["params_in"] = params_in
        case = json.dumps({"id": "", "exchange": self._subject.name, "auth": self._subject.auth, "request": request})
        answer = self._answer(f'{case[:-2]},"params":{text}}}}}\n')
        return {"method": method, **{name: answer[name] for name in ("url", "headers", "body")}}

    def session(self, _key, purpose="ws"):
        case = {"id": "", "exchange": self._subject.name, "auth": self._subject.auth, "purpose": purpose}
        return {"frame": json.dumps(self._answer(json.dumps(case) + "\n")["frame"])}

    def _answer(self, line):
        ended = subprocess.run([RECIPE], input=line.encode(), stdout=subprocess.PIPE, check=True)
        answer = json.loads(ended.stdout)
        if "error" in answer:
            raise Refused(answer["error"]["code"], answer["error"]["message"])
        return answer


class EveryExchange(unittest.TestCase):
    def test_what_leaves_is_what_ccxt_would_have_signed(self):
        for subject in subjects():
            if subject.known_to_ccxt():
                with self.subTest(subject.name):
                    self.compare(subject)

    def compare(self, subject):
        chance = random.Random(subject.name)
        plain = signed_by_ccxt.exchange(subject.class_name, subject.auth)
        other, sent = signed_by_ccxt.exchange(subject.class_name, subject.auth), []
        other.fetch = lambda url, method="GET", headers=None, body=None: sent.append((method, url, headers, body))
        attach(other, "k", Recipes(subject))
        endpoints, alike, tried = list(signed_by_ccxt.endpoints(plain)), 0, 0
        for _ in range(REQUESTS * TRIES):
            if tried == REQUESTS:
                break
            endpoint = chance.choice(endpoints)
            names = [name for name in subject.names if name not in plain.extract_params(endpoint.path)]
            params = {name: chance.choice(PLAIN) for name in chance.sample(names, min(2, len(names)))} if names else {}
            built = signed_by_ccxt.build(plain, endpoint, params)
            if built is None or not built.messages:
                continue
            more = explained.given(subject.name, built.url.partition("?")[0], built, subject.auth["random16_hex"])
            params = {**params, **more}
            built = signed_by_ccxt.build(plain, endpoint, params)
            del sent[:]
            try:
                self.send(other, endpoint, params)
            except (Refused, ccxt.NotSupported) as error:
                unknown = getattr(error, "code", "") == "request.unknown_endpoint"
                tried += not unknown
                continue
            tried += 1
            case = comparison.case(subject.name, subject.auth, built, params, json.dumps(params))
            if explained.difference(case, built):
                continue
            expected = (built.method, built.url, built.headers, built.body)
            self.assertEqual(comparable(subject, *sent[0]), comparable(subject, *expected))
            self.assertNotIn(STAND_IN, str(sent))
            alike += 1
        self.assertGreaterEqual(alike * 2, REQUESTS, "too few were signed")

    def send(self, other, endpoint, params):
        whole = {**{name: signed_by_ccxt.SEGMENT for name in other.extract_params(endpoint.path)}, **copy.deepcopy(params)}
        other.options["lastNonce"] = 0
        built = other.sign(endpoint.path, endpoint.api, endpoint.method, whole)
        other.fetch(built["url"], built["method"], built["headers"], built["body"])


class EveryLoginFrame(unittest.TestCase):
    def test_what_is_sent_is_what_ccxt_would_have_signed(self):
        found = {subject.name: subject for subject in subjects()}
        for name in sorted(LOGIN_FRAMES):
            with self.subTest(name):
                own = asyncio.run(self.login(found[name]))
                self.assertNotIn(STAND_IN, json.dumps(own))
                self.assertEqual(asyncio.run(self.login(found[name], Recipes(found[name]))), own)

    def test_a_refusal_ends_the_wait(self):
        class Refusing:
            def session(self, *_):
                raise Refused("policy.scope", "no sessions")

        (okx,) = (subject for subject in subjects() if subject.name == "okx")
        with self.assertRaises(ccxt.PermissionDenied):
            asyncio.run(self.login(okx, Refusing()))

    async def login(self, subject, agent=None):
        """The first message on a private socket."""
        sent, made = [], signed_by_ccxt.exchange(subject.class_name, subject.auth, ccxt.pro)

        def watch(_url, _hash, message=None, *_):
            sent.append(message)
            return asyncio.get_running_loop().create_future()

        made.watch, made.uid = watch, "1"
        if agent:
            attach(made, "k", agent)
        arguments = {
            "bybit": ("wss://stream.bybit.com/v5/private",),
            "htx": ({"type": "spot", "url": HTX, "hostname": "api.huobi.pro"},),
        }
        logged_in = asyncio.ensure_future(made.authenticate(*arguments.get(subject.name, ())))
        try:
            await asyncio.wait([logged_in], timeout=0.5)
            if logged_in.done():
                await logged_in
            return texts(sent[0])
        finally:
            logged_in.cancel()
            await made.close()


def texts(value):
    """Numbers as texts: which of the two an exchange's page has, ccxt does not always follow."""
    if isinstance(value, dict):
        return {name: texts(member) for name, member in value.items()}
    return [texts(item) for item in value] if isinstance(value, list) else str(value)


def comparable(subject, method, url, headers, body):
    """A request without the headers that are no part of the exchange's API."""
    pairs = ((name.lower(), str(value)) for name, value in (headers or {}).items())
    return method, url, {name: value for name, value in pairs if name not in subject.cosmetic}, body or None


if __name__ == "__main__":
    unittest.main()
