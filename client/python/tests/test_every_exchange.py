"""Tests attach at every exchange, request by request. Each request is sent as ccxt would have sent
it with the secret in its own hands.

The recipes stand in for the agent (the `recipe` example of the core), with the keys and the clock
of the vectors. The requests are those of `make conformance`.
"""

import copy
import json
import random
import unittest

import ccxt

from countersign import Refused, attach
from countersign._attach import STAND_IN

from .recipes import Recipes, comparison, explained, random_request, signed_by_ccxt, subjects

REQUESTS = 15
TRIES = 60


class EveryExchange(unittest.TestCase):
    def test_what_leaves_is_what_ccxt_would_have_signed(self):
        for subject in subjects():
            if subject.known_to_ccxt():
                with self.subTest(subject.name):
                    self.compare(subject)

    def test_regional_classes_are_signed_for_at_their_own_hosts(self):
        found = {subject.name: subject for subject in subjects()}
        regional = {
            "bybiteu": "bybit",
            "bybitid": "bybit",
            "gateeu": "gate",
            "myokx": "okx",
            "okxus": "okx",
        }
        for name, known in regional.items():
            with self.subTest(name):
                self.compare(found[known], name)

    def compare(self, subject, class_name=None):
        class_name = class_name or subject.class_name
        chance = random.Random(subject.name)
        plain = signed_by_ccxt.exchange(class_name, subject.auth)
        other, sent = signed_by_ccxt.exchange(class_name, subject.auth), []
        other.fetch = lambda url, method="GET", headers=None, body=None: sent.append(
            (method, url, headers, body)
        )
        attach(other, "k", Recipes(subject))
        endpoints, alike, tried = list(signed_by_ccxt.endpoints(plain)), 0, 0
        for _ in range(REQUESTS * TRIES):
            if tried == REQUESTS:
                break
            found = random_request(chance, subject, plain, endpoints)
            if found is None:
                continue
            endpoint, params = found
            built = signed_by_ccxt.build(plain, endpoint, params)
            del sent[:]
            try:
                send(other, endpoint, params)
            except (Refused, ccxt.NotSupported) as error:
                unknown = getattr(error, "code", "") == "request.unknown_endpoint"
                tried += not unknown
                continue
            tried += 1
            case = comparison.case(subject.name, subject.auth, built, params, json.dumps(params))
            if explained.difference(case, built):
                continue
            expected = (built.method, built.url, built.headers, built.body)
            self.assertEqual(comparable(subject, *sent[0]), comparable(subject, *expected))
            self.assertNotIn(STAND_IN, str(sent))
            alike += 1
        self.assertGreaterEqual(alike * 2, REQUESTS, "too few were signed")


def send(made, endpoint, params):
    """Hands a request to `fetch`, as ccxt does once it is signed."""
    whole = {
        **{name: signed_by_ccxt.SEGMENT for name in made.extract_params(endpoint.path)},
        **copy.deepcopy(params),
    }
    made.options["lastNonce"] = 0
    built = made.sign(endpoint.path, endpoint.api, endpoint.method, whole)
    made.fetch(built["url"], built["method"], built["headers"], built["body"])


def comparable(subject, method, url, headers, body):
    """A request without the headers that do not belong to the exchange's API."""
    pairs = ((name.lower(), str(value)) for name, value in (headers or {}).items())
    return (
        method,
        url,
        {name: value for name, value in pairs if name not in subject.cosmetic},
        body or None,
    )


if __name__ == "__main__":
    unittest.main()
