"""Tests requests that wait for persons, with an agent in a thread: questions that come too often,
deadlines, and callers that stop waiting.
"""

import asyncio
import json
import threading
import time
import unittest
from unittest import mock

from countersign import Agent, Refused, Unavailable, _waits
from countersign._calls import in_thread

from .fake_agent import FakeAgent, frame

SIGNED = {"v": 1, "url": "https://x/y", "method": "GET", "headers": [], "body": None}
TOO_OFTEN = {
    "v": 1,
    "error": {"code": "policy.rate", "message": "more than 200 requests in 1000 ms"},
}


def waits(seconds=60):
    return {
        "v": 1,
        "progress": "waiting",
        "pending": {"id": "7", "expires_ms": (time.time() + seconds) * 1000},
    }


def ended(code):
    return {"v": 1, "error": {"code": code, "message": "no", "request_id": "7"}}


class Waiting(FakeAgent):
    """Answers a signature with a wait, and questions for its result with `results`. The last result
    is repeated.
    """

    def __init__(self, *results, expires=60):
        self._results, self._expires = list(results), expires
        self.times = []
        super().__init__(self._answer)

    def _answer(self, connection, extension, _payload):
        value = waits(self._expires)
        if extension == "result@countersign":
            self.times.append(time.monotonic())
            value = self._results.pop(0) if len(self._results) > 1 else self._results[0]
        elif extension == "cancel@countersign":
            value = {"v": 1, "done": "cancelled"}
        connection.sendall(frame(extension, json.dumps(value).encode()))

    def extensions(self):
        return [extension.partition("@")[0] for extension, _ in self.asked]


def by_a_thread(agent):
    return agent.sign("k", "POST", "/withdraw")


def by_a_task(agent):
    return asyncio.run(in_thread(agent.sign, "k", "POST", "/withdraw"))


ASKED = (by_a_thread, by_a_task)


class Waits(unittest.TestCase):
    def test_a_question_that_came_too_often_is_asked_again_after_a_while(self):
        for ask in ASKED:
            with (
                self.subTest(ask.__name__),
                Waiting(TOO_OFTEN, waits(), TOO_OFTEN, TOO_OFTEN, SIGNED) as fake,
            ):
                with Agent(fake.path) as agent:
                    self.assertEqual(ask(agent), SIGNED)
                self.assertEqual(fake.extensions(), ["sign"] + 5 * ["result"])
                pauses = [later - sooner for sooner, later in zip(fake.times, fake.times[1:])]
                # The pauses begin anew after an answer.
                for pause, least in zip(pauses, (1, 0, 1, 2)):
                    self.assertGreaterEqual(pause, least)
                    self.assertLess(pause, least + 0.5)

    def test_what_ends_a_wait_is_the_end_of_the_request(self):
        no_id = {
            "v": 1,
            "error": {"code": "request.malformed", "message": "no request with that id waits"},
        }
        cases = [
            ended("policy.rate"),
            ended("approval.denied"),
            ended("policy.limit"),
            ended("client.unknown"),
            no_id,
        ]
        for ask in ASKED:
            for end in cases:
                with (
                    self.subTest(ask.__name__, end=end),
                    Waiting(end) as fake,
                    Agent(fake.path) as agent,
                ):
                    with self.assertRaises(Refused) as caught:
                        ask(agent)
                    self.assertEqual(caught.exception.code, end["error"]["code"])
                    self.assertEqual(fake.extensions(), ["sign", "result"])

    def test_pauses_go_on_no_longer_than_the_request_may_wait(self):
        for ask in ASKED:
            with (
                self.subTest(ask.__name__),
                Waiting(TOO_OFTEN, expires=0.4) as fake,
                Agent(fake.path) as agent,
            ):
                started = time.monotonic()
                with (
                    mock.patch.object(_waits, "EXPIRY_GRACE_MS", 100),
                    self.assertRaisesRegex(Unavailable, "in time"),
                ):
                    ask(agent)
                self.assertLess(time.monotonic() - started, 0.9)
                self.assertEqual(fake.extensions(), ["sign", "result", "cancel"])

    def test_a_short_timeout_asks_for_no_shorter_waits(self):
        for timeout, wait_ms in ((0.1, 1_000), (1, 1_000), (4, 2_000), (None, 5_000)):
            with (
                self.subTest(timeout=timeout),
                Waiting(SIGNED) as fake,
                Agent(fake.path, timeout=timeout) as agent,
            ):
                agent.sign("k", "POST", "/withdraw")
                self.assertEqual(
                    json.loads(fake.asked[1][1]), {"v": 1, "id": "7", "wait_ms": wait_ms}
                )

    def test_an_answer_may_take_as_long_as_it_was_asked_to_wait(self):
        def behave(connection, extension, payload):
            if extension == "result@countersign":
                time.sleep(json.loads(payload)["wait_ms"] / 1000)
            value = SIGNED if extension == "result@countersign" else waits()
            connection.sendall(frame(extension, json.dumps(value).encode()))

        with FakeAgent(behave) as fake, Agent(fake.path, timeout=0.1) as agent:
            self.assertEqual(agent.sign("k", "POST", "/withdraw"), SIGNED)

    def test_an_agent_that_goes_away_during_a_pause_ends_it(self):
        ends = []

        def asks(agent):
            try:
                agent.sign("k", "POST", "/withdraw")
            except Exception as error:
                ends.append(type(error))

        with Waiting(TOO_OFTEN) as fake, Agent(fake.path) as agent:
            wait = threading.Thread(target=asks, args=(agent,))
            wait.start()
            while "result" not in fake.extensions():
                time.sleep(0.01)
            started = time.monotonic()
            fake.stop()
            wait.join(10)
            self.assertLess(time.monotonic() - started, 0.5)
            fake.listen()
        self.assertEqual(ends, [Unavailable])

    def test_a_task_that_is_cancelled_during_a_pause_cancels_at_the_agent_at_once(self):
        async def cancelled(fake, agent):
            task = asyncio.ensure_future(in_thread(agent.sign, "k", "POST", "/withdraw"))
            while "result" not in fake.extensions():
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            task.cancel()
            started = time.monotonic()
            while "cancel" not in fake.extensions():
                await asyncio.sleep(0.01)
            return time.monotonic() - started

        with Waiting(TOO_OFTEN) as fake, Agent(fake.path) as agent:
            self.assertLess(asyncio.run(cancelled(fake, agent)), 0.5)

    def test_more_waits_than_the_agent_has_are_refused_and_cancelled(self):
        with (
            Waiting(waits(), waits()) as fake,
            Agent(fake.path) as agent,
            agent._own_links().waiting(),
        ):
            for _ in range(63):
                agent._own_links()._waits.get_nowait()
            with self.assertRaisesRegex(Unavailable, "64 requests wait for persons already"):
                agent.sign("k", "POST", "/withdraw")
            self.assertEqual(fake.extensions(), ["sign", "cancel"])


if __name__ == "__main__":
    unittest.main()
