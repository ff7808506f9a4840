"""Tests attach at every exchange with a running agent and a software token, and a random key for
each. The requests that are sent are ccxt's own.

ccxt signs with the same secret, and with the clock, the nonce and the random numbers of the agent's
answer.
"""

import base64
import hashlib
import json
import random
import re
import secrets
import unittest
from urllib.parse import urlsplit

import ccxt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, utils

from countersign import Refused, attach
from countersign._attach import STAND_IN

from .real_agent import Key, RealAgent
from .recipes import comparison, explained, random_request, signed_by_ccxt, subjects
from .test_every_exchange import comparable, send
from .test_real_agent import Recording

REQUESTS = 5
TRIES = 300
ALGORITHMS = {"jwt-eddsa": "ed25519", "jwt-es256": "ecdsa-p256-sha256", "jwt-hs256": "hmac-sha256"}
# The number, UUID or random text in a request that is not the time of the answer, by exchange.
NONCE = re.compile(r"nonce\W{1,8}(\d{13})\b|^Bitso [^:]*:(\d{13}):", re.MULTILINE)
UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
RANDOM_TEXT = re.compile(r'"nonce":"([0-9a-f]{32})"')


def pem(private_key, form=serialization.PrivateFormat.PKCS8):
    return private_key.private_bytes(
        serialization.Encoding.PEM, form, serialization.NoEncryption()
    ).decode()


def seed_and_public_key():
    private_key = ed25519.Ed25519PrivateKey.generate()
    return private_key.private_bytes_raw() + private_key.public_key().public_bytes_raw()


def random_secret(subject):
    """A secret as the exchange writes it."""
    match subject.auth["secret_encoding"], subject.auth["alg"]:
        case "ascii", _:
            return secrets.token_hex(32)
        case "base64", _:
            return base64.b64encode(secrets.token_bytes(64)).decode()
        case "base64(seed32)", _:
            return base64.b64encode(secrets.token_bytes(32)).decode()
        case "base64(seed32||pub32)", _:
            return base64.b64encode(seed_and_public_key()).decode()
        case "pem-sec1", _:
            return pem(
                ec.generate_private_key(ec.SECP256R1()),
                serialization.PrivateFormat.TraditionalOpenSSL,
            )
        case "pem-pkcs8", "ed25519":
            return pem(ed25519.Ed25519PrivateKey.generate())
        case "pem-pkcs8", "rsa-pkcs1v15-sha256":
            return pem(rsa.generate_private_key(65537, 2048))
        case written:
            raise AssertionError(f"{subject.name}: {written}")


def key(subject):
    algorithm = ALGORITHMS.get(subject.auth["alg"], subject.auth["alg"])
    credentials = {"apiKey": subject.auth["api_key"], "secret": random_secret(subject)}
    if subject.auth["passphrase"]:
        credentials["password"] = secrets.token_urlsafe(9)
    return Key(explained.family(subject.name), algorithm, credentials)


def decoded(text):
    """The base64 parts of a token or a payload."""
    for part in re.split(r"[ .]", text):
        try:
            yield base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode()
        except ValueError:
            continue


def as_the_agent(auth, answer):
    """The credentials of a vector with the clock, the nonce and the random numbers of the agent's
    answer.
    """
    values = [str(value) for _, value in answer["headers"]]
    pairs = [f"{name}: {value}" for name, value in answer["headers"]]
    text = "\n".join(
        [
            *values,
            *pairs,
            str(answer["body"]),
            *(part for value in values for part in decoded(value)),
        ]
    )
    nonce, uuid, random_text = NONCE.search(text), UUID.search(text), RANDOM_TEXT.search(text)
    changed = {"now_ms": int(nonce[1] or nonce[2]) if nonce else answer["timestamp_ms"]}
    if uuid:
        changed |= {"uuid": uuid[0], "nonce_uuid": uuid[0]}
    if random_text:
        changed["random16_hex"] = random_text[1]
    return {**auth, **changed}


