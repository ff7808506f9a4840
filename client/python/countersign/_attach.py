"""Lets an agent sign for a ccxt exchange: ccxt builds the request, the agent signs it, ccxt sends it.

ccxt changes parameters while it builds (broker ids, client order ids, batches as JSON text), so the request is judged
as it would leave: `sign` runs with stand-ins for credentials, `fetch` takes the finished request apart, asks the
agent for the same one, and sends the agent's.
"""

import asyncio
import base64
import inspect
import json
import re
import threading
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from ccxt.base.errors import ExchangeNotAvailable, NotSupported, PermissionDenied

from . import _sockets
from ._agent import Refused, Unavailable

# Stands where ccxt insists on a credential. Base64, because Kraken's secrets are: "countersign: no secret here".
STAND_IN = "Y291bnRlcnNpZ246IG5vIHNlY3JldCBoZXJl"


class Venue(NamedTuple):
    """What the agent fills in at an exchange."""

    headers: frozenset = frozenset()
    parameters: frozenset = frozenset()
    # What stands around the parameters of a JSON text: group 1 is all of them, group 2 all members but those before.
    wrapping: object = None
    # The header that carries such a text in base64, where the body does not.
    payload: str = ""
    # What ccxt looks for in the id of a key.
    api_key: str = STAND_IN


def _headers(words):
    return frozenset(words.split())


BINANCE = Venue(_headers("x-mbx-apikey"), frozenset({"signature", "timestamp"}))
COINBASE = Venue(_headers("authorization cb-access-key cb-access-passphrase cb-access-sign cb-access-timestamp"))
AUTHORIZATION = Venue(_headers("authorization"))

VENUES = {
    "backpack": Venue(_headers("x-api-key x-signature x-timestamp x-window")),
    "binance": BINANCE,
    "binancecoinm": BINANCE,
    "binanceusdm": BINANCE,
    "bitfinex": Venue(_headers("bfx-apikey bfx-nonce bfx-signature")),
    "bitflyer": Venue(_headers("access-key access-sign access-timestamp")),
    "bitget": Venue(_headers("access-key access-passphrase access-sign access-timestamp")),
    "bitso": AUTHORIZATION,
    # An empty body is sent as a pair that means nothing.
    "bitstamp": Venue(
        _headers("x-auth x-auth-nonce x-auth-signature x-auth-timestamp x-auth-version"), frozenset({"foo"})
    ),
    "bitvavo": Venue(
        _headers("bitvavo-access-key bitvavo-access-signature bitvavo-access-timestamp bitvavo-access-window")
    ),
    "bybit": Venue(_headers("x-bapi-api-key x-bapi-recv-window x-bapi-sign x-bapi-timestamp")),
    "coinbase": COINBASE,
    "coinbaseexchange": COINBASE,
    "cryptocom": Venue(
        wrapping=re.compile(r'\{"id":"\d+","method":"[^"]*","params":(\{.*\}),"api_key":"[^"]*","sig":"[^"]*","nonce":"\d+"\}')
    ),
    "deribit": AUTHORIZATION,
    "gate": Venue(_headers("key sign timestamp")),
    "gemini": Venue(
        _headers("x-gemini-apikey x-gemini-payload x-gemini-signature"),
        wrapping=re.compile(r'(?!)()|\{"request":"[^"]*","nonce":"?\d+"?,?(.*\})'),
        payload="X-GEMINI-PAYLOAD",
        api_key="account-" + STAND_IN,
    ),
    "htx": Venue(
        parameters=frozenset({"AccessKeyId", "Signature", "SignatureMethod", "SignatureVersion", "Timestamp"})
    ),
    "kraken": Venue(
        _headers("api-key api-sign"), frozenset({"nonce"}), re.compile(r'(?!)()|\{"nonce":"\d+",?(.*\})')
    ),
    "krakenfutures": Venue(_headers("apikey authent nonce")),
    # ccxt signs for its own partner account as well, which the agent does not.
    "kucoin": Venue(
        _headers(
            "kc-api-key kc-api-key-version kc-api-partner kc-api-partner-sign kc-api-partner-verify kc-api-passphrase "
            "kc-api-sign kc-api-timestamp"
        )
    ),
    "mexc": Venue(
        _headers("apikey request-time signature x-mexc-apikey"), frozenset({"signature", "timestamp"})
    ),
    "okx": Venue(_headers("ok-access-key ok-access-passphrase ok-access-sign ok-access-timestamp")),
    "phemex": Venue(_headers("x-phemex-access-token x-phemex-request-expiry x-phemex-request-signature")),
    "upbit": AUTHORIZATION,
    "whitebit": Venue(
        _headers("x-txc-apikey x-txc-payload x-txc-signature"),
        wrapping=re.compile(r'(?!)()|\{"request":"[^"]*","nonce":"\d+","nonceWindow":(?:false|true),?(.*\})'),
    ),
    "woo": Venue(_headers("x-api-key x-api-signature x-api-timestamp")),
}

