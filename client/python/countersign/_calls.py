"""Threads in which an event loop asks the agent, so that the loop goes on meanwhile.

Only this module uses these threads, and they are few. A question that waits for a person does not
count as one of the few, however long it waits. A question whose task was cancelled does not count
either. If it waits for a person, it is cancelled at the agent too.
"""

import asyncio
import contextlib
import os
import queue
import threading
import time

from ._errors import Unavailable

# Largest number of threads that ask at a time, in one process. More questions wait for a free
# thread. The wait counts against the question's timeout.
MOST = 32
# Largest number of threads that are left out of MOST because nobody waits for their answers any
# more. Further threads of that kind count as threads that ask.
MOST_GIVEN_UP = 32
# Seconds that an idle thread waits for the next question.
IDLE = 5.0

_here = threading.local()


class Call:
    """One question that a thread asks for a task."""

    def __init__(self, function, arguments):
        self._function, self._arguments = function, arguments
        self._loop = asyncio.get_running_loop()
        self._made = time.monotonic()
        self.future = self._loop.create_future()
        self.given_up = False
        # Set once a thread has the call: the threads it belongs to, True if it counts as one of
        # MOST, and True if it counts as one of MOST_GIVEN_UP.
        self.threads, self.counted, self.lingers = None, False, False
        # The seconds that it waited for a thread.
        self.waited = 0.0
        self._interrupt = None

    def run(self):
        self.waited = time.monotonic() - self._made
        _here.call = self
        try:
            self.settle(self._function(*self._arguments), None)
        except BaseException as error:
            self.settle(None, error)
        finally:
            _here.call = None

    def give_up(self):
        """Called when nobody waits for the call any more."""
        self.given_up = True
        if self._interrupt is not None:
            self._interrupt()
        elif self.threads is not None:
            self.threads.leave(self)

    @contextlib.contextmanager
    def waiting_for_a_person(self, interrupt):
        """Has `interrupt` called, from the loop's thread, once nobody waits any more."""
        self._interrupt = interrupt
        if self.given_up:
            interrupt()
        self.threads.leave(self)
        try:
            yield
        finally:
            self._interrupt = None

    def settle(self, result, error):
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


class Threads:
    """The threads of one process. The lock is held for a few steps only, and never while the agent
    is asked.
    """

    def __init__(self):
        self.owner = os.getpid()
        self._lock = threading.Lock()
        self._calls = queue.SimpleQueue()
        # The number of threads that take calls, and of the calls that they run or will run.
        self._threads = self._due = 0
        self._given_up = 0

    def run(self, call):
        with self._lock:
            self._due += 1
            self._calls.put(call)
            wanted = self._count_one_more()
        if wanted:
            self._start()

    def leave(self, call):
        """Makes room for another thread: this call takes long, or nobody waits for it."""
        with self._lock:
            if not call.counted or (call.given_up and self._given_up >= MOST_GIVEN_UP):
                return
            call.counted, call.lingers = False, call.given_up
            self._given_up += call.lingers
            self._threads -= 1
            self._due -= 1
            wanted = self._count_one_more()
        if wanted:
            self._start()

    def _count_one_more(self):
        """Counts one more thread if one must be started. Returns True if so."""
        wanted = self._threads < min(self._due, MOST)
        self._threads += wanted
        return wanted

    def _start(self):
        try:
            threading.Thread(target=self._work, name="countersign", daemon=True).start()
        except (MemoryError, RuntimeError) as error:
            reason = f"no thread to ask the agent in: {error or 'no memory'}"
            for call in self._stranded():
                call.settle(None, Unavailable(reason))

    def _stranded(self):
        """The calls that no thread takes, after a counted thread could not be started."""
        stranded = []
        with self._lock:
            self._threads -= 1
            while not self._threads and not self._calls.empty():
                stranded.append(self._calls.get_nowait())
                self._due -= 1
        return stranded

    def _work(self):
        while (call := self._next()) is not None:
            if self._has(call):
                call.run()
            if not self._is_done(call):
                return
            del call

    def _next(self):
        while True:
            try:
                return self._calls.get(timeout=IDLE)
            except queue.Empty:
                pass
            with self._lock:
                if self._calls.empty():
                    self._threads -= 1
                    return None

    def _has(self, call):
        """Takes a call, unless it was given up before."""
        with self._lock:
            call.threads, call.counted = self, True
            return not call.given_up

    def _is_done(self, call):
        """True if the thread of this call still takes calls."""
        with self._lock:
            if call.counted:
                call.counted = False
                self._due -= 1
                return True
            self._given_up -= call.lingers
            return False


_threads = Threads()


async def in_thread(function, *arguments):
    """Calls `function` in a thread. `Agent` sees there when the task is cancelled."""
    global _threads
    if _threads.owner != os.getpid():
        _threads = Threads()  # threads do not come along with a fork
    call = Call(function, arguments)
    _threads.run(call)
    try:
        return await call.future
    except asyncio.CancelledError:
        call.give_up()
        raise


def current():
    """The call that this thread runs for a task. None in any other thread."""
    return getattr(_here, "call", None)
