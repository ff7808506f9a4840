"""The agent as ccxt's objects ask it: an event loop goes on meanwhile, and its refusals are ccxt's errors as well."""

from ccxt.base.errors import ExchangeNotAvailable, PermissionDenied

from . import _calls
from ._errors import Refused, Unavailable


class RequestRefused(Refused, PermissionDenied):
    """The agent refused the request; to a bot that knows ccxt alone, a permission is missing."""


class RequestUnavailable(Refused, ExchangeNotAvailable):
    """The agent cannot sign right now; nothing has reached the exchange, so trying again is safe."""


class AgentUnavailable(Unavailable, ExchangeNotAvailable):
    """No agent answered; nothing has reached the exchange, so trying again is safe."""


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


async def in_thread(call, *arguments):
    """What `call` returns, which asks the agent; where no thread can be had for it, that is ccxt's error as well."""
    try:
        return await _calls.in_thread(call, *arguments)
    except AgentUnavailable:
        raise
    except Unavailable as error:
        raise AgentUnavailable(str(error)) from error
