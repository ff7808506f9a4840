"""Tests the client's framing, errors, timeouts and reconnection against an agent in a thread."""

import enum
import json
import os
import select
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import unittest
from decimal import Decimal
from fractions import Fraction
from unittest import mock

from countersign import Agent, Refused, Unavailable, _agent, _links
from countersign._agent import default_socket

from .fake_agent import FakeAgent, answer, frame

POLL = type(select.poll())
SIGNED = {"v": 1, "url": "https://x/y", "method": "GET", "headers": [], "body": None}


class Kind(enum.IntEnum):
    LIMIT = 3


class OwnDecimal(Decimal):
    """A number with a text form of its own, as numbers of other libraries have."""

    def __format__(self, _how):
        return '1,"injected":2'

    __repr__ = __str__ = lambda self: "own"


class OwnInteger(int):
    __repr__ = __str__ = lambda self: "own"


class OwnFloat(float):
    __repr__ = __str__ = lambda self: "own"


class Questions(unittest.TestCase):
    def asked(self, ask, reply=SIGNED):
        with FakeAgent(answer(reply)) as fake, Agent(fake.path) as agent:
            result = ask(agent)
            return fake.asked[0], result

    def test_a_sign_request_holds_what_was_given_and_no_more(self):
        (extension, payload), result = self.asked(lambda agent: agent.sign("k", "GET", "/a"))
        self.assertEqual(extension, "sign@countersign")
        self.assertEqual(payload, '{"v":1,"key":"k","method":"GET","path":"/a"}')
        self.assertEqual(result, SIGNED)

    def test_parameters_keep_their_order_and_their_text(self):
        params = {"z": "1.10", "a": 219.0, "é": [True, None]}
        (_, payload), _ = self.asked(
            lambda agent: agent.sign("k", "GET", "/a", params, "query", "h", "why")
        )
        self.assertTrue(
            payload.endswith('"params":{"z":"1.10","a":219.0,"é":[true,null]}}'), payload
        )
        self.assertIn('"params_in":"query","host":"h","reason":"why"', payload)

    def test_numbers_are_plain_decimals(self):
        cases = [
            (Decimal("0.10"), "0.10"),
            (Decimal("1E-8"), "0.00000001"),
            (Decimal("1E+3"), "1000"),
            (Decimal("12345678901234567890.123456789"), "12345678901234567890.123456789"),
            (1e-08, "0.00000001"),
            (1.5e-07, "0.00000015"),
            (1e22, "10000000000000000000000"),
            (0.1, "0.1"),
            (219.0, "219.0"),
            (-0.5, "-0.5"),
            (10**30, "1" + "0" * 30),
            (-(10**400), "-1" + "0" * 400),
            (Decimal("-0"), "-0"),
            (Decimal("0E+5"), "0"),
            (Kind.LIMIT, "3"),
            (OwnDecimal("1.50"), "1.50"),
            (OwnInteger(5), "5"),
            (OwnFloat(1e-7), "0.0000001"),
        ]
        for number, text in cases:
            with self.subTest(repr(number)):
                (_, payload), _ = self.asked(
                    lambda agent, n=number: agent.sign("k", "GET", "/a", {"q": n, "l": [n, (n,)]})
                )
                self.assertTrue(
                    payload.endswith(f'"params":{{"q":{text},"l":[{text},[{text}]]}}}}'), payload
                )

    def test_json_text_passes_unchanged(self):
        text = '[{"sz": 1.000, "px":100000000000000000000000}]'
        (_, payload), _ = self.asked(lambda agent: agent.sign("k", "GET", "/a", text))
        self.assertTrue(payload.endswith(f'"params":{text}}}'), payload)

    def test_what_cannot_be_written_exactly_is_not_asked(self):
        with FakeAgent(answer(SIGNED)) as fake, Agent(fake.path) as agent:
            endless = []
            endless.append(endless)
            numbers = [
                float("nan"),
                float("-inf"),
                *map(Decimal, ("NaN", "sNaN", "Infinity", "1E+401", "1E-401")),
            ]
            numbers += [10**401, -(10**5000), 1 << 100_000]
            bad = [
                '{"a":1},"key":{}',
                "3",
                {"a": "x" * 70_000},
                endless,
                *({"a": number} for number in numbers),
            ]
            for params in bad:
                with self.assertRaises(ValueError):
                    agent.sign("k", "GET", "/a", params)
            self.assertEqual(fake.asked, [])

    def test_what_is_no_number_is_not_asked(self):
        class Side(enum.Enum):
            BUY = "BUY"

        with FakeAgent(answer(SIGNED)) as fake, Agent(fake.path) as agent:
            for value in (Side.BUY, Fraction(1, 2), b"1", {1}, 1j, object(), iter([1])):
                for params in ({"a": value}, [value], {"a": [{"b": value}]}):
                    with (
                        self.subTest(repr(params)),
                        self.assertRaisesRegex(TypeError, "neither text nor a number"),
                    ):
                        agent.sign("k", "GET", "/a", params)
            self.assertEqual(fake.asked, [])

    def test_the_other_questions(self):
        (extension, payload), _ = self.asked(lambda agent: agent.session("k"))
        self.assertEqual(
            (extension, payload), ("session@countersign", '{"v":1,"key":"k","purpose":"ws"}')
        )
        (extension, _), keys = self.asked(
            lambda agent: agent.keys(), {"v": 1, "keys": [{"name": "k"}]}
        )
        self.assertEqual((extension, keys), ("keys@countersign", [{"name": "k"}]))
        (extension, _), _ = self.asked(lambda agent: agent.status())
        self.assertEqual(extension, "status@countersign")

    def test_the_socket_is_found_by_the_environment(self):
        system, own = "/run/countersign/agent.sock", "/run/user/1/countersign/agent.sock"
        user = {"XDG_RUNTIME_DIR": "/run/user/1"}
        cases = [
            ({"COUNTERSIGN_SOCK": "/a.sock", **user}, {own, system}, "/a.sock"),
            (user, {own, system}, own),
            (user, {system}, system),
            (user, set(), own),
            ({}, set(), system),
        ]
        for environment, present, expected in cases:
            with (
                self.subTest(environment, present=present),
                mock.patch.dict(os.environ, environment, clear=True),
                mock.patch("os.path.exists", present.__contains__),
            ):
                self.assertEqual(default_socket(), expected)


