"""Connections to an agent: one for each question at a time. No connection is shared with another
process.

A question holds a connection until it is answered, so a slow question keeps nobody waiting. No lock
is held meanwhile. A forked process gets connections of its own, so it never waits for a thread that
only its parent has.

Each system call, and each wait for a lock, may hand the interpreter to another thread. A question
needs three system calls: to send it, to wait for the answer, and to read it.
"""

import collections
import contextlib
import os
import queue
import select
import socket
import time

from ._errors import Unavailable
from ._wire import cut, payload

# The agent takes 256 connections of one user at one socket, and one user may have several bots.
MOST = 64
# Largest number of connections that stay open for the next questions.
KEPT = 8
# Largest number of requests that wait for persons at a time, each on a connection of its own. The
# agent allows one for each key.
MOST_WAITING = 64
# Bytes of one read. Nearly every answer is shorter.
READ = 16 * 1024
# Seconds until the next try, if the agent's queue of callers is full.
NEXT_TRY = 0.01


class Link:
    """One connection, opened when it is needed. It carries one question and one answer at a
    time.
    """

    def __init__(self, path):
        self._path = path
        self._socket = self._readable = None
        self._interrupted = False

    def ask(self, extension, frame, deadline):
        """Sends `frame`, a question of this extension, and returns the payload of its answer."""
        try:
            self._send(frame, deadline)
            return payload(extension, self._receive(deadline))
        except BaseException:
            # Bytes that are still on their way belong to this question, so no other may use the
            # connection.
            self.close()
            raise

    def pause(self, seconds):
        """Waits for `seconds`. Raises an `OSError` if the agent goes away, or if nobody waits any
        more.
        """
        if self._socket is None or self._readable.poll(seconds * 1000):
            raise ConnectionResetError("it closed the connection while its answer was waited for")

    def close(self):
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def interrupt(self):
        """Ends the question that another thread asks here; that thread gets an `OSError`. Takes no
        more questions.
        """
        self._interrupted = True
        connection = self._socket
        try:
            if connection is not None:
                connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it was not connected yet, or no longer

    def _send(self, frame, deadline):
        for may_reconnect in (True, False):
            sent = 0
            try:
                connection = self._connected(deadline)
                while sent < len(frame):
                    sent += self._sent(connection, frame[sent:], deadline)
                return
            except (BrokenPipeError, ConnectionResetError):
                # The agent was restarted. Once a byte has left, the question may have been heard:
                # never ask it twice.
                self.close()
                if sent or not may_reconnect:
                    raise

    def _sent(self, connection, data, deadline):
        """Sends a part of `data`. Returns the number of bytes sent."""
        try:
            return connection.send(data)
        except BlockingIOError:
            writable = select.poll()
            writable.register(connection, select.POLLOUT)
            writable.poll(remaining(deadline) * 1000)
            return 0

    def _connected(self, deadline):
        if self._socket is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.setblocking(False)
                self._connect(connection, deadline)
            except BaseException:
                connection.close()
                raise
            self._socket, self._readable = connection, select.poll()
            self._readable.register(connection, select.POLLIN)
        if self._interrupted:
            raise ConnectionAbortedError("nobody waits for the answer any more")
        return self._socket

    def _connect(self, connection, deadline):
        while True:
            try:
                return connection.connect(self._path)
            except BlockingIOError:
                time.sleep(min(NEXT_TRY, remaining(deadline)))

    def _receive(self, deadline):
        """The next frame without its length."""
        data = self._read(deadline)
        if (frame := cut(data)) is None:
            data = bytearray(data)
            while (frame := cut(data)) is None:
                data += self._read(deadline)
        return frame

    def _read(self, deadline):
        while True:
            self._readable.poll(remaining(deadline) * 1000)
            try:
                part = self._socket.recv(READ)
            except BlockingIOError:
                continue  # no answer is there yet; `remaining` checks the time
            if not part:
                raise ConnectionResetError("it closed the connection before it answered")
            return part


class Links:
    """The connections of one process to one agent."""

    def __init__(self, path):
        self.owner = os.getpid()
        self._path = path
        self._places, self._waits = _places(MOST), _places(MOST_WAITING)
        self._idle = collections.deque()
        # Every connection that may be open, so that a fork can close its copies.
        self._all = set()
        self._closed = False

    def ask(self, extension, frame, deadline):
        """Returns the payload of the answer to `frame`, on a connection that nobody else uses
        meanwhile.
        """
        try:
            place = self._places.get(timeout=remaining(deadline))
        except queue.Empty:
            raise socket.timeout(f"timed out: {MOST} questions are on their way") from None
        try:
            link = self._taken()
            try:
                return link.ask(extension, frame, deadline)
            finally:
                self._put_back(link)
        finally:
            self._places.put(place)

    @contextlib.contextmanager
    def waiting(self):
        """A connection for a request that waits for persons."""
        try:
            place = self._waits.get_nowait()
        except queue.Empty:
            raise Unavailable(f"{MOST_WAITING} requests wait for persons already") from None
        link = self.own()
        try:
            yield link
        finally:
            self.drop(link)
            self._waits.put(place)

    def own(self):
        """A connection for one caller alone, who must give it to `drop`."""
        link = Link(self._path)
        self._all.add(link)
        return link

    def drop(self, link):
        link.close()
        self._all.discard(link)

    def close(self):
        """Closes the idle connections now. Each of the others is closed when its question is
        answered.
        """
        self._closed = True
        while self._idle:
            try:
                self.drop(self._idle.pop())
            except IndexError:
                return  # another thread took the last one

    def forget(self):
        """Closes a forked process's copies of its parent's connections. The parent's connections
        stay open.
        """
        for link in self._all:
            link.close()

    def _taken(self):
        try:
            return self._idle.pop()
        except IndexError:
            return self.own()

    def _put_back(self, link):
        if self._closed or len(self._idle) >= KEPT:
            self.drop(link)
            return
        self._idle.append(link)
        if self._closed:  # while it was put back
            self.close()


def _places(count):
    """One place for each question at a time. A free place is taken without a lock."""
    places = queue.SimpleQueue()
    for place in range(count):
        places.put(place)
    return places


def remaining(deadline):
    """The seconds until the deadline. Raises an error if none are left."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise socket.timeout("timed out")
    return seconds
