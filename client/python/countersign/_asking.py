"""Asks the agent for ccxt's objects. An event loop goes on meanwhile, and a refusal is an error of
ccxt's as well.
"""

from ccxt.base.errors import ExchangeNotAvailable, PermissionDenied

from . import _calls
from ._errors import Refused, Unavailable


class RequestRefused(Refused, PermissionDenied):
    """The agent refused the request. A bot that knows only ccxt sees that a permission is
    missing.
    """


class RequestUnavailable(Refused, ExchangeNotAvailable):
    """The agent cannot sign now. Nothing has reached the exchange, so trying again is safe."""


class AgentUnavailable(Unavailable, ExchangeNotAvailable):
    """No agent answered. Nothing has reached the exchange, so trying again is safe."""


def ask(call, *arguments, **named):
    """Asks the agent. A refusal is an error of ccxt's as well."""
    try:
        return call(*arguments, **named)
    except Refused as refusal:
        later = (
            refusal.code.startswith(("clock.", "ledger.", "token."))
            or refusal.code == "policy.rate"
        )
        kind = RequestUnavailable if later else RequestRefused
        raise kind(refusal.code, refusal.message, refusal.request_id) from refusal
    except Unavailable as error:
        raise AgentUnavailable(str(error)) from error


async def in_thread(call, *arguments):
    """Runs `call`, which asks the agent, in a thread and returns its result. If there is no thread
    for it, the error is one of ccxt's as well.
    """
    try:
        return await _calls.in_thread(call, *arguments)
    except AgentUnavailable:
        raise
    except Unavailable as error:
        raise AgentUnavailable(str(error)) from error
