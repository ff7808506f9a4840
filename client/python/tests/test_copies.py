"""Tests copies of an attached exchange, including pickled ones. Each asks the agent, and sends with
its own session and settings.
"""

import asyncio
import copy
import json
import pickle
import unittest

import ccxt
import ccxt.async_support
import ccxt.pro

from countersign import Agent, Refused, attach
from countersign._attach import STAND_IN

from .fake_agent import FakeAgent, frame
from .transport import AsyncTransport, Transport

COPIES = {
    "pickle": lambda made: pickle.loads(pickle.dumps(made)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


def sign(connection, extension, payload):
    """Answers every question with the request, "signed"."""
    asked = json.loads(payload)
    url = f"https://{asked['host']}{asked['path']}?signature=real"
    reply = {
        "v": 1,
        "method": asked["method"],
        "url": url,
        "headers": [["X-MBX-APIKEY", "real"]],
        "body": None,
    }
    connection.sendall(frame(extension, json.dumps(reply).encode()))


class Copies(unittest.TestCase):
    def setUp(self):
        fake = FakeAgent(sign)
        self.addCleanup(fake.__exit__)
        self.agent = Agent(fake.path)
        self.addCleanup(self.agent.close)

    def test_a_copy_sends_by_its_own_session_with_its_own_settings(self):
        for name, copied in COPIES.items():
            with self.subTest(name):
                made = attach(
                    ccxt.binance({"enableRateLimit": False, "timeout": 1_000}), "k", self.agent
                )
                other = copied(made)
                self.assertIsInstance(other, ccxt.binance)
                if name == "copy":
                    other.session = other.session.__class__()  # ccxt's own copy shares it
                ours, theirs = Transport(), Transport()
                made.session.mount("https://", ours)
                other.session.mount("https://", theirs)
                other.timeout, other.headers = 2_000, {"Mine": "1"}
                other.proxies = {"https": "http://127.0.0.1:9"}
                other.private_get_account()
                self.assertEqual((len(ours.sent), len(theirs.sent)), (0, 1))
                method, url, headers, _ = theirs.sent[0]
                self.assertEqual(
                    (method, url), ("GET", "https://api.binance.com/api/v3/account?signature=real")
                )
                self.assertEqual((headers["X-MBX-APIKEY"], headers["Mine"]), ("real", "1"))
                made.private_get_account()
                self.assertEqual((len(ours.sent), len(theirs.sent)), (1, 1))
                self.assertEqual((made.timeout, other.timeout), (1_000, 2_000))
                with self.assertRaises(ValueError):
                    attach(other, "k", self.agent)
                for end in (made, other):
                    end.session.close()
                other.countersign.signer._agent.close()

    def test_async_and_pro_exchanges_copy_as_ccxts_do(self):
        for module in (ccxt.async_support, ccxt.pro):
            for name, copied in COPIES.items():
                with self.subTest(name, module=module.__name__):
                    asyncio.run(self.send_by_a_copy(module, copied))

    async def send_by_a_copy(self, module, copied):
        made = attach(module.binance({"enableRateLimit": False}), "k", self.agent)
        other = copied(made)
        ours, theirs = AsyncTransport(), AsyncTransport()
        for end, transport in ((made, ours), (other, theirs)):
            end.session, end.open = transport, lambda *_: None
        await other.private_get_account()
        self.assertEqual((len(ours.sent), len(theirs.sent)), (0, 1))
        self.assertTrue(theirs.sent[0][1].endswith("?signature=real"))
        for end in (made, other):
            await end.close()
        other.countersign.signer._agent.close()

    def test_a_copy_signs_nothing_itself(self):
        for name, copied in COPIES.items():
            with self.subTest(name):
                other = copied(attach(ccxt.okx(), "k", self.agent))
                self.assertEqual({other.apiKey, other.secret, other.password}, {STAND_IN})
                with self.assertRaises(ccxt.NotSupported):
                    other.hmac(b"x", b"y")

    def test_what_was_put_into_an_object_before_is_kept(self):
        made = ccxt.binance()
        made.fetch = print
        other = COPIES["pickle"](attach(made, "k", self.agent))
        self.assertIs(other.countersign.own["fetch"], print)

    def test_an_agent_and_a_refusal_pickle(self):
        agent = pickle.loads(pickle.dumps(Agent("/a.sock", timeout=3)))
        self.assertEqual((agent.path, agent.timeout), ("/a.sock", 3))
        error = pickle.loads(pickle.dumps(Refused("policy.scope", "no", "7")))
        self.assertEqual((error.code, error.message, error.request_id), ("policy.scope", "no", "7"))


if __name__ == "__main__":
    unittest.main()
