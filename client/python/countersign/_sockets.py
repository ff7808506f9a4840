"""Logs in to the private WebSockets of a ccxt.pro exchange by the agent.

ccxt signs a login with the stand-in for a secret. Before it leaves, the agent's takes its place: whole frames, credentials
in a frame, or the headers that a socket is opened with. What the agent has no login for is never sent.
"""

import asyncio
import json
from urllib.parse import urlsplit

from ccxt.base.errors import NotSupported

from ._asking import ask, in_thread

# What says of a frame which message it is.
FRAME_KINDS = ("action", "ch", "channel", "event", "method", "op")

HTX_PURPOSES = {
    "/linear-swap-notification": "ws-linear",
    "/notification": "ws-futures",
    "/swap-notification": "ws-inverse",
    "/ws/v2": "ws",
    "/ws/v5/notification": "ws-linear-v5",
}


def _whole(_url, built, agent):
    """The agent's frame is the message."""
    return _put(built, agent.frame())


def _bybit(url, built, agent):
    return _put(built, agent.frame("ws-trade" if urlsplit(url).path.endswith("/v5/trade") else "ws"))


def _htx(url, built, agent):
    path = urlsplit(url).path
    if path not in HTX_PURPOSES:
        raise NotSupported(f"htx: the agent has no login for {path}")
    return _put(built, agent.frame(HTX_PURPOSES[path]))


def _credentials(_url, built, agent):
    """The agent's frame has nothing but what proves who subscribes."""
    return {**built, **agent.frame()}


def _backpack(_url, built, agent):
    return {**built, "signature": agent.frame()["signature"]}


def _coinbase(_url, built, agent):
    """One channel of some products is signed for; to leave it takes the same signature."""
    own = {name: built[name] for name in ("type", "product_ids", "channel")}
    return {**agent.frame(channel=own["channel"], symbols=own["product_ids"]), **own}


def _gate(_url, built, agent):
    """One channel is signed for; on the socket for orders its login has a number, by which ccxt finds the answer."""
    message = _put(built, agent.frame(channel=built["channel"]))
    if built["event"] == "api":
        message["payload"] = {"req_id": built["payload"]["req_id"], **message["payload"]}
    return message


def _krakenfutures(_url, built, agent):
    """The exchange says what to sign; each subscription shows that it was."""
    if built.get("event") == "challenge":
        return {**built, "api_key": agent.api_key()}
    return {**built, **agent.frame(challenge=built["original_challenge"])}


def _headers_alone(_url, _built, _agent):
    raise NotSupported("this exchange is logged in to by headers alone")


LOGINS = {
    "backpack": _backpack,
    "binance": _whole,
    "bitfinex": _whole,
    "bitget": _whole,
    "bitvavo": _whole,
    "bybit": _bybit,
    "coinbase": _coinbase,
    "coinbaseexchange": _credentials,
    "cryptocom": _whole,
    "deribit": _whole,
    "gate": _gate,
    "gemini": _headers_alone,
    "htx": _htx,
    "krakenfutures": _krakenfutures,
    "mexc": _whole,
    "okx": _whole,
    "phemex": _whole,
    "upbit": _headers_alone,
    "woo": _whole,
}


class Login:
    """What the agent is asked for one login."""

    def __init__(self, key, agent):
        self._key, self._agent = key, agent

    def session(self, purpose="ws", **arguments):
        return ask(self._agent.session, self._key, purpose, **arguments)

    def frame(self, purpose="ws", **arguments):
        return json.loads(self.session(purpose, **arguments)["frame"])

    def api_key(self):
        return next(key["api_key"] for key in ask(self._agent.keys) if key["name"] == self._key)