class Answers(unittest.TestCase):
    def refused(self, reply):
        with FakeAgent(answer(reply)) as fake, Agent(fake.path) as agent:
            with self.assertRaises(Refused) as caught:
                agent.sign("k", "GET", "/a")
            # A refusal ends the question, not the connection.
            with self.assertRaises(Refused):
                agent.sign("k", "GET", "/a")
            self.assertEqual(fake.connections, 1)
            return caught.exception

    def test_a_refusal_is_typed(self):
        error = {"code": "policy.scope", "message": "no", "request_id": "0192"}
        refusal = self.refused({"v": 1, "error": error})
        self.assertEqual(
            (refusal.code, refusal.message, refusal.request_id), ("policy.scope", "no", "0192")
        )
        del error["request_id"]
        self.assertIsNone(self.refused({"v": 1, "error": error}).request_id)

    def waits(self, then, expires_ms):
        """The outcome of a request that waits. The second question for its result gets the answer
        `then`.
        """
        waiting = {"v": 1, "progress": "waiting", "pending": {"id": "7", "expires_ms": expires_ms}}
        answers = iter([waiting, waiting])

        def behave(connection, extension, _payload):
            connection.sendall(frame(extension, json.dumps(next(answers, then)).encode()))

        with FakeAgent(behave) as fake, Agent(fake.path) as agent:
            try:
                return agent.sign("k", "GET", "/a")
            finally:
                self.asked = fake.asked

    def test_a_request_that_waits_for_a_person_is_waited_for(self):
        soon = time.time() * 1000 + 60_000
        self.assertEqual(self.waits(SIGNED, soon), SIGNED)
        result = ("result@countersign", '{"v":1,"id":"7","wait_ms":5000}')
        self.assertEqual(self.asked[1:], [result, result])
        with self.assertRaises(Refused) as denied:
            self.waits({"v": 1, "error": {"code": "approval.denied", "message": "no"}}, soon)
        self.assertEqual(denied.exception.code, "approval.denied")

    def test_a_request_that_never_ends_is_not_waited_for_for_ever(self):
        with self.assertRaises(Unavailable):
            self.waits(SIGNED, 1)

    def test_an_answer_out_of_form_is_never_used(self):
        good = json.dumps(SIGNED).encode()
        cases = {
            "failure": struct.pack(">IB", 1, 5),
            "another extension": frame("keys@countersign", good),
            "another message type": frame("sign@countersign", good, kind=28),
            "another version": frame("sign@countersign", b'{"v":2}'),
            "not an object": frame("sign@countersign", b"[]"),
            "not JSON": frame("sign@countersign", b"{"),
            "bytes too many": struct.pack(">I", 26) + frame("sign@countersign", b"")[4:] + b"x",
            "an inner length too long": struct.pack(">IBI", 5, 29, 99),
            "an empty frame": struct.pack(">I", 0),
            "a frame of 600 MiB": struct.pack(">I", 600 << 20),
        }
        for name, data in cases.items():
            with self.subTest(name), FakeAgent(lambda c, *_, data=data: c.sendall(data)) as fake:
                with Agent(fake.path, timeout=5) as agent, self.assertRaises(Unavailable):
                    agent.sign("k", "GET", "/a")

    def test_an_answer_may_come_in_pieces(self):
        def in_pieces(connection, extension, _payload):
            for byte in frame(extension, json.dumps(SIGNED).encode()):
                connection.sendall(bytes([byte]))

        with FakeAgent(in_pieces) as fake, Agent(fake.path) as agent:
            self.assertEqual(agent.sign("k", "GET", "/a"), SIGNED)


