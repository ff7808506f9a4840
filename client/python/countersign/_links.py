"""Connections to an agent: as many as there are questions at a time, none of them shared with another process.

A question holds a connection until it is answered, so that one that takes long keeps nobody waiting. No lock is held
meanwhile, and a fork gets connections of its own: it never waits for a thread that only its parent has.
"""

import collections
import os
import socket
import struct
import threading
import time

from ._errors import Unavailable
from ._wire import MAX_FRAME, payload

# The agent takes 256 connections of one user at one socket, and one user may have several bots.
MOST = 64
# How many stay open for the next questions.
KEPT = 8


class Link:
    """One connection, which is opened when it is needed: one question and one answer at a time."""

    def __init__(self, path):
        self._path = path
        self._socket = None
        self._interrupted = False

    def ask(self, extension, frame, deadline):
        """The payload of the answer to `frame`, which is a question of this extension."""
        try:
            self._send(frame, deadline)
            return payload(extension, self._receive(deadline))
        except BaseException:
            # What is on its way belongs to this question and to no other.
            self.close()
            raise

    def close(self):
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def interrupt(self):
        """Ends a question that another thread asks here, and takes no more; the thread gets an `OSError`."""
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
                    connection.settimeout(remaining(deadline))
                    sent += connection.send(frame[sent:])
                return
            except (BrokenPipeError, ConnectionResetError):
                # The agent was restarted. Once a byte has left, the question may have been heard: never ask it twice.
                self.close()
                if sent or not may_reconnect:
                    raise

    def _connected(self, deadline):
        if self._socket is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(remaining(deadline))
                connection.connect(self._path)
            except BaseException:
                connection.close()
                raise
            self._socket = connection
        if self._interrupted:
            raise ConnectionAbortedError("nobody waits for the answer any more")
        return self._socket

    def _receive(self, deadline):
        (length,) = struct.unpack(">I", self._read(4, deadline))
        if not 1 <= length <= MAX_FRAME:
            raise Unavailable(f"the agent sent a frame of {length} bytes")
        return self._read(length, deadline)

    def _read(self, count, deadline):
        data = bytearray()
        while len(data) < count:
            self._socket.settimeout(remaining(deadline))
            part = self._socket.recv(count - len(data))
            if not part:
                raise ConnectionResetError("it closed the connection before it answered")
            data += part
        return bytes(data)


class Links:
    """The connections of one process to one agent."""

    def __init__(self, path):
        self.owner = os.getpid()
        self._path = path
        self._places = threading.BoundedSemaphore(MOST)
        self._idle = collections.deque()
        # Every connection that may be open, so that a fork can close its copies.
        self._all = set()
        self._closed = False

    def ask(self, extension, frame, deadline):
        """The payload of the answer to `frame`, on a connection that nobody else uses meanwhile."""
        if not self._places.acquire(timeout=remaining(deadline)):
            raise socket.timeout(f"timed out: {MOST} questions are on their way")
        try:
            link = self._taken()
            try:
                return link.ask(extension, frame, deadline)
            finally:
                self._put_back(link)
        finally:
            self._places.release()

    def own(self):
        """A connection for one who waits long; to be given to `drop`."""
        link = Link(self._path)
        self._all.add(link)
        return link

    def drop(self, link):
        link.close()
        self._all.discard(link)

    def close(self):
        """Closes what is not in use now; the rest when its question is answered."""
        self._closed = True
        while self._idle:
            try:
                self.drop(self._idle.pop())
            except IndexError:
                return  # another thread took the last one

    def forget(self):
        """Closes a fork's copies of its parent's connections, which end nothing of the parent's."""
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


def remaining(deadline):
    """The seconds until then; an error once there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise socket.timeout("timed out")
    return seconds
