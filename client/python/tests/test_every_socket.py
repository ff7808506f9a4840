"""Tests attach at every private WebSocket of ccxt.pro. The first message is the one that ccxt would
have sent with the secret in its own hands.
"""

import asyncio
import contextlib
import json
import unittest

import ccxt
import ccxt.pro

from countersign import Refused, attach
from countersign._attach import STAND_IN, VENUES, known_as
from countersign._sockets import LOGINS

from .markets import market
from .recipes import Recipes, signed_by_ccxt, subjects
from .test_every_exchange import comparable

CHALLENGE = "226aee50-88fc-4618-a42a-34f7709570b2"
GATE = "wss://api.gateio.ws/ws/v4/"
# Sockets that are opened with a token, and ccxt's method to fetch it. It is a REST request that is
# signed like any other.
TOKENS = {
    "binanceusdm": lambda made: made.authenticate(),
    "bitstamp": lambda made: made.authenticate(),
    "kraken": lambda made: made.authenticate(),
    "kucoin": lambda made: made.negotiate(True),
    "whitebit": lambda made: made.authenticate(),
}
ALSO_TOKENS = {"binancecoinm"}  # no vectors of its own: Binance's code, another host
UNTIL_SENT = 3


def contracts(kind, path):
    hostname = "api.hbdm.vn"
    return lambda made: made.authenticate(
        {"type": kind, "url": f"wss://{hostname}{path}", "hostname": hostname}
    )


# The call that makes ccxt log in, if it is not `authenticate` alone.
PRIVATE = {
    "backpack": [lambda made: made.watch_private(["account.orderUpdate"], ["h"])],
    "binance": [lambda made: made.ensure_user_data_stream_ws_subscribe_signature("spot")],
    "bybit": [
        lambda made: made.authenticate("wss://stream.bybit.com/v5/private"),
        lambda made: made.authenticate("wss://stream.bybit.com/v5/trade"),
    ],
    "coinbase": [
        lambda made: made.subscribe("user", True, "BTC/USD"),
        lambda made: made.un_subscribe("orders", "user", True, "BTC/USD"),
    ],
    "coinbaseexchange": [
        lambda made: made.watch_my_trades("BTC/USD"),
        lambda made: made.watch_orders_for_symbols(["BTC/USD"]),
    ],
    "gate": [
        lambda made: made.authenticate(GATE, "spot"),
        lambda made: made.subscribe_private(GATE, "h", ["BTC_USDT"], "spot.orders", {}),
        lambda made: made.subscribe_private(GATE, "h", ["!all"], "futures.usertrades", {}, True),
    ],
    "gemini": [
        lambda made: made.authenticate(
            {"url": "wss://api.gemini.com/v1/order/events?heartbeat=true"}
        )
    ],
    "htx": [
        lambda made: made.authenticate(
            {"type": "spot", "url": "wss://api.huobi.pro/ws/v2", "hostname": "api.huobi.pro"}
        ),
        contracts("linear", "/linear-swap-notification"),
        contracts("linear", "/ws/v5/notification"),
        contracts("inverse", "/swap-notification"),
        contracts("inverse", "/notification"),
    ],
    "krakenfutures": [
        lambda made: made.authenticate(),
        lambda made: made.subscribe_private("fills", "h"),
    ],
    "mexc": [lambda made: made.watch_swap_private("h")],
    "upbit": [lambda made: made.watch_private(None, "myOrder", "myOrder")],
}
# The keys whose logins ccxt makes without randomness.
NAMES = {"coinbase": "coinbase_legacy"}


class Sent(Exception):
    """Ends a login when its first message would be sent."""


async def first_sent(subject, start, agent=None, key="k"):
    """The first message on a private socket, or the headers that it is opened with."""
    sent, made = [], signed_by_ccxt.exchange(subject.class_name, subject.auth, ccxt.pro)
    # A login needs no receive window: ccxt would sign one, the agent does not.
    made.options["recvWindow"] = None
    made.enableRateLimit = False
    made.nonce = made.seconds if subject.class_name == "coinbaseexchange" else made.milliseconds
    made.incrementing_nonce = lambda: subject.auth["now_ms"]

    def watch(url, message_hashes, message=None, *_):
        event = message.get("event") if isinstance(message, dict) else None
        if event == "challenge":
            loop = asyncio.get_running_loop()
            loop.call_soon(
                made.handle_authenticate,
                made.client(url),
                {"event": "challenge", "message": CHALLENGE},
            )
        if event != "challenge" or start is PRIVATE["krakenfutures"][0]:
            sent.append(opened_with() or message)
        return asyncio.get_running_loop().create_future()

    def opened_with():
        return next((headers for _, headers in opened.values() if headers), None)

    made.watch = made.watch_multiple = watch
    made.uid = "1"
    made.set_markets([market("BTC/USD", "BTC-USD")])
    if agent:
        attach(made, key, agent)
    connect, opened = made.client, {}

    def client(url):
        # Keep the headers as they are now: ccxt removes Gemini's before it connects.
        return opened.setdefault(
            url, (connect(url), dict(connect(url).options.get("headers") or {}))
        )[0]

    made.client = client
    logged_in = asyncio.ensure_future(start(made))
    try:
        for _ in range(UNTIL_SENT * 100):
            await asyncio.wait([logged_in], timeout=0.01)
            if sent or logged_in.done():
                break
        if logged_in.done():
            await logged_in
        return texts(sent[0] if sent else opened_with())
    finally:
        logged_in.cancel()
        await made.close()


