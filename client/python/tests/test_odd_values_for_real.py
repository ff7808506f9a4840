"""Tests cursors, names in any script, and values that need escapes, with a running agent and a
software token.
"""

import itertools
import json
import subprocess
import unittest
from unittest import mock

import ccxt

from countersign import Refused, attach

from .real_agent import PROGRAMS
from .recipes import signed_by_ccxt, subjects
from .test_every_exchange import comparable, send
from .test_every_exchange_for_real import as_the_agent, key
from .test_real_agent import Recording
from .waiting_agent import ADDRESS, WaitingAgent

EXCHANGES = ("binance", "bitget", "bybit", "gate", "kucoin")
SYMBOLS = ["BTCUSDT", "币安人生USDT", "龙虾USDT", "MØTHUSDT"]
CURSORS = [
    "1321052653536515584%3A1672217748287%2C1321052653536515584%3A1672217748287",
    "1321052653536515584%3A1672217748287%2Ca+b/c==",
    "page_token%3D39380%26", "eyJpZCI6MX0=", "YWJj+/8==", "1%2525", "a+b", "0",
]  # fmt: skip
LIMITS = (
    f"symbols = {json.dumps(SYMBOLS, ensure_ascii=False)}\n"
    'max_quantity = { "龙虾USDT" = "1" }\n'
)
DESTINATIONS = [
    ("BTC", "BTC", ADDRESS),
    ("币安人生", "BSC", "0x7f0000000000000000000000000000000000dEaD"),
]
# (exchange, ccxt's endpoint, parameters): each is sent as ccxt would have sent it.
PAGES = [
    ("bybit", (["private"], "GET", "v5/order/history"), {"category": "linear"}, "cursor"),
    ("bitget", (["private", "spot"], "GET", "v2/spot/trade/history-orders"), {}, "idLessThan"),
    (
        "bitget",
        (["private", "uta"], "GET", "v3/trade/history-orders"),
        {"category": "SPOT"},
        "cursor",
    ),
    ("kucoin", (["private"], "GET", "hf/fills"), {"symbol": "币安人生-USDT"}, "lastId"),
]
NAMED = [
    (
        "bybit",
        (["private"], "GET", "v5/order/realtime"),
        {"category": "linear", "symbol": "币安人生USDT"},
    ),
    (
        "bitget",
        (["private", "spot"], "GET", "v2/spot/trade/unfilled-orders"),
        {"symbol": "龙虾USDT"},
    ),
    ("kucoin", (["private"], "GET", "accounts"), {"currency": "MØTH"}),
    ("gate", (["private", "spot"], "GET", "open_orders"), {"currency_pair": "龙虾_USDT"}),
    ("gate", (["private", "spot"], "GET", "my_trades"), {"currency_pair": "币安人生_USDT"}),
]
SENT = NAMED + [
    (name, at, {**params, page: cursor}) for name, at, params, page in PAGES for cursor in CURSORS
]


