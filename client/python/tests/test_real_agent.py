"""Tests real ccxt, a real agent and a real (software) token. Each request is sent as ccxt would
have sent it with the secret itself.
"""

import asyncio
import re
import unittest
from unittest import mock

import ccxt
import ccxt.async_support

from countersign import Agent, Refused, attach

from .markets import MARKETS
from .real_agent import KEYS, RealAgent
from .transport import AsyncTransport, Transport

LIMIT = ("BTC/USDT", "limit", "buy", 0.01, 30000)
FUTURE = {"symbol": "BTC/USDT:USDT", "type": "limit", "side": "buy", "amount": 0.01, "price": 30000}
SPOT = {"symbol": "BTC/USD", "type": "limit", "side": "buy", "amount": 0.01, "price": 30000}
OKX = {"symbol": "BTC/USDT", "type": "limit", "side": "sell", "amount": 0.5, "price": 30000.5}
STOP = {"ordertype": "stop-loss-limit", "price": "+5", "price2": "#4%"}
NESTED = {
    "pair": "XBTUSD",
    "type": "sell",
    "ordertype": "limit",
    "volume": "2",
    "price": "37000.10",
    "close": STOP,
}

# (key, exchange, call, arguments)
SIGNED = [
    ("binance", "binance", "fetch_balance", ()),
    ("binance", "binance", "create_order", LIMIT),
    ("binance", "binance", "create_order", (*LIMIT, {"newClientOrderId": "é 中文/+&=%"})),
    ("binance", "binance", "create_order", ("BTC/USDT", "market", "sell", 0.5)),
    ("binance", "binance", "create_order", (*LIMIT, {"recvWindow": 5000})),
    ("binance", "binance", "cancel_order", ("283194212", "BTC/USDT")),
    ("binance", "binance", "fetch_open_orders", ("BTC/USDT",)),
    ("binance", "binance", "fetch_my_trades", ("BTC/USDT", 1699990000000, 500)),
    ("binance", "binance", "private_get_account", ({"omitZeroBalances": True},)),
    ("binance", "binance", "sapi_get_asset_dribblet", ({"startTime": 1699990000000},)),
    ("binance", "binance", "sapi_get_margin_allassets", ({"asset": "BTC"},)),
    ("binance", "binanceusdm", "create_order", tuple(FUTURE.values())),
    ("binance", "binanceusdm", "create_orders", ([FUTURE, {**FUTURE, "amount": 1.5}],)),
    ("binance", "binanceusdm", "cancel_orders", (["1", "2"], "BTC/USDT:USDT")),
    ("binance", "binanceusdm", "set_leverage", (5, "BTC/USDT:USDT")),
    ("binance-ed25519", "binance", "create_order", LIMIT),
    ("binance-rsa", "binance", "create_order", LIMIT),
    ("okx", "okx", "fetch_balance", ()),
    ("okx", "okx", "private_get_account_balance", ({"ccy": "BTC,ETH"},)),
    ("okx", "okx", "create_order", tuple(OKX.values())),
    ("okx", "okx", "create_orders", ([OKX, {**OKX, "params": {"clOrdId": "a b+c/d&e=f%é中"}}],)),
    (
        "okx",
        "okx",
        "private_post_trade_order",
        ({"instId": "BTC-USDT", "tdMode": "cash", "sz": 1.0, "px": 1e-07},),
    ),
    ("okx", "okx", "cancel_order", ("590908157585625111", "BTC/USDT")),
    ("okx", "okx", "cancel_orders", (["1", "2"], "BTC/USDT")),
    ("okx", "okx", "fetch_open_orders", ("BTC/USDT",)),
    ("kraken", "kraken", "fetch_balance", ()),
    ("kraken", "kraken", "create_order", ("BTC/USD", "limit", "buy", 0.01, 30000)),
    ("kraken", "kraken", "private_post_addorder", (NESTED,)),
    ("kraken", "kraken", "private_post_addorder", ({**NESTED, "price": "5%"},)),
    ("kraken", "kraken", "create_orders", ([SPOT, {**SPOT, "amount": 2}],)),
    ("kraken", "kraken", "cancel_order", ("OG5V2Y-RYKVL-DT3V3B", "BTC/USD")),
    (
        "kraken",
        "kraken",
        "cancel_orders",
        (["OG5V2Y-RYKVL-DT3V3B", "OP5V2Y-RYKVL-ET3V3B"], "BTC/USD"),
    ),
    ("kraken", "kraken", "fetch_open_orders", ("BTC/USD",)),
]

REFUSED = [
    (
        "binance",
        "sapi_post_capital_withdraw_apply",
        {
            "coin": "USDT",
            "network": "TRX",
            "address": "TQn9Y2khEsLJW1ChVWFMSMeRDow5KcbLSE",
            "amount": "15",
        },
        ("policy.scope", "policy.effective_scope"),
    ),
    # A withdrawal that looks like a read: Binance's signature does not say which of the two it is.
    (
        "binance",
        "private_get_account",
        {"coin": "USDT", "address": "TQn9Y2khEsLJW1ChVWFMSMeRDow5KcbLSE", "amount": "15"},
        ("request.forbidden_parameter",),
    ),
    (
        "binance",
        "sapi_get_capital_deposit_address",
        {"coin": "USDT", "network": "TRX", "amount": "15"},
        ("policy.effective_scope",),
    ),
    (
        "okx",
        "private_post_asset_withdrawal",
        {
            "ccy": "BTC",
            "amt": "1",
            "dest": "4",
            "toAddr": "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq",
        },
        ("policy.scope",),
    ),
    (
        "kraken",
        "private_post_withdraw",
        {"asset": "XBT", "key": "mine", "amount": "0.7"},
        ("policy.scope",),
    ),
]