class Connections(unittest.TestCase):
    def test_no_agent_is_unavailable(self):
        with self.assertRaisesRegex(Unavailable, "/nonexistent/agent.sock"):
            Agent("/nonexistent/agent.sock").keys()

    def test_a_restarted_agent_is_asked_again(self):
        with FakeAgent(answer(SIGNED)) as fake, Agent(fake.path) as agent:
            agent.sign("k", "GET", "/a")
            fake.stop()
            fake.listen()
            self.assertEqual(agent.sign("k", "GET", "/b"), SIGNED)
            self.assertEqual((fake.connections, len(fake.asked)), (2, 2))

    def test_a_question_that_was_heard_is_not_asked_twice(self):
        with FakeAgent(lambda *_: False) as fake, Agent(fake.path) as agent:
            with self.assertRaisesRegex(Unavailable, "before it answered"):
                agent.sign("k", "POST", "/order")
            self.assertEqual(len(fake.asked), 1)

    def test_a_late_answer_is_not_taken_for_the_next_one(self):
        release = threading.Event()

        def late_once(connection, extension, payload):
            if "slow" in payload:
                release.wait(5)
            value = dict(SIGNED, path=json.loads(payload)["path"])
            connection.sendall(frame(extension, json.dumps(value).encode()))

        with FakeAgent(late_once) as fake, Agent(fake.path, timeout=0.2) as agent:
            started = time.monotonic()
            with self.assertRaisesRegex(Unavailable, "timed out"):
                agent.sign("k", "GET", "/slow")
            self.assertLess(time.monotonic() - started, 2)
            agent.timeout = 5
            self.assertEqual(agent.sign("k", "GET", "/next")["path"], "/next")
            release.set()

    def test_a_signature_may_take_as_long_as_a_touch_and_nothing_else_may(self):
        def late(connection, extension, payload):
            time.sleep(0.4)
            connection.sendall(frame(extension, json.dumps(dict(SIGNED, keys=[])).encode()))

        with (
            FakeAgent(late) as fake,
            Agent(fake.path) as agent,
            mock.patch.object(_agent, "TIMEOUT", 0.1),
        ):
            self.assertGreaterEqual(_agent.SIGNING_TIMEOUT, 25)
            agent.sign("k", "GET", "/slow")
            agent.session("k")
            with self.assertRaisesRegex(Unavailable, "timed out"):
                agent.keys()

    def test_threads_get_their_own_answers(self):
        def echo(connection, extension, payload):
            connection.sendall(frame(extension, payload.encode()))

        with FakeAgent(echo) as fake, Agent(fake.path) as agent:
            wrong = []

            def ask(number):
                for _ in range(50):
                    if agent.sign("k", "GET", f"/{number}")["path"] != f"/{number}":
                        wrong.append(number)

            threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual((wrong, len(fake.asked)), ([], 200))
            self.assertLessEqual(fake.connections, 4)

    def test_a_question_gives_the_interpreter_away_three_times(self):
        """Each of these calls may cost a turn of every other thread that is busy."""
        with FakeAgent(answer(SIGNED)) as fake, Agent(fake.path) as agent:
            agent.sign("k", "GET", "/a")
            calls = []

            def profile(_frame, event, function):
                if event == "c_call" and isinstance(
                    getattr(function, "__self__", None), (socket.socket, POLL)
                ):
                    calls.append(function.__name__)

            sys.setprofile(profile)
            try:
                agent.sign("k", "GET", "/a")
            finally:
                sys.setprofile(None)
            self.assertEqual(calls, ["send", "poll", "recv"])

    def test_an_agent_whose_line_of_callers_is_full_is_waited_for(self):
        with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
            path = os.path.join(directory, "agent.sock")
            listener.bind(path)
            listener.listen(0)
            with socket.socket(socket.AF_UNIX) as first:
                first.connect(path)
                started = time.monotonic()
                with self.assertRaisesRegex(Unavailable, "timed out"):
                    Agent(path, timeout=0.3).keys()
                self.assertGreaterEqual(time.monotonic() - started, 0.3)

    def test_signals_do_not_lengthen_the_time_for_an_answer(self):
        self.addCleanup(
            signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, lambda *_: None)
        )
        self.addCleanup(signal.setitimer, signal.ITIMER_REAL, 0)
        with FakeAgent(lambda *_: time.sleep(2)) as fake, Agent(fake.path, timeout=0.5) as agent:
            signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
            started = time.monotonic()
            with self.assertRaisesRegex(Unavailable, "timed out"):
                agent.keys()
            self.assertLess(time.monotonic() - started, 1.0)

    def test_an_answer_to_nothing_is_never_used(self):
        twice = frame("sign@countersign", json.dumps(SIGNED).encode()) * 2
        with (
            FakeAgent(lambda connection, *_: connection.sendall(twice)) as fake,
            Agent(fake.path) as agent,
        ):
            with self.assertRaisesRegex(Unavailable, "more than one answer"):
                agent.sign("k", "GET", "/a")

    def test_the_time_for_an_answer_is_that_for_a_connection_too(self):
        with FakeAgent(lambda *_: time.sleep(2)) as fake, Agent(fake.path, timeout=0.3) as agent:
            with mock.patch.object(_links, "MOST", 1):
                agent.close()
                threads = [
                    threading.Thread(target=self.times_out, args=(agent,)) for _ in range(10)
                ]
                started = time.monotonic()
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                self.assertLess(time.monotonic() - started, 1.5)

    def times_out(self, agent):
        with self.assertRaisesRegex(Unavailable, "timed out"):
            agent.keys()

    def test_a_question_that_waits_keeps_no_other_waiting(self):
        release = threading.Event()
        waiting = {"v": 1, "pending": {"id": "7", "expires_ms": (time.time() + 60) * 1000}}

        def behave(connection, extension, payload):
            if extension == "result@countersign":
                release.wait(10)
            value = waiting if "slow" in payload else SIGNED
            connection.sendall(frame(extension, json.dumps(value).encode()))

        with FakeAgent(behave) as fake, Agent(fake.path) as agent:
            waits = threading.Thread(target=agent.sign, args=("k", "POST", "/slow"))
            waits.start()
            while len(fake.asked) < 2:
                time.sleep(0.01)
            started = time.monotonic()
            for _ in range(20):
                agent.sign("k", "DELETE", "/order")
            self.assertLess(time.monotonic() - started, 2)
            self.assertTrue(waits.is_alive())
            release.set()
            waits.join()

    def test_one_who_stops_waiting_cancels_at_the_agent(self):
        def behave(connection, extension, _payload):
            if extension == "result@countersign":
                return False
            value = {"v": 1, "pending": {"id": "7", "expires_ms": (time.time() + 60) * 1000}}
            connection.sendall(frame(extension, json.dumps(value).encode()))

        with FakeAgent(behave) as fake, Agent(fake.path) as agent:
            with self.assertRaises(Unavailable):
                agent.sign("k", "POST", "/withdraw")
            self.assertEqual(fake.asked[-1], ("cancel@countersign", '{"v":1,"id":"7"}'))

    def test_a_fork_gets_a_connection_of_its_own(self):
        with FakeAgent(answer(SIGNED)) as fake, Agent(fake.path) as agent:
            agent.sign("k", "GET", "/a")
            with mock.patch("os.getpid", return_value=-1):
                agent.sign("k", "GET", "/a")
            self.assertEqual(fake.connections, 2)


if __name__ == "__main__":
    unittest.main()
