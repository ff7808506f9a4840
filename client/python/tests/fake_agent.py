"""An agent in a thread that behaves as a test wants, well or badly. It tests the client, never the
signatures.
"""

import json
import os
import socket
import struct
import tempfile
import threading


def frame(extension, payload, kind=29):
    name = extension.encode()
    body = struct.pack(">BI", kind, len(name)) + name + struct.pack(">I", len(payload)) + payload
    return struct.pack(">I", len(body)) + body


def answer(value):
    """A behaviour that answers every question with `value`."""
    return lambda connection, extension, _payload: connection.sendall(
        frame(extension, json.dumps(value).encode())
    )


class FakeAgent:
    """Listens on `path`. `behave(connection, extension, payload)` answers, and returns False to
    hang up.
    """

    def __init__(self, behave):
        self.behave = behave
        self.asked = []
        self.connections = 0
        self._directory = tempfile.TemporaryDirectory()
        self.path = os.path.join(self._directory.name, "agent.sock")
        self._open = []
        self.listen()

    def listen(self):
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self):
        """Goes away as a stopped agent does: the socket is removed, and every connection is
        closed.
        """
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        os.unlink(self.path)
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the peer was faster
        self._open.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.stop()
        self._directory.cleanup()

    def _accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection, connection.makefile("rb") as stream:
            while len(head := stream.read(4)) == 4:
                extension, payload = _parse(stream.read(struct.unpack(">I", head)[0]))
                self.asked.append((extension, payload))
                try:
                    if self.behave(connection, extension, payload) is False:
                        return
                except BrokenPipeError:
                    return  # the client did not wait


def _parse(body):
    assert body[0] == 27, "not an extension request"
    (length,) = struct.unpack(">I", body[1:5])
    name, rest = body[5 : 5 + length], body[5 + length :]
    (length,) = struct.unpack(">I", rest[:4])
    assert len(rest) == 4 + length, "trailing bytes"
    return name.decode(), rest[4:].decode()
