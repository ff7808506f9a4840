"""Tests ccxt at Bybit with a running agent. Its orders and balances begin with reads that sign an
empty text.

The same signature would also delete the key. A key without a right to the wallet cannot delete
itself, so the agent signs these reads for it. For a key that is enrolled with such a right the
agent does not.
"""

import json
import secrets
import subprocess
import unittest
from urllib.parse import urlsplit

import ccxt

from countersign import Agent, Refused, attach

from .real_agent import PROGRAMS, Key, RealAgent
from .transport import Transport

LINEAR = ("BTC/USDT:USDT", "limit", "buy", 0.01, 30000)
SPOT = ("BTC/USDT", "limit", "buy", 0.01, 30000)
# Members of a key's answer: is its account a unified one, and of which generation?
CLASSIC, UNIFIED = (0, 0, 1), (0, 1, 5)


def instrument(category, **more):
    filters = {
        "basePrecision": "0.000001",
        "minOrderQty": "0.001",
        "maxOrderQty": "100",
        "qtyStep": "0.001",
    }
    return {
        "symbol": "BTCUSDT",
        "baseCoin": "BTC",
        "quoteCoin": "USDT",
        "status": "Trading",
        "priceFilter": {"tickSize": "0.1"},
        "lotSizeFilter": filters,
        **(
            {"settleCoin": "USDT", "contractType": "LinearPerpetual", "deliveryTime": "0"}
            if category == "linear"
            else {}
        ),
        **more,
    }


class Bybit(Transport):
    """Answers as the exchange would for an account of one kind."""

    def __init__(self, account):
        super().__init__()
        self._unified, self._uta, self._status = account

    def send(self, request, **options):
        response = super().send(request, **options)
        response._content = json.dumps(
            {"retCode": 0, "retMsg": "OK", "result": self._result(request.url)}
        ).encode()
        return response

    def paths(self):
        return [urlsplit(url).path for _, url, *_ in self.sent]

    def signed(self):
        """The method, the path and the signed text of each request with a signature."""
        for method, url, headers, body in self.sent:
            if any(name.upper() == "X-BAPI-SIGN" for name in headers):
                yield method, urlsplit(url).path, body or urlsplit(url).query

    def _result(self, url):
        parts = urlsplit(url)
        match parts.path:
            case "/v5/user/query-api":
                return {"unified": self._unified, "uta": self._uta}
            case "/v5/account/info":
                return {"unifiedMarginStatus": self._status}
            case "/v5/market/instruments-info":
                category = next(
                    (kind for kind in ("spot", "linear") if f"category={kind}" in parts.query), None
                )
                return {"category": category, "list": [instrument(category)] if category else []}
            case "/v5/asset/coin/query-info":
                return {"rows": []}
            case "/v5/account/wallet-balance":
                return {
                    "list": [
                        {"accountType": "UNIFIED", "coin": [{"coin": "USDT", "walletBalance": "1"}]}
                    ]
                }
            case "/v5/asset/transfer/query-account-coins-balance":
                return {"balance": [{"coin": "USDT", "walletBalance": "1", "transferBalance": "1"}]}
            case _:
                return {"orderId": "1", "orderLinkId": "", "list": []}


def made(agent, account):
    exchange = attach(ccxt.bybit({"enableRateLimit": False}), "bybit", agent=agent)
    transport = Bybit(account)
    exchange.session.mount("https://", transport)
    return exchange, transport


def keys():
    return {
        "bybit": Key(
            "bybit", "hmac-sha256", {"apiKey": "bybit-test", "secret": secrets.token_hex(16)}
        )
    }


def explanation(real):
    asked = ["policy", "explain", "--client", "bot", "--key", "bybit", "GET", "/v5/user/query-api"]
    ended = subprocess.run(
        [PROGRAMS / "countersign", "--socket", real.socket, *asked],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return ended.stdout + ended.stderr


class OfAKeyThatTrades(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.real = RealAgent(keys())
        cls.addClassCleanup(cls.real.close)

    def test_orders_and_balances_of_both_kinds_of_account(self):
        for account in (CLASSIC, UNIFIED):
            for call, arguments, last in (
                ("create_order", LINEAR, "/v5/order/create"),
                ("create_order", SPOT, "/v5/order/create"),
                ("fetch_balance", (), None),
                (
                    "fetch_balance",
                    ({"type": "funding"},),
                    "/v5/asset/transfer/query-account-coins-balance",
                ),
            ):
                with (
                    self.subTest(account=account, call=call, arguments=arguments),
                    Agent(self.real.socket) as agent,
                ):
                    exchange, transport = made(agent, account)
                    getattr(exchange, call)(*arguments)
                    signed = list(transport.signed())
                    for path in ("/v5/user/query-api", "/v5/account/info"):
                        self.assertIn(("GET", path, ""), signed)
                    self.assertIn("/v5/market/instruments-info", transport.paths())
                    self.assertGreater(len(signed), 2)
                    if last:
                        self.assertEqual(signed[-1][1], last)

    def test_what_an_empty_text_leaves_open_is_explained(self):
        explained = explanation(self.real)
        for part in ("allowed", "method: the sender", "path: the sender"):
            self.assertIn(part, explained)

    def test_markets_are_loaded_with_the_key(self):
        with Agent(self.real.socket) as agent:
            exchange, transport = made(agent, UNIFIED)
            exchange.load_markets()
            self.assertIn("BTC/USDT:USDT", exchange.markets)
            self.assertIn(("GET", "/v5/asset/coin/query-info", ""), list(transport.signed()))


class OfAKeyThatCouldDeleteItself(unittest.TestCase):
    def test_an_empty_text_is_refused_and_explained(self):
        for right in ("transfer", "withdraw", "admin"):
            with self.subTest(right):
                real = RealAgent(keys(), scopes=("read", "trade", right))
                self.addCleanup(real.close)
                with Agent(real.socket) as agent:
                    exchange, transport = made(agent, UNIFIED)
                    with self.assertRaises(Refused) as refused:
                        exchange.private_get_v5_user_query_api()
                    self.assertEqual(refused.exception.code, "policy.effective_scope")
                    self.assertIn("without parameters", str(refused.exception))
                    self.assertEqual(list(transport.signed()), [])
                    # This read signs a text of its own, so its signature opens nothing else.
                    exchange.private_get_v5_order_realtime({"category": "spot"})
                    self.assertEqual(next(transport.signed())[2], "category=spot")
                explained = explanation(real)
                self.assertIn("without parameters", explained)
                self.assertIn("denied by key bybit scopes", explained)


if __name__ == "__main__":
    unittest.main()
