"""The calls that a bot makes to the agent."""

import os
import time
import weakref

from ._calls import current
from ._errors import AgentError, Refused, Unavailable
from ._links import Links
from ._waits import interruptible, outcome
from ._wire import frame, json_text, params_text, understood

CANCEL = "cancel@countersign"
SYSTEM_SOCKET = "/run/countersign/agent.sock"


def default_socket():
    """The path of the agent's socket: $COUNTERSIGN_SOCK, else the user's own agent, else the
    system's.
    """
    if os.environ.get("COUNTERSIGN_SOCK"):
        return os.environ["COUNTERSIGN_SOCK"]
    if os.environ.get("XDG_RUNTIME_DIR"):
        own = os.path.join(os.environ["XDG_RUNTIME_DIR"], "countersign", "agent.sock")
        if os.path.exists(own) or not os.path.exists(SYSTEM_SOCKET):
            return own
    return SYSTEM_SOCKET


# Longest wait for an answer, in seconds. A signature may take longer, because a YubiKey waits for
# its touch.
TIMEOUT = 10.0
SIGNING_TIMEOUT = 25.0
# Longest wait, in seconds, when a request is cancelled.
CANCELLING_TIMEOUT = 1.0


class Agent:
    """A countersign agent. Threads may share it. A forked process gets connections of its own.

    `timeout` is the longest wait for each answer, in seconds. It includes the waits inside this
    client. By default the client waits for as long as the agent may take.
    """

    def __init__(self, path=None, timeout=None):
        self.path = path or default_socket()
        self.timeout = timeout
        self._begin()

    def _begin(self):
        self._links = Links(self.path)
        _agents.add(self)

    def sign(self, key, method, path, params=None, params_in=None, host=None, reason=None):
        """Asks for one signed request: a dict with `method`, `url`, `headers` and `body`, ready to
        send as it is.

        `params` is a dict, a list, or JSON text. The order of names and the text of numbers are
        kept. Amounts belong in strings; a `Decimal` or a float is written with all its digits and
        without an exponent. If persons must approve the request, this call waits until they have,
        or raises `Refused` if they do not. If the caller stops waiting, by an exception or by
        cancelling the task, the agent cancels the request.
        """
        question = {"v": 1, "key": key, "method": method, "path": path}
        optional = {"params_in": params_in, "host": host, "reason": reason}
        question.update((name, value) for name, value in optional.items() if value is not None)
        payload = json_text(question)
        if params is not None:
            payload = f'{payload[:-1]},"params":{params_text(params)}}}'
        return self._finished(self._ask("sign@countersign", payload, SIGNING_TIMEOUT))

    def session(self, key, purpose="ws", channel=None, challenge=None, symbols=None):
        """Asks for the login of a WebSocket session: a dict with `url`, and `frame` (JSON text) or
        `headers`.

        Some exchanges want a signature for each channel: name the `channel` and its `symbols`.
        `challenge` is the text that the exchange sent to be signed.
        """
        question = {"v": 1, "key": key, "purpose": purpose}
        optional = {"channel": channel, "challenge": challenge, "symbols": symbols}
        question.update((name, value) for name, value in optional.items() if value is not None)
        return self._finished(
            self._ask("session@countersign", json_text(question), SIGNING_TIMEOUT)
        )

    def keys(self):
        """Lists the keys this client may use."""
        return self._ask("keys@countersign", '{"v":1}')["keys"]

    def status(self):
        """Returns the state of the agent and its tokens."""
        return self._ask("status@countersign", '{"v":1}')

    def close(self):
        """Closes the connections. The next question opens a new one."""
        links, self._links = self._own_links(), Links(self.path)
        links.close()

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.close()

    def __getstate__(self):
        """A copy, in this process or another, has connections of its own."""
        return {name: value for name, value in vars(self).items() if name != "_links"}

    def __setstate__(self, state):
        vars(self).update(state)
        self._begin()

    def _finished(self, answer):
        """Returns the final answer. If persons must approve the request, waits for them on a
        connection of its own.
        """
        if "pending" not in answer:
            return answer
        pending, links = answer["pending"], self._own_links()
        try:
            with links.waiting() as link, interruptible(link.interrupt):
                return self._outcome(pending, link)
        except Refused:
            raise
        except BaseException:
            self._cancel(pending["id"])
            raise

    def _outcome(self, pending, link):
        def ask(question, seconds):
            return self._answer("result@countersign", json_text(question), _in(seconds), link)

        try:
            return outcome(pending, self._patience(TIMEOUT), ask, link.pause)
        except OSError as error:
            raise self._unreachable(error) from error

    def _cancel(self, request_id):
        """Tells the agent that nobody waits for a request, so that it asks no person in vain."""
        link = self._own_links().own()
        try:
            question = frame(CANCEL, json_text({"v": 1, "id": request_id}))
            understood(link.ask(CANCEL, question, _in(CANCELLING_TIMEOUT)))
        except (AgentError, OSError):
            pass  # the agent cancels a request that nobody asks about
        finally:
            self._own_links().drop(link)

    def _patience(self, usual):
        return usual if self.timeout is None else self.timeout

    def _ask(self, extension, payload, usual=None):
        call, patience = current(), self._patience(usual or TIMEOUT)
        return self._answer(
            extension, payload, _in(patience - (call.waited if call else 0)), self._own_links()
        )

    def _answer(self, extension, payload, deadline, links):
        question = frame(extension, payload)
        try:
            answer = links.ask(extension, question, deadline)
        except OSError as error:
            raise self._unreachable(error) from error
        return understood(answer)

    def _unreachable(self, error):
        return Unavailable(f"the agent at {self.path}: {error or 'timed out'}")

    def _own_links(self):
        """The connections of this process."""
        if self._links.owner != os.getpid():
            self._forget()
        return self._links

    def _forget(self):
        inherited, self._links = self._links, Links(self.path)
        inherited.forget()


def _in(seconds):
    return time.monotonic() + seconds


_agents = weakref.WeakSet()


def _forget_all():
    """A forked process closes its copies of the connections at once. Otherwise the agent would not
    see when the parent closes them.
    """
    for agent in list(_agents):
        agent._forget()


os.register_at_fork(after_in_child=_forget_all)
