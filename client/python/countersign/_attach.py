"""Lets an agent sign for a ccxt exchange: ccxt builds the request, the agent signs it, ccxt sends
it.

ccxt changes parameters while it builds a request: broker ids, client order ids, batches as JSON
text. So the agent judges the finished request. `sign` runs with stand-ins for the credentials.
`fetch` takes the finished request apart, asks the agent for the same request, and sends the
agent's.

An attached object has a class of its own, derived from ccxt's. Its copies, including pickled ones,
ask the agent as well. They have sessions and settings of their own, as copies of ccxt's objects do.
"""

import contextvars
import copyreg
import functools
import inspect
import types
from urllib.parse import urlsplit

from ccxt.base.errors import NotSupported

from . import _sockets
from ._asking import ask, in_thread
from ._requests import Built, HttpRequest, difference
from ._venues import STAND_IN, VENUES

# True while this thread or task is inside `sign`, whose signatures are never sent.
_building = contextvars.ContextVar("building", default=False)
# The user may have set these methods on the object itself. Then they are called in place of the
# class's methods.
_WRAPPED = ("client", "fetch", "sign", "watch", "watch_multiple")
_SIGNATURES = ("ecdsa", "eddsa", "hmac", "jwt", "rsa")


def attach(exchange, key, agent):
    """Replaces the exchange object's credentials, its `sign` and its `fetch`."""
    name = known_as(exchange)
    if name is None:
        raise NotSupported(f"countersign does not know {exchange.id}; it knows {', '.join(VENUES)}")
    if STAND_IN in (exchange.apiKey or "") or isinstance(exchange, _Attached):
        raise ValueError("this exchange object is attached already")
    venue, log_in = VENUES[name], _sockets.LOGINS.get(name)
    watches = hasattr(exchange, "watch")
    kinds = [_Asynchronous if inspect.iscoroutinefunction(exchange.fetch) else _Synchronous]
    if watches:
        kinds.append(_Watching)
    exchange.apiKey, exchange.secret, exchange.password = venue.api_key, STAND_IN, STAND_IN
    exchange.countersign = _Attachment(
        signer=_Signer(agent, key, name, _default_receive_window(exchange)),
        login=_sockets.Login(key, agent),
        name=name,
        signed_at_sockets=watches and log_in is not None,
        own={name: vars(exchange).pop(name) for name in _WRAPPED if name in vars(exchange)},
    )
    for name in _SIGNATURES:
        vars(exchange).pop(name, None)
    exchange.__class__ = _class_of(type(exchange), *kinds)
    return exchange


def known_as(exchange):
    """The name of an exchange object's venue. A regional class is known by its base classes. None
    if the exchange is not known.
    """
    names = (exchange.id, *(kind.__name__ for kind in type(exchange).__mro__))
    return next((name for name in names if name in VENUES), None)


def _default_receive_window(exchange):
    window = exchange.describe().get("options", {}).get("recvWindow")
    return None if window is None else str(window)


class _Attachment:
    """The attributes that an attached object has beyond ccxt's own."""

    def __init__(self, signer, login, name, signed_at_sockets, own):
        self.signer, self.login, self.name = signer, login, name
        self.signed_at_sockets, self.own = signed_at_sockets, own


class _Signer:
    def __init__(self, agent, key, name, default_receive_window):
        self._agent, self._key, self._name = agent, key, name
        self._default_receive_window = default_receive_window

    def concerns(self, request):
        texts = [request.url, request.body or "", *(request.headers or {}).values()]
        return any(STAND_IN in str(text) for text in texts)

    def signed(self, request):
        """Returns the agent's request in place of a private one that ccxt built. A public one is
        returned as it is.
        """
        if not self.concerns(request):
            return request
        venue = VENUES[self._name]
        answer = self._asked(Built(request, venue, self._default_receive_window))
        theirs = dict(answer["headers"])
        replaced = venue.headers.union(name.lower() for name in theirs)
        kept = {
            name: value for name, value in request.headers.items() if name.lower() not in replaced
        }
        signed = HttpRequest(answer["url"], answer["method"], {**kept, **theirs}, answer["body"])
        differs = difference(request, signed, venue)
        if differs or self.concerns(signed):
            why = differs or "it holds what stands for a secret"
            raise NotSupported(
                "the agent signed another request than ccxt built for "
                f"{urlsplit(request.url).path}: {why}"
            )
        return signed

    def _asked(self, built):
        params, params_in = built.params()
        host = urlsplit(built.request.url).netloc
        return ask(
            self._agent.sign, self._key, built.request.method, built.path, params, params_in, host
        )


class _Attached:
    """The methods in which an attached object differs from its class."""

    def sign(self, *arguments, **named):
        outside = _building.set(True)
        try:
            return self._own("sign")(*arguments, **named)
        finally:
            _building.reset(outside)

    def _no_signature(self, *_arguments, **_named):
        """Returns the stand-in as every signature that `sign` makes, and as every signature for a
        socket that the agent logs in to. Any other signature is an error.
        """
        if self.countersign.signed_at_sockets or _building.get():
            return STAND_IN
        raise NotSupported(f"{self.id}: this login is not signed by the agent yet")

    hmac = rsa = eddsa = ecdsa = jwt = _no_signature

    def __reduce_ex__(self, protocol):
        make, arguments, *rest = super().__reduce_ex__(max(protocol, 2))
        if make is not copyreg.__newobj__ or len(arguments) != 1:
            raise TypeError(
                f"{self.id}: an attached object whose class says itself how it is copied cannot be "
                "copied"
            )
        return (_new, self._made_of, *rest)

    def _own(self, name):
        """The method that is called without an agent."""
        return self.countersign.own.get(name) or types.MethodType(
            getattr(self._made_of[0], name), self
        )


class _Synchronous(_Attached):
    def fetch(self, url, method="GET", headers=None, body=None):
        return self._own("fetch")(
            *self.countersign.signer.signed(HttpRequest(url, method, headers, body))
        )


class _Asynchronous(_Attached):
    async def fetch(self, url, method="GET", headers=None, body=None):
        request, signer = HttpRequest(url, method, headers, body), self.countersign.signer
        if signer.concerns(request):
            request = await in_thread(signer.signed, request)
        return await self._own("fetch")(*request)


class _Watching:
    def watch(self, *arguments, **named):
        return self._sockets().watch(*arguments, **named)

    def watch_multiple(self, *arguments, **named):
        return self._sockets().watch_multiple(*arguments, **named)

    def client(self, url):
        return self._sockets().client(url)

    def _sockets(self):
        own = {name: self._own(name) for name in ("client", "watch", "watch_multiple")}
        return _sockets.Sockets(
            self, own, _sockets.LOGINS.get(self.countersign.name), self.countersign.login, STAND_IN
        )


@functools.lru_cache(maxsize=None)
def _class_of(kind, *kinds):
    """The class of an attached object: `kinds` come before the class of ccxt's that it is made
    of.
    """
    members = {
        "__doc__": kind.__doc__,
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
    }
    return type(kind.__name__, (*kinds, kind), {**members, "_made_of": (kind, *kinds)})


def _new(*made_of):
    """An empty object. Copying fills in its attributes."""
    made = _class_of(*made_of)
    return made.__new__(made)