NESTED_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]+\])*)")
JSON_IN_A_FORM = "json="  # a batch of orders of Kraken Futures


class RequestRefused(Refused, PermissionDenied):
    """The agent refused the request; to a bot that knows ccxt alone, a permission is missing."""


class RequestUnavailable(Refused, ExchangeNotAvailable):
    """The agent cannot sign right now; nothing has reached the exchange, so trying again is safe."""


class AgentUnavailable(Unavailable, ExchangeNotAvailable):
    """No agent answered; nothing has reached the exchange, so trying again is safe."""


class HttpRequest(NamedTuple):
    url: str
    method: str
    headers: dict
    body: object


def attach(exchange, key, agent):
    """Replaces the exchange object's credentials, its `sign` and its `fetch`."""
    name = known_as(exchange)
    if name is None:
        raise NotSupported(f"countersign does not know {exchange.id}; it knows {', '.join(VENUES)}")
    if STAND_IN in (exchange.apiKey or ""):
        raise ValueError("this exchange object is attached already")
    venue, log_in = VENUES[name], _sockets.LOGINS.get(name)
    signer = _Signer(agent, key, venue, _default_receive_window(exchange))
    exchange.apiKey, exchange.secret, exchange.password = venue.api_key, STAND_IN, STAND_IN
    watches = hasattr(exchange, "watch")
    _refuse_to_sign_here(exchange, at_sockets=watches and log_in is not None)
    send = exchange.fetch

    def fetch(url, method="GET", headers=None, body=None):
        return send(*signer.signed(HttpRequest(url, method, headers, body)))

    async def fetch_without_blocking(url, method="GET", headers=None, body=None):
        request = HttpRequest(url, method, headers, body)
        if signer.concerns(request):
            request = await asyncio.get_running_loop().run_in_executor(None, signer.signed, request)
        return await send(*request)

    exchange.fetch = fetch_without_blocking if inspect.iscoroutinefunction(send) else fetch
    if watches:
        _sockets.Sockets(exchange, log_in, _sockets.Login(key, agent, ask), STAND_IN)
    return exchange


def known_as(exchange):
    """The name of an exchange object's venue; a regional class is known by what it is made of. None where nothing is known."""
    names = (exchange.id, *(kind.__name__ for kind in type(exchange).__mro__))
    return next((name for name in names if name in VENUES), None)


def _default_receive_window(exchange):
    window = exchange.describe().get("options", {}).get("recvWindow")
    return None if window is None else str(window)


def _refuse_to_sign_here(exchange, at_sockets):
    """Makes every signature of `sign`, and of sockets the agent logs in to, the stand-in, and any other an error."""
    build, building = exchange.sign, threading.local()

    def sign(*arguments, **named):
        building.now = True
        try:
            return build(*arguments, **named)
        finally:
            building.now = False

    def no_signature(*_arguments, **_named):
        if at_sockets or getattr(building, "now", False):
            return STAND_IN
        raise NotSupported(f"{exchange.id}: this login is not signed by the agent yet")

    exchange.sign = sign
    exchange.hmac = exchange.rsa = exchange.eddsa = exchange.ecdsa = exchange.jwt = no_signature


def ask(call, *arguments, **named):
    """Asks the agent; what it refuses is ccxt's error as well."""
    try:
        return call(*arguments, **named)
    except Refused as refusal:
        later = refusal.code.startswith(("clock.", "ledger.", "token.")) or refusal.code == "policy.rate"
        kind = RequestUnavailable if later else RequestRefused
        raise kind(refusal.code, refusal.message, refusal.request_id) from refusal
    except Unavailable as error:
        raise AgentUnavailable(str(error)) from error


