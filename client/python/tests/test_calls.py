"""Tests the threads in which an event loop asks, with an agent in a thread. They stay few if
questions wait, hang or are cancelled.
"""

import asyncio
import json
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path
from unittest import mock

import ccxt
import ccxt.async_support

from countersign import Agent, Unavailable, _calls, attach
from countersign._calls import in_thread

from .fake_agent import FakeAgent, frame

SIGNED = {"v": 1, "url": "https://x/y", "method": "GET", "headers": [], "body": None}
# Longest time for a caller that nothing holds up, in seconds.
SOON = 2.0


class Slow(FakeAgent):
    """Answers `/hangs` only once it is released. Lets `/waits` wait for a person. Answers all
    others at once.
    """

    def __init__(self, pause=0.0):
        self.released, self._pause = threading.Event(), pause
        super().__init__(self._answer)

    def __exit__(self, *exception):
        self.released.set()
        super().__exit__(*exception)

    def _answer(self, connection, extension, payload):
        if "/hangs" in payload or extension == "result@countersign":
            self.released.wait(30)
        time.sleep(self._pause)
        value = SIGNED
        if "/waits" in payload:
            value = {"v": 1, "pending": {"id": payload, "expires_ms": (time.time() + 60) * 1000}}
        connection.sendall(frame(extension, json.dumps(value).encode()))

    def heard(self, text):
        return sum(text in payload or text in extension for extension, payload in self.asked)


def asks(agent, path):
    return asyncio.ensure_future(in_thread(agent.sign, "k", "GET", path))


async def until(holds):
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.01)


def threads():
    return sum(thread.name == "countersign" for thread in threading.enumerate())


def no_more_threads():
    """Acts as if this process may start no more threads. The agent of the test still may."""
    start = threading.Thread.start

    def refuse(thread):
        if thread.name == "countersign":
            raise RuntimeError("can't start new thread")
        start(thread)

    return mock.patch("threading.Thread.start", refuse)


