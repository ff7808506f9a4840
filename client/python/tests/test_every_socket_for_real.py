"""Tests attach at every private WebSocket with a running agent and a software token. The login is
the one that ccxt would have made.
"""

import asyncio
import json
import re
import unittest
from unittest import mock

import ccxt

from countersign import Agent
from countersign._sockets import LOGINS

from .real_agent import RealAgent
from .recipes import subjects
from .test_every_exchange_for_real import RANDOM_TEXT, UUID, decoded, key
from .test_every_socket import first_sent, lower, quietly, starts

# A nonce that counts up may be ahead of the clock.
NONCE = re.compile(r"nonce\W{1,8}(\d{13})\b", re.IGNORECASE)
# Exchanges whose logins open more than a client with the scopes read and trade may do.
OPEN_MORE = {"bitvavo", "cryptocom", "deribit"}


class Recording(Agent):
    """Remembers the agent's last login."""

    answer = None

    def session(self, *arguments, **named):
        self.answer = super().session(*arguments, **named)
        return self.answer


def as_the_agent(auth, answer):
    """The credentials with the clock, the nonce and the random numbers of the agent's login."""
    frame = json.loads(answer["frame"] or "{}")
    values = [*(str(value) for _, value in answer["headers"]), str(frame.get("jwt", ""))]
    text = "\n".join(
        [str(answer["frame"]), *values, *(part for value in values for part in decoded(value))]
    )
    nonce, uuid, random_text = NONCE.search(text), UUID.search(text), RANDOM_TEXT.search(text)
    return {
        **auth,
        "now_ms": int(nonce[1]) if nonce else answer["timestamp_ms"],
        "nonce_uuid": uuid and uuid[0],
        "random16_hex": random_text and random_text[1],
    }


def unsigned(frame):
    """A frame whose token has no signature. An ECDSA signature is random, and the requests test it.
    """
    return {**frame, "jwt": frame["jwt"].rpartition(".")[0]}


class EverySocketForReal(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.subjects = [
            subject for subject in subjects() if subject.name in LOGINS and subject.known_to_ccxt()
        ]
        keys = {subject.name: key(subject) for subject in cls.subjects}
        for subject in cls.subjects:
            credentials = keys[subject.name].credentials
            secret, passphrase = credentials["secret"], credentials.get("password")
            subject.auth = {**subject.auth, "secret": secret, "passphrase": passphrase}
        cls.real = RealAgent(keys, ("read", "trade", "session"))
        cls.addClassCleanup(cls.real.close)
        cls.agent = Recording(cls.real.socket)
        cls.addClassCleanup(cls.agent.close)

    def test_what_is_sent_is_what_ccxt_would_have_signed(self):
        for subject in self.subjects:
            if subject.name in OPEN_MORE:
                continue
            for number, start in enumerate(starts(subject.name)):
                with self.subTest(subject.name, number=number):
                    self.compare(subject, start)

    def compare(self, subject, start):
        ours = asyncio.run(first_sent(subject, start, self.agent, subject.name))
        with mock.patch.object(subject, "auth", as_the_agent(subject.auth, self.agent.answer)):
            theirs = asyncio.run(first_sent(subject, start))
        if subject.auth["alg"] == "jwt-es256":
            ours, theirs = unsigned(ours), unsigned(theirs)
        self.assertEqual(lower(ours), lower(theirs))

    def test_a_login_that_opens_more_than_the_client_may_is_refused(self):
        for subject in self.subjects:
            if subject.name not in OPEN_MORE:
                continue
            for number, start in enumerate(starts(subject.name)):
                with (
                    self.subTest(subject.name, number=number),
                    self.assertRaises(ccxt.PermissionDenied) as caught,
                ):
                    asyncio.run(quietly(first_sent(subject, start, self.agent, subject.name)))
                self.assertEqual(caught.exception.code, "policy.effective_scope")


if __name__ == "__main__":
    unittest.main()
