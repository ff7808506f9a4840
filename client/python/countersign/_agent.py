"""The connection to an agent: a Unix socket, one question and one answer at a time."""

import json
import os
import socket
import struct
import threading
import time

EXTENSION, EXTENSION_RESPONSE = 27, 29
MAX_FRAME = 256 * 1024
MAX_PAYLOAD = 64 * 1024
# How long after its expiry the outcome of a request that waits for approval may take, clocks that differ a little included.
EXPIRY_GRACE_MS = 30_000


class AgentError(Exception):
    """No signature came from the agent; nothing was sent to the exchange."""


class Refused(AgentError):
    """The agent understood the request and refused it; `code` is stable, `message` is for people."""

    def __init__(self, code, message, request_id=None):
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.request_id = code, message, request_id


class Unavailable(AgentError):
    """The agent is not reachable, or did not answer in time or in form."""


SYSTEM_SOCKET = "/run/countersign/agent.sock"


def default_socket():
    """Where the agent listens unless told otherwise: the user's own agent before the system's."""
    if os.environ.get("COUNTERSIGN_SOCK"):
        return os.environ["COUNTERSIGN_SOCK"]
    if os.environ.get("XDG_RUNTIME_DIR"):
        own = os.path.join(os.environ["XDG_RUNTIME_DIR"], "countersign", "agent.sock")
        if os.path.exists(own) or not os.path.exists(SYSTEM_SOCKET):
            return own
    return SYSTEM_SOCKET


# How long an answer may take, in seconds; a signature more, since a YubiKey waits for its touch.
TIMEOUT = 10.0
SIGNING_TIMEOUT = 25.0