class EveryExchangeForReal(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.subjects = [subject for subject in subjects() if subject.known_to_ccxt()]
        cls.keys = {subject.name: key(subject) for subject in cls.subjects}
        cls.real = RealAgent(cls.keys)
        cls.addClassCleanup(cls.real.close)
        cls.agent = Recording(cls.real.socket)
        cls.addClassCleanup(cls.agent.close)

    def test_what_leaves_is_what_ccxt_would_have_signed(self):
        for subject in self.subjects:
            with self.subTest(subject.name):
                self.compare(subject)

    def compare(self, subject):
        chance, credentials = random.Random(subject.name), self.keys[subject.name].credentials
        auth = {
            **subject.auth,
            "secret": credentials["secret"],
            "passphrase": credentials.get("password"),
        }
        plain, sent = signed_by_ccxt.exchange(subject.class_name, auth), []
        other = signed_by_ccxt.exchange(subject.class_name, auth)
        other.fetch = lambda url, method="GET", headers=None, body=None: sent.append(
            (method, url, headers, body)
        )
        attach(other, subject.name, self.agent)
        endpoints, alike = list(signed_by_ccxt.endpoints(plain)), 0
        for _ in range(TRIES):
            found = random_request(chance, subject, plain, endpoints)
            if found is None:
                continue
            endpoint, params = found
            del sent[:]
            try:
                send(other, endpoint, params)
            except (Refused, ccxt.NotSupported):
                continue
            reference = signed_by_ccxt.exchange(
                subject.class_name, as_the_agent(auth, self.agent.answer)
            )
            built = signed_by_ccxt.build(reference, endpoint, params)
            if explained.difference(
                comparison.case(subject.name, auth, built, params, json.dumps(params)), built
            ):
                continue
            ours = comparable(subject, *sent[0])
            theirs = comparable(subject, built.method, built.url, built.headers, built.body)
            if subject.auth["alg"] == "jwt-es256":
                self.verify(ours[2], auth["secret"])
                ours, theirs = without_signature(ours), without_signature(theirs)
            if subject.name == "krakenfutures":
                theirs = with_nonce(theirs, ours[2]["nonce"], auth["secret"])
            self.assertEqual(ours, theirs)
            self.assertNotIn(STAND_IN, str(sent))
            alike += 1
            if alike == REQUESTS:
                return
        self.fail(f"only {alike} were signed")

    def verify(self, headers, secret):
        """Verifies a signature instead of comparing it: ECDSA is random."""
        signed, _, signature = headers["authorization"].removeprefix("Bearer ").rpartition(".")
        raw = base64.urlsafe_b64decode(signature + "==")
        der = utils.encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
        public_key = serialization.load_pem_private_key(secret.encode(), None).public_key()
        public_key.verify(der, signed.encode(), ec.ECDSA(hashes.SHA256()))


def without_signature(request):
    method, url, headers, body = request
    return (
        method,
        url,
        {**headers, "authorization": headers["authorization"].rpartition(".")[0]},
        body,
    )


def before_a_number(query):
    """The same query, with a last parameter that stays the same if digits follow it."""
    pairs = query.split("&")
    ends = (
        *("symbol", "unit", "currency", "side", "orderId", "order_id", "cliOrdId"),
        *("clientOrderId", "contractType", "contract", "acceptLong", "acceptShort", "enabled"),
        *("timeFrame", "fromAccount", "sourceWallet", "pnlPreference", "strategy"),
        *("tradingEnabled", "id", "timeout", "maxLeverage"),
    )
    found = (pair for end in ends for pair in pairs if pair.partition("=")[0] == end)
    last = next(found, pairs[-1])
    pairs.remove(last)
    return "&".join([*pairs, last])


def with_nonce(request, nonce, secret):
    """The request that ccxt built, signed by ccxt's code with the nonce that the agent adds
    (docs/decisions/0013-kraken-futures-nonce.md).
    """
    method, url, headers, body = request
    parts = urlsplit(url)
    parts = parts._replace(query=before_a_number(parts.query))
    url = parts.geturl()
    text = (body or parts.query) + nonce + parts.path.removeprefix("/derivatives")
    hashed = ccxt.Exchange.hash(text.encode(), "sha256", "binary")
    authent = ccxt.Exchange.hmac(hashed, base64.b64decode(secret), hashlib.sha512, "base64")
    return method, url, {**headers, "authent": authent, "nonce": nonce}, body


if __name__ == "__main__":
    unittest.main()
