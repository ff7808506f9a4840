"""Client of the countersign agent. The bot asks, the agent judges, and the token signs. The bot has
no secret.

    from countersign import Agent, Refused, attach

    attach(ccxt.binance(), key="binance-mm")            # ccxt as before, without a secret
    Agent().sign("binance-mm", "GET", "/api/v3/account")  # or without ccxt
"""

from ._agent import Agent
from ._errors import AgentError, Refused, Unavailable

__all__ = ["Agent", "AgentError", "Refused", "Unavailable", "attach"]


def attach(exchange, key, agent=None):
    """Lets `agent` sign for a ccxt exchange object (sync, async or pro) with the key named `key`.
    Returns the object.
    """
    from ._attach import attach as attach_exchange  # needs ccxt, which only callers of attach have

    return attach_exchange(exchange, key, agent or Agent())