class _Signer:
    def __init__(self, agent, key, venue, default_receive_window):
        self._agent, self._key, self._venue = agent, key, venue
        self._default_receive_window = default_receive_window

    def concerns(self, request):
        texts = [request.url, request.body or "", *(request.headers or {}).values()]
        return any(STAND_IN in str(text) for text in texts)

    def signed(self, built):
        """The agent's request in place of a private one that ccxt built; a public one as it is."""
        if not self.concerns(built):
            return built
        answer = self._asked(built)
        theirs = dict(answer["headers"])
        replaced = self._venue.headers.union(name.lower() for name in theirs)
        kept = {name: value for name, value in built.headers.items() if name.lower() not in replaced}
        signed = HttpRequest(answer["url"], answer["method"], {**kept, **theirs}, answer["body"])
        if self._business(signed) != self._business(built) or self.concerns(signed):
            raise NotSupported(f"the agent signed another request than ccxt built for {urlsplit(built.url).path}")
        return signed

    def _asked(self, built):
        url = urlsplit(built.url)
        params, params_in = self._params(url, built)
        return ask(self._agent.sign, self._key, built.method, url.path, params, params_in, url.netloc)

    def _params(self, url, built):
        """The business parameters, and where they stand if that is not the exchange's usual place."""
        payload, body = self._payload(built), built.body or ""
        if payload:
            return payload, None
        in_query = self._named(url.query, url.path)
        if in_query and body:
            raise NotSupported("a request with both a query and a body")
        if body.startswith(("{", "[", JSON_IN_A_FORM)):
            return self._unwrapped(body.removeprefix(JSON_IN_A_FORM)), "json"
        return in_query or self._named(body, url.path) or None, None

    def _named(self, text, path):
        params = {}
        for name, value in _pairs(text):
            usual_window = name == "recvWindow" and value == self._default_receive_window
            if name not in self._venue.parameters and not usual_window:
                _put(params, name, _list(value) if path.endswith("/batchOrders") else value)
        return params

    def _payload(self, request):
        """The parameters that stand in a header instead of a body."""
        text = (request.headers or {}).get(self._venue.payload)
        return self._unwrapped(base64.b64decode(text).decode()) if text else None

    def _business(self, request):
        """A request without what the agent sets: equal for what ccxt built and what the agent signed."""
        address, _, query = request.url.partition("?")
        body = self._business_text(request.body or "")
        return request.method, address, self._business_text(query), body, self._payload(request)

    def _business_text(self, text):
        if text.startswith(("{", "[")):
            return self._unwrapped(text)
        managed = self._venue.parameters | {"recvWindow"}
        return "&".join(pair for pair in text.split("&") if pair.partition("=")[0] not in managed)

    def _unwrapped(self, text):
        found = self._venue.wrapping and self._venue.wrapping.fullmatch(text)
        if not found:
            return text
        return found[1] or "{" + found[2]


def _pairs(text):
    for pair in text.split("&") if text else ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise NotSupported(f"a parameter without a value: {name}")
        yield _decoded(name), _decoded(value)


def _decoded(text):
    """The text before percent-encoding; as it is where ccxt sends it unescaped."""
    try:
        plain = unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text
    return plain if text in (quote(plain, safe=""), quote(plain, safe="[]")) else text


def _list(value):
    """A batch as the agent judges it: order by order. ccxt has made it a JSON text."""
    try:
        return json.loads(value) if value.startswith("[") else value
    except ValueError:
        return value


def _put(params, name, value):
    """Places one pair of a query: `a[b]` becomes an object, a name that is repeated an array."""
    match = NESTED_NAME.fullmatch(name)
    if not match:
        raise NotSupported(f"a parameter named {name}")
    *parents, leaf = [match[1], *re.findall(r"\[([^\[\]]+)\]", match[2])]
    for parent in parents:
        params = params.setdefault(parent, {})
        if not isinstance(params, dict):
            raise NotSupported(f"a parameter named {name} beside one named {parent}")
    if leaf not in params:
        params[leaf] = value
    elif isinstance(params[leaf], list):
        params[leaf].append(value)
    elif isinstance(params[leaf], str):
        params[leaf] = [params[leaf], value]
    else:
        raise NotSupported(f"a parameter named {name} that is also an object")