class Calls(unittest.TestCase):
    def setUp(self):
        # Each test has threads of its own.
        patched = mock.patch.object(_calls, "_threads", _calls.Threads())
        patched.start()
        self.addCleanup(patched.stop)
        self.before = threads()

    def threads(self):
        return threads() - self.before

    def run_with(self, scenario, pause=0.0, timeout=None):
        with Slow(pause) as fake, Agent(fake.path, timeout=timeout) as agent:
            return asyncio.run(scenario(fake, agent))

    def test_many_questions_have_few_threads_and_all_get_answers(self):
        async def scenario(_fake, agent):
            tasks = [asks(agent, f"/{number}") for number in range(500)]
            await asyncio.sleep(0.05)
            most = self.threads()
            answers = await asyncio.wait_for(asyncio.gather(*tasks), 20)
            return most, max(most, self.threads()), answers

        most, later, answers = self.run_with(scenario, pause=0.005)
        self.assertEqual(answers, [SIGNED] * 500)
        self.assertGreater(most, 1)
        self.assertLessEqual(later, _calls.MOST)

    def test_what_waits_for_persons_leaves_all_places_to_the_others(self):
        async def scenario(fake, agent):
            waits = [asks(agent, f"/waits/{number}") for number in range(_calls.MOST + 8)]
            await until(lambda: fake.heard("result@countersign") == len(waits))
            started = time.monotonic()
            await asyncio.gather(*(asks(agent, "/quick") for _ in range(100)))
            took = time.monotonic() - started
            for task in waits:
                task.cancel()
            await until(lambda: fake.heard("cancel@countersign") == len(waits))
            await until(lambda: self.threads() <= _calls.MOST)
            return took

        self.assertLess(self.run_with(scenario), SOON)

    def test_a_cancelled_task_gives_its_place_back(self):
        async def scenario(fake, agent):
            hang = [asks(agent, "/hangs") for _ in range(_calls.MOST)]
            await until(lambda: fake.heard("/hangs") == len(hang))
            wait = asks(agent, "/quick")
            await asyncio.sleep(0.2)
            self.assertFalse(wait.done(), "every place is taken")
            hang[0].cancel()
            await asyncio.wait_for(wait, SOON)
            for task in hang:
                task.cancel()
            await asyncio.wait_for(asks(agent, "/quick"), SOON)
            # A second time: as many hang as may, so no more threads are started.
            more = [asks(agent, "/hangs") for _ in range(_calls.MOST)]
            await asyncio.sleep(0.2)
            for task in more:
                task.cancel()
            await asyncio.sleep(0.1)
            self.assertLessEqual(self.threads(), _calls.MOST + _calls.MOST_GIVEN_UP)
            fake.released.set()
            await asyncio.wait_for(asks(agent, "/quick"), SOON)
            await until(lambda: self.threads() <= _calls.MOST)
            self.assertEqual(_calls._threads._given_up, 0)

        self.run_with(scenario)

    def test_a_task_that_is_cancelled_before_it_has_a_thread_asks_nothing(self):
        async def scenario(fake, agent):
            hang = [asks(agent, "/hangs") for _ in range(_calls.MOST)]
            await until(lambda: fake.heard("/hangs") == len(hang))
            never = [asks(agent, "/never") for _ in range(50)]
            await asyncio.sleep(0)
            for task in never:
                task.cancel()
            await asyncio.sleep(0)
            fake.released.set()
            await asyncio.gather(*hang, asks(agent, "/last"))
            return fake.heard("/never")

        self.assertEqual(self.run_with(scenario), 0)

    def test_the_time_for_an_answer_is_that_for_a_thread_too(self):
        async def scenario(_fake, agent):
            started = time.monotonic()
            ends = await asyncio.gather(
                *(asks(agent, "/hangs") for _ in range(4 * _calls.MOST)), return_exceptions=True
            )
            self.assertEqual({type(end) for end in ends}, {Unavailable})
            return time.monotonic() - started

        self.assertLess(self.run_with(scenario, timeout=0.5), 1.0)

    def test_no_thread_is_an_error_of_the_client(self):
        async def scenario(fake, agent):
            with no_more_threads():
                with self.assertRaisesRegex(
                    Unavailable, "no thread to ask the agent in: can't start new thread"
                ):
                    await asks(agent, "/a")
                made = attach(ccxt.async_support.binance(), "k", agent)
                with self.assertRaisesRegex(ccxt.ExchangeNotAvailable, "can't start new thread"):
                    await made.fetch(
                        "https://api.binance.com/api/v3/account",
                        "GET",
                        {"X-MBX-APIKEY": made.apiKey},
                    )
                await made.close()
            self.assertEqual(fake.asked, [])
            return await asyncio.wait_for(asks(agent, "/a"), SOON)

        self.assertEqual(self.run_with(scenario), SIGNED)

    def test_where_one_thread_is_left_all_wait_for_it(self):
        async def scenario(_fake, agent):
            first = asks(agent, "/first")
            await asyncio.sleep(0)
            with no_more_threads():
                return await asyncio.wait_for(
                    asyncio.gather(first, *(asks(agent, "/a") for _ in range(20))), SOON
                )

        self.assertEqual(self.run_with(scenario, pause=0.01), [SIGNED] * 21)

    def test_calls_whose_last_thread_goes_to_wait_are_told(self):
        async def scenario(fake, agent):
            with mock.patch.object(_calls, "MOST", 1):
                wait, others = asks(agent, "/waits"), [asks(agent, "/a") for _ in range(3)]
                await asyncio.sleep(0)
                with no_more_threads():
                    ends = await asyncio.wait_for(
                        asyncio.gather(*others, return_exceptions=True), SOON
                    )
                self.assertEqual(
                    [str(end) for end in ends],
                    3 * ["no thread to ask the agent in: can't start new thread"],
                )
                self.assertEqual(await asyncio.wait_for(asks(agent, "/b"), SOON), SIGNED)
                wait.cancel()
                await until(lambda: fake.heard("cancel@countersign"))

        self.run_with(scenario, pause=0.05)

    def test_a_process_that_may_have_no_thread_gets_an_error_and_not_a_hang(self):
        program = """
import asyncio, resource, sys, threading
from countersign import Agent, Unavailable
from countersign._calls import in_thread
threading.stack_size(512 << 20)
resource.setrlimit(resource.RLIMIT_AS, (256 << 20, 256 << 20))
try:
    asyncio.run(in_thread(Agent(sys.argv[1]).keys))
except Unavailable as error:
    print(error)
"""
        with Slow() as fake:
            ended = subprocess.run(
                [sys.executable, "-c", program, fake.path],
                cwd=Path(_calls.__file__).parents[1], capture_output=True, text=True, timeout=20,
            )  # fmt: skip
        self.assertEqual(
            ended.stdout, "no thread to ask the agent in: can't start new thread\n", ended.stderr
        )


if __name__ == "__main__":
    unittest.main()