class OddValuesForReal(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.subjects = {
            subject.name: subject for subject in subjects() if subject.name in EXCHANGES
        }
        cls.keys = {name: key(subject) for name, subject in cls.subjects.items()}
        scopes = ("read", "trade", "account", "transfer", "withdraw", "admin")
        cls.real = WaitingAgent(cls.keys, scopes, DESTINATIONS, LIMITS)
        cls.addClassCleanup(cls.real.close)
        cls.agent = Recording(cls.real.socket)
        cls.addClassCleanup(cls.agent.close)

    def test_what_leaves_is_what_ccxt_would_have_sent(self):
        for name, endpoint, params in SENT:
            with self.subTest(name, params=params):
                self.compare(
                    self.subjects[name], self.keys[name], signed_by_ccxt.Endpoint(*endpoint), params
                )

    def test_a_cursor_that_can_be_read_in_two_ways_is_refused_with_the_reason(self):
        unescaped = [case for case in PAGES if case[0] in ("bybit", "kucoin")]
        for (name, endpoint, params, page), cursor in itertools.product(
            unescaped, ("100%", "%zz", "%FF", "a#b", "a;b")
        ):
            subject, sent = self.subjects[name], []
            made = signed_by_ccxt.exchange(subject.class_name, subject.auth)
            made.fetch = lambda *request: sent.append(request)  # noqa: B023
            with (
                self.subTest(name, cursor=cursor),
                self.assertRaisesRegex((Refused, ccxt.NotSupported), page),
            ):
                send(
                    attach(made, name, self.agent),
                    signed_by_ccxt.Endpoint(*endpoint),
                    {**params, page: cursor},
                )
            self.assertEqual(sent, [])

    def compare(self, subject, key, endpoint, params):
        auth = {
            **subject.auth,
            "secret": key.credentials["secret"],
            "passphrase": key.credentials.get("password"),
        }
        made, sent = signed_by_ccxt.exchange(subject.class_name, auth), []
        made.fetch = lambda url, method="GET", headers=None, body=None: sent.append(
            (method, url, headers, body)
        )
        send(attach(made, subject.name, self.agent), endpoint, params)
        with mock.patch.object(subject, "auth", as_the_agent(auth, self.agent.answer)):
            reference = signed_by_ccxt.exchange(subject.class_name, subject.auth)
            built = signed_by_ccxt.build(reference, endpoint, params)
        theirs = comparable(subject, built.method, built.url, built.headers, built.body)
        self.assertEqual(comparable(subject, *sent[0]), theirs)

    def test_symbols_are_the_listed_ones_byte_for_byte(self):
        order = {
            "side": "BUY",
            "type": "LIMIT",
            "quantity": "1",
            "price": "1",
            "timeInForce": "GTC",
        }
        for symbol in SYMBOLS:
            self.agent.sign("binance", "POST", "/api/v3/order", {"symbol": symbol, **order})
        for symbol, quantity in [
            ("龙虾USDT", "1.1"), ("ＢＴＣＵＳＤＴ", "1"), ("ВТСUSDT", "1"), ("龍蝦USDT", "1"),
            ("MO\u0338THUSDT", "1"),
        ]:  # fmt: skip
            with self.subTest(symbol), self.assertRaises(Refused) as caught:
                self.agent.sign(
                    "binance",
                    "POST",
                    "/api/v3/order",
                    {"symbol": symbol, **order, "quantity": quantity},
                )
            self.assertEqual(caught.exception.code, "policy.limit")

    def test_values_that_want_escapes_are_escaped(self):
        cases = [
            (
                "GET",
                "/sapi/v1/simple-earn/flexible/list",
                {"asset": "a+b@x.com"},
                "url",
                "&asset=a%2Bb%40x.com&",
            ),
            (
                "GET",
                "/sapi/v1/simple-earn/locked/list",
                {"asset": "my wallet"},
                "url",
                "&asset=my%20wallet&",
            ),
        ]
        for method, path, params, part, written in cases:
            with self.subTest(path):
                self.assertIn(written, self.agent.sign("binance", method, path, params)[part])
                self.assertIn(written, self.signed_by_the_command(method, path, params)[part])
                made = attach(ccxt.binance(), "binance", self.agent)
                with self.assertRaisesRegex(ccxt.NotSupported, "unescaped"):
                    request = made.sign(
                        path.removeprefix("/sapi/v1/"), ["sapi"], method, dict(params)
                    )
                    made.fetch(request["url"], method, request["headers"], request["body"])

    def test_a_destinations_asset_may_be_named_in_any_script(self):
        asked = {
            "coin": "币安人生",
            "network": "BSC",
            "address": "0x7f0000000000000000000000000000000000dEaD",
            "amount": "1",
        }
        path = "/sapi/v1/capital/withdraw/apply"
        question = {"v": 1, "key": "binance", "method": "POST", "path": path, "params": asked}
        waits = self.agent._ask("sign@countersign", json.dumps(question))
        self.agent._ask("cancel@countersign", json.dumps({"v": 1, "id": waits["pending"]["id"]}))
        for asset in ("币安人牛", "BTC"):
            with self.subTest(asset), self.assertRaises(Refused) as caught:
                self.agent.sign("binance", "POST", path, {**asked, "coin": asset})
            self.assertEqual(caught.exception.code, "policy.destination")

    def signed_by_the_command(self, method, path, params):
        words = [word for name, value in params.items() for word in ("-p", f"{name}={value}")]
        ended = subprocess.run(
            [PROGRAMS / "countersign", "--json", "--socket", self.real.socket,
             "sign", "--key", "binance", method, path, *words],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return json.loads(ended.stdout)


if __name__ == "__main__":
    unittest.main()
