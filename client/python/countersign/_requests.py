"""Takes a request that ccxt built apart for the agent, and compares it with the request that the
agent signed.
"""

import base64
import json
import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from ccxt.base.errors import NotSupported

NESTED_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]+\])*)")
JSON_IN_A_FORM = "json="  # a batch of orders of Kraken Futures
# Names under which Binance's unescaped forms may hold letters of any script.
INSTRUMENTS = ("asset", "batchOrders", "coin", "symbol")
DELIMITERS = re.compile(r"[\x00-\x20\x7f#%&+;=?]")
# Longest value that an error shows, in characters.
SHOWN = 60


class HttpRequest(NamedTuple):
    url: str
    method: str
    headers: dict
    body: object


class Built:
    """A request that ccxt built for one venue. The usual receive window is not passed on: the agent
    sets it.
    """

    def __init__(self, request, venue, default_receive_window):
        self.request, self._venue = request, venue
        self._default_receive_window = default_receive_window
        self.path = urlsplit(request.url).path

    def params(self):
        """The business parameters, and their place if that is not the exchange's usual one."""
        payload, body = _payload(self.request, self._venue), self.request.body or ""
        if payload:
            return payload, None
        in_query = self._named(urlsplit(self.request.url).query)
        if in_query and body:
            raise NotSupported("a request with both a query and a body")
        if body.startswith(("{", "[", JSON_IN_A_FORM)):
            return _unwrapped(body.removeprefix(JSON_IN_A_FORM), self._venue), "json"
        return in_query or self._named(body) or None, None

    def _named(self, text):
        params, unescaped = {}, self._is_unescaped()
        for pair in text.split("&") if text else ():
            name, equals, value = pair.partition("=")
            if not equals:
                raise NotSupported(f"a parameter without a value: {_shown(name)}")
            if unescaped:
                self._check(name, value)
            else:
                name, value = _decoded(name), _decoded(value)
            usual_window = name == "recvWindow" and value == self._default_receive_window
            if name not in self._venue.parameters and not usual_window:
                _put(params, name, _list(value) if self.path.endswith("/batchOrders") else value)
        return params

    def _is_unescaped(self):
        unescaped = self._venue.unescaped
        return unescaped is not None and unescaped(self.request.method, self.path)

    def _check(self, name, value):
        """Refuses a value that the exchange would read as another value."""
        in_query = not self.request.body
        foreign = not value.isascii() and (in_query or name not in INSTRUMENTS)
        if self._venue.escaped_only and (foreign or DELIMITERS.search(value)):
            raise NotSupported(
                f"ccxt sends the parameter {name!r} of {self.path} unescaped, and the exchange "
                f"would not read it as {_shown(value)}: ask for this request by Agent().sign, "
                "which escapes it"
            )


def difference(built, signed, venue):
    """Says in which part the agent's request differs from ccxt's. Parts that the agent sets do not
    count. None if nothing differs.
    """
    if built.method != signed.method:
        return f"its method is {signed.method} in place of {built.method}"
    ours, _, our_query = built.url.partition("?")
    theirs, _, their_query = signed.url.partition("?")
    if ours != theirs:
        return f"its address is {_shown(theirs)} in place of {_shown(ours)}"
    return (
        _text_difference(our_query, their_query, venue)
        or _text_difference(built.body or "", signed.body or "", venue)
        or _text_difference(_payload(built, venue) or "", _payload(signed, venue) or "", venue)
    )


def _text_difference(ours, theirs, venue):
    one, other = (_business_pairs(text, venue) for text in (ours, theirs))
    if one == other:
        return None
    for name, value in one:
        if (name, value) not in other:
            found = [theirs for known, theirs in other if known == name]
            signed = _shown(found[0]) if found else "left out"
            written = f"ccxt writes the parameter {name!r} as {_shown(value)}"
            return f"{written}, the agent signs it as {signed}"
    added = [name for name, value in other if (name, value) not in one]
    return (
        f"the agent signs the parameter {added[0]!r}, which ccxt does not send"
        if added
        else "the order differs"
    )


def _business_pairs(text, venue):
    """The pairs of a query or form, without those that the agent sets. A JSON text is one pair.
    Equal texts have equal pairs.
    """
    if text.startswith(("{", "[")):
        return [("(JSON)", _unwrapped(text, venue))]
    managed = venue.parameters | {"recvWindow"}
    pairs = [pair.partition("=")[::2] for pair in text.split("&")] if text else []
    return [pair for pair in pairs if pair[0] not in managed]


def _payload(request, venue):
    """The parameters, if they are in a header instead of the body."""
    text = (request.headers or {}).get(venue.payload)
    return _unwrapped(base64.b64decode(text).decode(), venue) if text else None


def _unwrapped(text, venue):
    found = venue.wrapping and venue.wrapping.fullmatch(text)
    if not found:
        return text
    return found[1] or "{" + found[2]


def _decoded(text):
    """Decodes a percent-encoded text. If the result is not UTF-8, the text stays as it is."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text


def _list(value):
    """A batch as a list, because the agent judges each order. ccxt has written it as JSON text."""
    try:
        return json.loads(value) if value.startswith("[") else value
    except ValueError:
        return value


def _put(params, name, value):
    """Puts one pair of a query into `params`. `a[b]` becomes an object; a repeated name becomes an
    array.
    """
    match = NESTED_NAME.fullmatch(name)
    if not match:
        raise NotSupported(f"a parameter named {_shown(name)}")
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


def _shown(value):
    text = repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