class Sockets:
    """Takes the agent's logins for ccxt's, and lets nothing else out that needs one."""

    def __init__(self, exchange, own, build, login, stand_in):
        """`own` are the exchange's own methods by name."""
        self._exchange, self._build, self._login, self._stand_in = exchange, build, login, stand_in
        self._client, self._watch, self._watch_multiple = own["client"], own["watch"], own["watch_multiple"]

    def watch(self, url, message_hash, message=None, subscribe_hash=None, subscription=None):
        subscribed = subscribe_hash in self._subscriptions(url)
        send = lambda logged_in: self._watch(url, message_hash, logged_in, subscribe_hash, subscription)  # noqa: E731
        return send(message) if subscribed else self._logged_in(url, [message_hash], message, send)

    def watch_multiple(self, url, message_hashes, message=None, subscribe_hashes=None, subscription=None):
        subscribed = self._subscriptions(url).keys() >= set(subscribe_hashes or ())
        send = lambda logged_in: self._watch_multiple(  # noqa: E731
            url, message_hashes, logged_in, subscribe_hashes, subscription
        )
        return send(message) if subscribed else self._logged_in(url, message_hashes, message, send)

    def client(self, url):
        """A connection, whose headers are the agent's and on which nothing is sent that was signed here."""
        if url in (self._exchange.clients or {}):
            return self._client(url)
        if self._concerns(url):
            raise NotSupported(f"{self._exchange.id}: a login in the address of a socket is not the agent's")
        made = self._client(url)
        try:
            headers = made.options.get("headers") if isinstance(made.options, dict) else None
            if self._concerns(headers):
                made.options = {**made.options, "headers": self._headers(url, headers)}
        except BaseException:
            del self._exchange.clients[url]
            raise
        send = made.send

        async def send_unless_signed_here(message):
            if self._concerns(message):
                raise NotSupported(f"{self._exchange.id}: the agent has no login for this message")
            await send(message)

        made.send = send_unless_signed_here
        return made

    def _headers(self, url, headers):
        """Those of a private socket are the agent's; others go without what was signed here."""
        kept = {name: value for name, value in headers.items() if not self._concerns(value)}
        login, opened = self._login.session(), urlsplit(url)
        logged_in = urlsplit(login["url"])
        if opened.path != logged_in.path:
            return kept
        if opened.netloc != logged_in.netloc:
            raise NotSupported(f"{self._exchange.id}: the agent logs in at {logged_in.netloc}, not at {opened.netloc}")
        theirs = dict(login["headers"])
        names = {name.lower() for name in theirs}
        return {**{name: value for name, value in kept.items() if name.lower() not in names}, **theirs}

    def _subscriptions(self, url):
        client = (self._exchange.clients or {}).get(url)
        return client.subscriptions if client else {}

    def _logged_in(self, url, message_hashes, message, send):
        if not self._concerns(message):
            return send(message)

        def login():
            if self._build is None:
                raise NotSupported(f"{self._exchange.id}: this login is not signed by the agent yet")
            found = self._build(url, message, self._login)
            if self._concerns(found):
                raise NotSupported(f"{self._exchange.id}: the agent has no login for this message")
            return found

        async def logged_in():
            try:
                found = await in_thread(login)
            except Exception as error:
                self._reject(url, message_hashes, error)
                raise
            return await send(found)

        task = asyncio.ensure_future(logged_in())
        # Whoever does not wait for it waits for the future that was rejected.
        task.add_done_callback(_seen)
        return task

    def _reject(self, url, message_hashes, error):
        client = self._exchange.client(url)
        for message_hash in message_hashes:
            if message_hash in client.futures:
                client.futures[message_hash].add_done_callback(_seen)
            client.reject(error, message_hash)

    def _concerns(self, sent):
        text = sent if isinstance(sent, str) else json.dumps(sent, default=str)
        return self._stand_in in text


def _seen(done):
    """Nothing is said of an error that nobody waits for."""
    done.cancelled() or done.exception()


def _put(built, frame):
    """The agent's frame in place of the one that ccxt built, where both are the same message."""
    differ = [name for name in FRAME_KINDS if name in {**built, **frame} and built.get(name) != frame.get(name)]
    if differ:
        raise NotSupported(f"the agent's login differs from what ccxt built in {', '.join(differ)}")
    # By its number ccxt finds the answer; where that is the nonce as well, it is signed.
    own = {"id": built["id"]} if "id" in built and built["id"] != built.get("nonce") else {}
    return {**built, **frame, **own}