class Agent:
    """A countersign agent. Safe to share between threads; a fork gets a connection of its own.

    `timeout` is for each answer, in seconds; without one, as long as the agent may take.
    """

    def __init__(self, path=None, timeout=None):
        self.path = path or default_socket()
        self.timeout = timeout
        self._lock = threading.Lock()
        self._socket = None
        self._owner = None

    def sign(self, key, method, path, params=None, params_in=None, host=None, reason=None):
        """Asks for one signed request: a dict with `method`, `url`, `headers` and `body`, ready to send as it is.

        `params` is a dict, a list, or JSON text, whose order and number texts are kept. Amounts belong in strings.
        Where persons have to approve it, waits until they have, or raises `Refused` once they will not.
        """
        question = {"v": 1, "key": key, "method": method, "path": path}
        optional = {"params_in": params_in, "host": host, "reason": reason}
        question.update((name, value) for name, value in optional.items() if value is not None)
        payload = _dump(question)
        if params is not None:
            payload = f'{payload[:-1]},"params":{_json_text(params)}}}'
        return self._finished(self._ask("sign@countersign", payload, SIGNING_TIMEOUT))

    def session(self, key, purpose="ws", channel=None, challenge=None, symbols=None):
        """Asks for the login of a WebSocket session: a dict with `url`, and `frame` (JSON text) or `headers`.

        Where each channel is signed for, it is named, with its `symbols`; `challenge` is what the exchange sent.
        """
        question = {"v": 1, "key": key, "purpose": purpose}
        optional = {"channel": channel, "challenge": challenge, "symbols": symbols}
        question.update((name, value) for name, value in optional.items() if value is not None)
        return self._finished(self._ask("session@countersign", _dump(question), SIGNING_TIMEOUT))

    def keys(self):
        """Lists the keys this client may use."""
        return self._ask("keys@countersign", '{"v":1}')["keys"]

    def status(self):
        """Says how the agent and its tokens are."""
        return self._ask("status@countersign", '{"v":1}')

    def _finished(self, answer):
        wait_ms = int(self._patience(TIMEOUT) * 500)
        while "pending" in answer:
            pending = answer["pending"]
            if time.time() * 1000 > pending["expires_ms"] + EXPIRY_GRACE_MS:
                raise Unavailable(f"the agent neither signed nor refused {pending['id']} in time")
            question = {"v": 1, "id": pending["id"], "wait_ms": wait_ms}
            answer = self._ask("result@countersign", _dump(question))
        return answer

    def _patience(self, usual):
        return usual if self.timeout is None else self.timeout

    def close(self):
        """Closes the connection; the next question opens another."""
        with self._lock:
            self._drop()

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.close()

    def _ask(self, extension, payload, usual=None):
        frame = _frame(extension, payload)
        with self._lock:
            deadline = time.monotonic() + self._patience(usual or TIMEOUT)
            try:
                self._send(frame, deadline)
                answer = _Body(self._receive(deadline))
            except BaseException as error:
                # What is on its way belongs to this question and to no other.
                self._drop()
                if isinstance(error, OSError):
                    raise Unavailable(f"the agent at {self.path}: {error or 'timed out'}") from error
                raise
        return _understood(answer.extension_payload(extension))

    def _send(self, frame, deadline):
        for may_reconnect in (True, False):
            sent = 0
            try:
                connection = self._connected(deadline)
                while sent < len(frame):
                    connection.settimeout(_remaining(deadline))
                    sent += connection.send(frame[sent:])
                return
            except (BrokenPipeError, ConnectionResetError):
                # The agent was restarted. Once a byte has left, the question may have been heard: never ask it twice.
                self._drop()
                if sent or not may_reconnect:
                    raise

    def _connected(self, deadline):
        if self._socket is None or self._owner != os.getpid():
            self._drop()
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(_remaining(deadline))
                connection.connect(self.path)
            except BaseException:
                connection.close()
                raise
            self._socket, self._owner = connection, os.getpid()
        return self._socket

    def _receive(self, deadline):
        (length,) = struct.unpack(">I", self._read(4, deadline))
        if not 1 <= length <= MAX_FRAME:
            raise Unavailable(f"the agent sent a frame of {length} bytes")
        return self._read(length, deadline)

    def _read(self, count, deadline):
        data = bytearray()
        while len(data) < count:
            self._socket.settimeout(_remaining(deadline))
            part = self._socket.recv(count - len(data))
            if not part:
                raise ConnectionResetError("it closed the connection before it answered")
            data += part
        return bytes(data)

    def _drop(self):
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Body:
    """One answer's bytes, read from the front."""

    def __init__(self, data):
        self._data = data

    def extension_payload(self, extension):
        kind, self._data = self._data[0], self._data[1:]
        if kind != EXTENSION_RESPONSE:
            raise Unavailable(f"the agent answered {extension} with message {kind}")
        if self._string() != extension.encode():
            raise Unavailable(f"the agent answered another question than {extension}")
        payload = self._string()
        if self._data:
            raise Unavailable("the agent's answer has bytes too many")
        return payload

    def _string(self):
        if len(self._data) < 4:
            raise Unavailable("the agent's answer is cut short")
        (length,) = struct.unpack(">I", self._data[:4])
        string, rest = self._data[4 : 4 + length], self._data[4 + length :]
        if len(string) != length:
            raise Unavailable("the agent's answer is cut short")
        self._data = rest
        return string


def _frame(extension, payload):
    data = payload.encode()
    if len(data) > MAX_PAYLOAD:
        raise ValueError(f"the request is longer than {MAX_PAYLOAD} bytes")
    name = extension.encode()
    body = struct.pack(">BI", EXTENSION, len(name)) + name + struct.pack(">I", len(data)) + data
    return struct.pack(">I", len(body)) + body


def _understood(payload):
    try:
        answer = json.loads(payload)
    except ValueError as error:
        raise Unavailable("the agent's answer is not JSON") from error
    if not isinstance(answer, dict) or answer.get("v") != 1:
        raise Unavailable("the agent speaks another version of the protocol")
    if "error" in answer:
        error = answer["error"]
        raise Refused(error["code"], error["message"], error.get("request_id"))
    return answer


def _remaining(deadline):
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise socket.timeout("timed out")
    return remaining


def _dump(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _json_text(params):
    if not isinstance(params, str):
        return _dump(params)
    if not isinstance(json.loads(params), (dict, list)):
        raise ValueError("params is neither an object nor an array")
    return params
