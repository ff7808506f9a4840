"""Requests as ccxt itself makes them: its own sign() with a fixed clock, and every message that it
signs.
"""

import copy
from typing import NamedTuple

import ccxt
from ccxt.base.exchange import BaseExchange

METHODS = ("get", "post", "put", "delete", "patch")
# A segment of a path that every exchange takes.
SEGMENT = "abc123"


class Endpoint(NamedTuple):
    api: list  # of names, as sign() wants it
    method: str
    path: str


class Built(NamedTuple):
    method: str
    url: str
    headers: dict
    body: object
    messages: list  # of bytes


def exchange(name, auth, library=ccxt, **options):
    """An exchange object with the credentials, the clock and the random numbers of `auth`."""
    made = getattr(library, name)(
        {"apiKey": auth["api_key"], "secret": auth["secret"], "password": auth.get("passphrase")}
    )
    made.options.update(options)
    now = auth["now_ms"]
    made.milliseconds, made.seconds, made.microseconds = (
        lambda: now,
        lambda: now // 1000,
        lambda: now * 1000,
    )
    uuid = auth.get("nonce_uuid") or auth.get("uuid")
    made.uuid = lambda *_: uuid
    made.uuid16 = made.uuid22 = made.random_bytes = lambda *_: auth.get("random16_hex")
    return made


def endpoints(made):
    """Every endpoint of ccxt's own table, in its order."""
    yield from _endpoints(made.describe()["api"], [])


def _endpoints(api, names):
    for name, value in api.items():
        if name.lower() in METHODS:
            for path in value:
                yield Endpoint(names, name.upper(), path.strip())
        elif isinstance(value, dict):
            yield from _endpoints(value, [*names, name])


def build(made, endpoint, params):
    """The request as it would leave; None if ccxt cannot build it. `params` are without those of
    the path.
    """
    names = made.extract_params(endpoint.path)
    whole = {**{name: SEGMENT for name in names}, **copy.deepcopy(params)}
    made.options["lastNonce"] = 0  # it counts up from the clock with every call
    with _Messages() as messages:
        try:
            signed = made.sign(endpoint.path, endpoint.api, endpoint.method, whole)
        except (
            Exception
        ):  # ccxt does not take the request, for any reason: there is nothing to compare with
            return None
    return Built(signed["method"], signed["url"], signed["headers"] or {}, signed["body"], messages)


class _Messages:
    """Remembers the messages for ccxt's cryptography, which computes as always."""

    NAMES = ("hmac", "rsa", "eddsa", "ecdsa")

    def __enter__(self):
        self._messages, self._originals = [], {
            name: BaseExchange.__dict__[name] for name in self.NAMES
        }
        for name, original in self._originals.items():
            setattr(BaseExchange, name, staticmethod(self._remembering(original.__func__)))
        return self._messages

    def _remembering(self, original):
        def sign(request, *arguments, **named):
            self._messages.append(request.encode() if isinstance(request, str) else bytes(request))
            return original(request, *arguments, **named)

        return sign

    def __exit__(self, *_exception):
        for name, original in self._originals.items():
            setattr(BaseExchange, name, original)
