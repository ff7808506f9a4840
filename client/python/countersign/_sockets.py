"""Lets the agent log in to the private WebSockets of a ccxt.pro exchange.

ccxt signs a login with the stand-in for a secret. Before the login is sent, the agent's login takes
its place: a whole frame, credentials in a frame, or the headers that open a socket. A message that
needs a login which the agent does not have is never sent.
"""

import asyncio
import json
from urllib.parse import urlsplit

from ccxt.base.errors import NotSupported

from ._asking import ask, in_thread

# The members that say which message a frame is.
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
    return _put(
        built, agent.frame("ws-trade" if urlsplit(url).path.endswith("/v5/trade") else "ws")
    )


def _htx(url, built, agent):
    path = urlsplit(url).path
    if path not in HTX_PURPOSES:
        raise NotSupported(f"htx: the agent has no login for {path}")
    return _put(built, agent.frame(HTX_PURPOSES[path]))


def _credentials(_url, built, agent):
    """The agent's frame has only the credentials of the subscriber."""
    return {**built, **agent.frame()}


def _backpack(_url, built, agent):
    return {**built, "signature": agent.frame()["signature"]}


def _coinbase(_url, built, agent):
    """The signature is for one channel of some products. Leaving the channel takes the same
    signature.
    """
    own = {name: built[name] for name in ("type", "product_ids", "channel")}
    return {**agent.frame(channel=own["channel"], symbols=own["product_ids"]), **own}


def _gate(_url, built, agent):
    """The signature is for one channel. On the socket for orders the login has a number, by which
    ccxt finds the answer.
    """
    message = _put(built, agent.frame(channel=built["channel"]))
    if built["event"] == "api":
        message["payload"] = {"req_id": built["payload"]["req_id"], **message["payload"]}
    return message


def _krakenfutures(_url, built, agent):
    """The exchange sends a challenge to be signed. Each subscription carries its signature."""
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
    """The questions to the agent for one login."""

    def __init__(self, key, agent):
        self._key, self._agent = key, agent

    def session(self, purpose="ws", **arguments):
        return ask(self._agent.session, self._key, purpose, **arguments)

    def frame(self, purpose="ws", **arguments):
        return json.loads(self.session(purpose, **arguments)["frame"])

    def api_key(self):
        return next(key["api_key"] for key in ask(self._agent.keys) if key["name"] == self._key)


class Sockets:
    """Sends the agent's logins in place of ccxt's, and nothing else that was signed with the
    stand-in.
    """

    def __init__(self, exchange, own, build, login, stand_in):
        """`own` has the exchange's own methods by name."""
        self._exchange, self._build, self._login, self._stand_in = exchange, build, login, stand_in
        self._client, self._watch = own["client"], own["watch"]
        self._watch_multiple = own["watch_multiple"]

    def watch(self, url, message_hash, message=None, subscribe_hash=None, subscription=None):
        subscribed = subscribe_hash in self._subscriptions(url)
        send = lambda logged_in: self._watch(  # noqa: E731
            url, message_hash, logged_in, subscribe_hash, subscription
        )
        return send(message) if subscribed else self._logged_in(url, [message_hash], message, send)

    def watch_multiple(
        self, url, message_hashes, message=None, subscribe_hashes=None, subscription=None
    ):
        subscribed = self._subscriptions(url).keys() >= set(subscribe_hashes or ())
        send = lambda logged_in: self._watch_multiple(  # noqa: E731
            url, message_hashes, logged_in, subscribe_hashes, subscription
        )
        return send(message) if subscribed else self._logged_in(url, message_hashes, message, send)

    def client(self, url):
        """A connection with the agent's headers. It sends nothing that was signed with the
        stand-in.
        """
        if url in (self._exchange.clients or {}):
            return self._client(url)
        if self._concerns(url):
            raise NotSupported(
                f"{self._exchange.id}: a login in the address of a socket is not the agent's"
            )
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
        """The headers of a private socket are the agent's. Other sockets get none that the stand-in
        signed.
        """
        kept = {name: value for name, value in headers.items() if not self._concerns(value)}
        login, opened = self._login.session(), urlsplit(url)
        logged_in = urlsplit(login["url"])
        if opened.path != logged_in.path:
            return kept
        if opened.netloc != logged_in.netloc:
            raise NotSupported(
                f"{self._exchange.id}: the agent logs in at {logged_in.netloc}, "
                f"not at {opened.netloc}"
            )
        theirs = dict(login["headers"])
        names = {name.lower() for name in theirs}
        return {
            **{name: value for name, value in kept.items() if name.lower() not in names},
            **theirs,
        }

    def _subscriptions(self, url):
        client = (self._exchange.clients or {}).get(url)
        return client.subscriptions if client else {}

    def _logged_in(self, url, message_hashes, message, send):
        if not self._concerns(message):
            return send(message)

        def login():
            if self._build is None:
                raise NotSupported(
                    f"{self._exchange.id}: this login is not signed by the agent yet"
                )
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
        # A caller that does not wait for the task waits for the future that was rejected.
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
    """Marks an error as seen, so that asyncio logs nothing if nobody waits for it."""
    done.cancelled() or done.exception()


def _put(built, frame):
    """Returns the agent's frame in place of the one that ccxt built. Both must be the same
    message.
    """
    differ = [
        name
        for name in FRAME_KINDS
        if name in {**built, **frame} and built.get(name) != frame.get(name)
    ]
    if differ:
        raise NotSupported(f"the agent's login differs from what ccxt built in {', '.join(differ)}")
    # ccxt finds the answer by its number. If the number is the nonce as well, the agent has signed
    # it.
    own = {"id": built["id"]} if "id" in built and built["id"] != built.get("nonce") else {}
    return {**built, **frame, **own}
