"""Threads in which an event loop asks the agent, so that the loop goes on meanwhile.

They are of this module alone: the loop's own are few, and a question that waits for a person would hold one of them for
minutes. A question whose task was cancelled is given up: what waits for a person at the agent is cancelled there too.
"""

import asyncio
import collections
import os
import queue
import threading

# How long a thread stays for the next question, in seconds.
IDLE = 5.0

_here = threading.local()


class Call:
    """One question that a thread asks for a task."""

    def __init__(self, function, arguments):
        self._function, self._arguments = function, arguments
        self._loop = asyncio.get_running_loop()
        self.future = self._loop.create_future()
        self.given_up = False
        self._interrupt = None

    def run(self):
        if self.given_up:
            return
        _here.call = self
        try:
            self._finish(self._function(*self._arguments), None)
        except BaseException as error:
            self._finish(None, error)
        finally:
            _here.call = None

    def give_up(self):
        """Nobody waits for it any more."""
        self.given_up = True
        if self._interrupt is not None:
            self._interrupt()

    def interrupt_by(self, interrupt):
        """Has `interrupt` called, from the loop's thread, once nobody waits any more."""
        self._interrupt = interrupt
        if self.given_up and interrupt is not None:
            interrupt()

    def _finish(self, result, error):
        try:
            self._loop.call_soon_threadsafe(self._settle, result, error)
        except RuntimeError:
            pass  # the loop was closed: nobody waits

    def _settle(self, result, error):
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


class _Threads:
    """Those of one process that are alive: each has a queue, which is idle while no call is in it."""

    def __init__(self):
        self.owner = os.getpid()
        self._idle = collections.deque()

    def run(self, call):
        try:
            calls = self._idle.pop()
        except IndexError:
            calls = queue.SimpleQueue()
            threading.Thread(target=self._work, args=(calls,), name="countersign", daemon=True).start()
        calls.put(call)

    def _work(self, calls):
        while (call := self._next(calls)) is not None:
            call.run()
            del call
            self._idle.append(calls)

    def _next(self, calls):
        try:
            return calls.get(timeout=IDLE)
        except queue.Empty:
            pass
        try:
            self._idle.remove(calls)
            return None
        except ValueError:
            return calls.get()  # somebody took it a moment ago


_threads = _Threads()


async def in_thread(function, *arguments):
    """What `function` returns, called in a thread; `Agent` sees there when the task is cancelled."""
    global _threads
    if _threads.owner != os.getpid():
        _threads = _Threads()  # threads do not come along with a fork
    call = Call(function, arguments)
    _threads.run(call)
    try:
        return await call.future
    except asyncio.CancelledError:
        call.give_up()
        raise


def current():
    """The call of this thread, where it asks for a task; None in any other."""
    return getattr(_here, "call", None)