async def first_request(subject, start, agent=None):
    """The first REST request of a login."""
    sent, made = [], signed_by_ccxt.exchange(subject.class_name, subject.auth, ccxt.pro)
    made.enableRateLimit = False

    async def fetch(url, method="GET", headers=None, body=None):
        sent.append((method, url, headers, body))
        raise ccxt.ExchangeError("enough")

    made.fetch = fetch
    if agent:
        attach(made, "k", agent)
    made.open()
    try:
        with contextlib.suppress(ccxt.ExchangeError):
            await start(made)
        return sent[0]
    finally:
        await made.close()


def texts(value):
    """Numbers as texts: ccxt does not always follow an exchange's page in the choice between the
    two.
    """
    if isinstance(value, dict):
        return {name: texts(member) for name, member in value.items()}
    return [texts(item) for item in value] if isinstance(value, list) else str(value)


async def quietly(login):
    """Keeps asyncio quiet about the second future that ccxt rejects for Binance. Nobody waits for
    it.
    """
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    return await login


def lower(message):
    """A message with the names of its headers in lower case."""
    return (
        {name.lower(): value for name, value in message.items()}
        if isinstance(message, dict)
        else message
    )


def starts(name):
    return PRIVATE.get(name, [lambda made: made.authenticate()])


class EverySocket(unittest.TestCase):
    def setUp(self):
        self.subjects = {subject.name: subject for subject in subjects()}

    def subject(self, name):
        return self.subjects[NAMES.get(name, name)]

    def test_every_exchange_is_logged_in_to_by_a_frame_headers_or_a_token(self):
        watching = {name for name in VENUES if name in ccxt.pro.exchanges}
        self.assertEqual(watching, set(LOGINS) & watching | set(TOKENS) | ALSO_TOKENS)

    def test_what_is_sent_is_what_ccxt_would_have_signed(self):
        for name in sorted(set(LOGINS) & set(ccxt.pro.exchanges)):
            for number, start in enumerate(starts(name)):
                with self.subTest(name, number=number):
                    subject = self.subject(name)
                    own = asyncio.run(first_sent(subject, start))
                    self.assertNotIn(STAND_IN, json.dumps(own))
                    self.assertEqual(
                        lower(asyncio.run(first_sent(subject, start, Recipes(subject)))), lower(own)
                    )

    def test_tokens_are_fetched_as_ccxt_would_have(self):
        for name, fetch in TOKENS.items():
            with self.subTest(name):
                subject = self.subject(name)
                own = asyncio.run(first_request(subject, fetch))
                signed = asyncio.run(first_request(subject, fetch, Recipes(subject)))
                self.assertNotIn(STAND_IN, str(own))
                self.assertEqual(comparable(subject, *signed), comparable(subject, *own))

    def test_keys_whose_logins_are_random_log_in_as_well(self):
        for name in ("coinbase", "coinbase_ed25519"):
            with self.subTest(name):
                subject = self.subjects[name]
                frame = asyncio.run(first_sent(subject, PRIVATE["coinbase"][0], Recipes(subject)))
                self.assertEqual(sorted(frame), ["channel", "jwt", "product_ids", "type"])
                self.assertNotIn(STAND_IN, json.dumps(frame))

    def test_a_refusal_ends_the_wait(self):
        class Refusing:
            def session(self, *_, **__):
                raise Refused("policy.scope", "no sessions")

            keys = session

        for name in sorted(set(LOGINS) & set(ccxt.pro.exchanges)):
            for number, start in enumerate(starts(name)):
                with self.subTest(name, number=number), self.assertRaises(ccxt.PermissionDenied):
                    asyncio.run(quietly(first_sent(self.subject(name), start, Refusing())))

    def test_what_the_agent_has_no_login_for_is_not_sent(self):
        subject = self.subject("binance")

        async def sent(url, message):
            made = signed_by_ccxt.exchange("binance", subject.auth, ccxt.pro)
            attach(made, "k", Recipes(subject))
            try:
                await made.watch(url, "h", message, "h")
            finally:
                await made.close()

        async def sent_past_watch(message):
            made = signed_by_ccxt.exchange("binance", subject.auth, ccxt.pro)
            attach(made, "k", Recipes(subject))
            try:
                await made.client("wss://example.com").send(message)
            finally:
                await made.close()

        order = {
            "id": "1",
            "method": "order.place",
            "params": {"apiKey": STAND_IN, "signature": STAND_IN},
        }
        for attempt in (
            sent("wss://ws-api.binance.com/ws-api/v3", order),
            sent("wss://example.com/?key=" + STAND_IN, {"a": 1}),
            sent_past_watch(order),
            sent_past_watch(STAND_IN),
        ):
            with self.assertRaises(ccxt.NotSupported):
                asyncio.run(attempt)

    def test_headers_of_another_socket_have_no_login(self):
        subject = self.subject("upbit")

        async def headers():
            made = signed_by_ccxt.exchange("upbit", subject.auth, ccxt.pro)
            attach(made, "k", Recipes(subject))
            made.authenticate()
            try:
                return made.client("wss://api.upbit.com/websocket/v1").options["headers"]
            finally:
                await made.close()

        self.assertEqual(asyncio.run(headers()), {})

    def test_regional_classes_are_known_by_what_they_are_made_of(self):
        for name, venue in (
            ("binanceus", "binance"),
            ("bybiteu", "bybit"),
            ("myokx", "okx"),
            ("okxus", "okx"),
        ):
            for library in (ccxt, ccxt.async_support, ccxt.pro):
                with self.subTest(name, library=library.__name__):
                    self.assertEqual(known_as(getattr(library, name)()), venue)


if __name__ == "__main__":
    unittest.main()
