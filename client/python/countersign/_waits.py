"""Follows a request that waits for persons, from the agent's first answer about it to its
outcome.
"""

import contextlib
import time

from ._calls import current
from ._errors import Refused, Unavailable

# Longest wait for the outcome after the request's expiry. Clocks may differ a little.
EXPIRY_GRACE_MS = 30_000
# Shortest time that one question for the outcome waits at the agent.
LEAST_MS = 1_000
# The first and the longest pause after a question that came too often, in seconds. The agent
# forgets a client that is silent for 30 s.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 5.0


def outcome(pending, patience, ask, pause):
    """Returns the finished request, or raises the agent's refusal of it.

    `ask(question, seconds)` asks for the outcome and waits no longer than `seconds`.
    `pause(seconds)` waits before the next question.
    """
    wait_ms = max(LEAST_MS, int(patience * 500))
    pauses, answer = FIRST_PAUSE, None
    while answer is None or "pending" in answer:
        pending = answer["pending"] if answer else pending
        left = (pending["expires_ms"] + EXPIRY_GRACE_MS) / 1000 - time.time()
        if left <= 0:
            raise Unavailable(f"the agent neither signed nor refused {pending['id']} in time")
        try:
            answer = ask(
                {"v": 1, "id": pending["id"], "wait_ms": wait_ms}, wait_ms / 1000 + patience / 2
            )
            pauses = FIRST_PAUSE
        except Refused as refusal:
            if not _is_of_the_question(refusal):
                raise
            pause(min(pauses, left))
            pauses, answer = min(2 * pauses, LONGEST_PAUSE), None
    return answer


def _is_of_the_question(refusal):
    """True if the question was refused because the client asks too often. A refusal of the request
    itself has the request's id.
    """
    return refusal.code == "policy.rate" and refusal.request_id is None


def interruptible(interrupt):
    """If an event loop asks, has `interrupt` called once nobody waits any more."""
    call = current()
    return call.waiting_for_a_person(interrupt) if call else contextlib.nullcontext()
