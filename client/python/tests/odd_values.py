"""Sends odd values through attach at every exchange. Each request is sent as ccxt would have sent
it, or is refused with a reason.

    python -m tests.odd_values --endpoints 5
"""

import argparse
import collections
import json
import random
import subprocess
import sys

import ccxt

from countersign import Refused, attach
from countersign._attach import STAND_IN

from .recipes import RECIPE, Recipes, comparison, explained, signed_by_ccxt, subjects
from .test_every_exchange import comparable, send

VALUES = (
    "", " ", "a b", "a+b", "a%b", "%41", "%3A%2C", "page_token%3D39380%26", "eyJpZCI6MX0=",
    "YWJj+/8==", "a/b", "a=b", "a&b", "a&b=c", "a;b", "a#b", "a?b", "a,b", "a:b@c", "[1,2]",
    '{"a":1}', '"', "'", "\\", "$1.5", "币安人生USDT", "MØTHUSDT", "é", "\u200bBTC", "\u202eBTC", "😀",
    "tab\there", "new\nline", "nul\0", 1e-08, 1e22, 0.1, True, None, ["a", "b"], [1, 2], {"a": "b"},
)  # fmt: skip
# Parameters with a text that an exchange gave out, or with the name of an instrument, beside those
# of its table.
NAMES = ("cursor", "symbol")
# Endpoints to try at one exchange: the agent does not know all of them.
TRIES = 200


class Standing(Recipes):
    """Recipes in one process, because the sweep asks for thousands of requests."""

    def __init__(self, subject):
        super().__init__(subject)
        self._process = subprocess.Popen([RECIPE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def close(self):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _line(self, line):
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()
        return self._process.stdout.readline()


class Sweep:
    """One exchange and kind of key."""

    def __init__(self, subject, agent):
        self.subject = subject
        self.plain = signed_by_ccxt.exchange(subject.class_name, subject.auth)
        self.attached, self.sent = signed_by_ccxt.exchange(subject.class_name, subject.auth), []
        self.attached.fetch = lambda url, method="GET", headers=None, body=None: self.sent.append(
            (method, url, headers, body)
        )
        attach(self.attached, "k", agent)

    def endpoints(self, chance, count):
        """Endpoints that the agent signs for."""
        candidates = list(signed_by_ccxt.endpoints(self.plain))
        chance.shuffle(candidates)
        found = []
        for endpoint in candidates[:TRIES]:
            built = signed_by_ccxt.build(self.plain, endpoint, {})
            if (
                built is not None
                and built.messages
                and self.end(endpoint, {})[0] not in ("not in the table", "not built")
            ):
                found.append(endpoint)
            if len(found) == count:
                break
        return found

    def end(self, endpoint, params):
        """The end of a request, and the difference that nobody explained, if there is one."""
        built = signed_by_ccxt.build(self.plain, endpoint, params)
        if built is not None:
            params = {**params, **self.given(built)}
            built = signed_by_ccxt.build(self.plain, endpoint, params)
        del self.sent[:]
        try:
            send(self.attached, endpoint, params)
        except Refused as refusal:
            if refusal.code == "request.unknown_endpoint":
                return "not in the table", None
            return "refused", None if refusal.message else "without a reason"
        except ccxt.NotSupported as error:
            return "refused", None if str(error) else "without a reason"
        except Exception as error:
            # ccxt itself does the same with the secret in its own hands.
            return ("not built", None) if built is None else ("CRASHED", repr(error))
        if built is None:
            return "DIFFERENT", "ccxt alone does not build it"
        return self.compared(built, params)

    def compared(self, built, params):
        case = comparison.case(
            self.subject.name,
            self.subject.auth,
            built,
            params,
            json.dumps(params, ensure_ascii=False),
        )
        ours = comparable(self.subject, *self.sent[0])
        theirs = comparable(self.subject, built.method, built.url, built.headers, built.body)
        if STAND_IN in str(ours):
            return "DIFFERENT", "a stand-in left"
        if ours == theirs:
            return "identical", None
        return (
            ("different as explained", None)
            if explained.difference(case, built)
            else ("DIFFERENT", (theirs, ours))
        )

    def given(self, built):
        return explained.given(
            self.subject.name, built.url.partition("?")[0], built, self.subject.auth["random16_hex"]
        )


def swept(subject, endpoints, seed):
    """The number of requests for each end, and the requests that nobody explained."""
    chance, agent = random.Random(f"{seed} {subject.name}"), Standing(subject)
    tally, unexplained = collections.Counter(), []
    try:
        sweep = Sweep(subject, agent)
        for endpoint in sweep.endpoints(chance, endpoints):
            in_path = sweep.plain.extract_params(endpoint.path)
            names = [name for name in (*NAMES, *subject.names) if name not in in_path]
            for value in VALUES:
                params = {chance.choice(names): value}
                end, found = sweep.end(endpoint, params)
                tally[end] += 1
                if found:
                    unexplained.append((endpoint, params, end, found))
    finally:
        agent.close()
    return tally, unexplained


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--endpoints", type=int, default=5, help="of each exchange and kind of key")
    parser.add_argument("--seed", default="1")
    parser.add_argument(
        "--only", metavar="NAME", help="one exchange and kind of key, such as binance_rsa"
    )
    options = parser.parse_args()
    total, failed = collections.Counter(), False
    for subject in subjects():
        if not subject.known_to_ccxt() or options.only not in (None, subject.name):
            continue
        tally, unexplained = swept(subject, options.endpoints, options.seed)
        total += tally
        print(
            f"{subject.name:20} "
            + ", ".join(f"{number} {end}" for end, number in sorted(tally.items())),
            flush=True,
        )
        for endpoint, params, end, found in unexplained[:5]:
            print("  ", endpoint.method, endpoint.path, params, end, "\n     ", found)
        too_few = sum(tally.values()) < options.endpoints * len(VALUES)
        if too_few:
            print("  too few endpoints are signed for")
        failed = failed or bool(unexplained) or too_few
    print(f"{'in all':20} " + ", ".join(f"{number} {end}" for end, number in sorted(total.items())))
    return int(failed or not total["identical"])


if __name__ == "__main__":
    sys.exit(main())