class Recording(Agent):
    """Remembers the agent's last answer: the comparison takes its clock, and nothing else."""

    answer = None

    def sign(self, *arguments, **named):
        self.answer = super().sign(*arguments, **named)
        return self.answer


def exchange(module, name, **credentials):
    made = getattr(module, name)({"enableRateLimit": False, **credentials})
    made.set_markets(MARKETS[name])
    # Two objects would choose two random client order ids.
    made.uuid = made.uuid16 = made.uuid22 = lambda *_length: "0123456789abcdef"
    return made


def sync_sent(made, call, arguments):
    """Makes the call and returns the request that ccxt sends."""
    transport = Transport()
    made.session.mount("https://", transport)
    getattr(made, call)(*arguments)
    return only(transport.sent)


async def async_sent(made, call, arguments):
    made.session, made.open = AsyncTransport(), lambda *_: None
    try:
        await getattr(made, call)(*arguments)
        return only(made.session.sent)
    finally:
        await made.close()


def only(sent):
    (request,) = sent
    return request


def at_the_agents_time(made, answer):
    """Sets the exchange object to the clock and the nonce of the agent's answer."""
    nonce = re.search(r'^(?:nonce=|\{"nonce":")(\d+)', answer["body"] or "")
    moment = int(nonce[1]) if nonce else answer["timestamp_ms"]
    made.milliseconds = lambda: moment
    return made


class AgainstARealAgent(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.real = RealAgent()
        cls.addClassCleanup(cls.real.close)
        cls.agent = Recording(cls.real.socket)
        cls.addClassCleanup(cls.agent.close)

    def reference(self, module, key, name):
        """ccxt without an agent, with the secret itself."""
        return at_the_agents_time(
            exchange(module, name, **KEYS[key].credentials), self.agent.answer
        )

    def test_what_leaves_is_what_ccxt_would_have_sent(self):
        for key, name, call, arguments in SIGNED:
            with self.subTest(key, exchange=name, call=call, arguments=arguments):
                ours = sync_sent(attach(exchange(ccxt, name), key, self.agent), call, arguments)
                theirs = sync_sent(self.reference(ccxt, key, name), call, arguments)
                self.assertEqual(ours, theirs)

    def test_the_same_holds_for_async_exchanges(self):
        for key, name, call, arguments in SIGNED:
            with self.subTest(key, exchange=name, call=call, arguments=arguments):
                attached = attach(exchange(ccxt.async_support, name), key, self.agent)
                ours = asyncio.run(async_sent(attached, call, arguments))
                reference = self.reference(ccxt.async_support, key, name)
                self.assertEqual(ours, asyncio.run(async_sent(reference, call, arguments)))

    def test_many_async_calls_at_once_each_get_their_own_signature(self):
        async def burst():
            made = attach(exchange(ccxt.async_support, "binance"), "binance", self.agent)
            made.session, made.open = AsyncTransport(), lambda *_: None
            orders = [made.fetch_order(str(number), "BTC/USDT") for number in range(50)]
            await asyncio.gather(*orders)
            sent, made.session.sent = made.session.sent, []
            await made.close()
            return {re.search(r"orderId=(\d+)", url)[1] for _, url, _, _ in sent}

        self.assertEqual(asyncio.run(burst()), {str(number) for number in range(50)})

    def test_money_does_not_leave(self):
        for name, call, params, codes in REFUSED:
            made = exchange(ccxt, name)
            transport = Transport()
            made.session.mount("https://", transport)
            attach(made, name, self.agent)
            for kind in (Refused, ccxt.PermissionDenied):
                with self.subTest(call, params=params), self.assertRaises(kind) as caught:
                    getattr(made, call)(dict(params))
                self.assertIn(caught.exception.code, codes)
                self.assertTrue(caught.exception.request_id)
            self.assertEqual(transport.sent, [])

    def test_what_the_agent_manages_cannot_be_chosen(self):
        for params in ({"timestamp": 1}, {"recvWindow": 60000}):
            with self.subTest(params=params), self.assertRaises(Refused) as caught:
                self.agent.sign("binance", "GET", "/api/v3/account", params)
            self.assertEqual(caught.exception.code, "request.forbidden_parameter")

    def test_keys_and_status(self):
        keys = {key["name"]: key for key in self.agent.keys()}
        self.assertEqual(set(keys), set(KEYS))
        self.assertEqual(keys["binance"]["api_key"], KEYS["binance"].credentials["apiKey"])
        self.assertEqual(keys["binance"]["tier"], "software")
        self.assertFalse(self.agent.status()["locked"])

    def test_a_key_that_is_not_there_is_refused(self):
        made = attach(exchange(ccxt, "binance"), "nobody", self.agent)
        with self.assertRaises(Refused) as caught:
            made.fetch_balance()
        self.assertEqual(caught.exception.code, "key.unknown")

    def test_a_bot_survives_a_restart_of_the_agent(self):
        made = exchange(ccxt, "okx")
        transport = Transport()
        made.session.mount("https://", transport)
        attach(made, "okx", self.agent)
        made.fetch_balance()
        self.real.restart()
        made.fetch_balance()
        self.assertEqual(len(transport.sent), 2)

    def test_without_an_agent_ccxt_says_not_available(self):
        made = attach(exchange(ccxt, "okx"), "okx", Agent("/nonexistent/agent.sock"))
        with self.assertRaises(ccxt.ExchangeNotAvailable):
            made.fetch_balance()


if __name__ == "__main__":
    unittest.main()
