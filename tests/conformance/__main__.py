"""Compares the recipes with ccxt's own sign() on seeded random requests to every exchange that has
vectors and that ccxt knows.

    python -m conformance --recipe target/debug/examples/recipe --count 200
"""

import argparse
import collections
import json
import random
import sys
from urllib.parse import urlsplit

import ccxt

from . import comparison, explained, signed_by_ccxt, values
from .subject import subjects

# Random requests tried for each that is compared, because ccxt neither builds nor signs all.
TRIES = 60


def requests(subject, count, seed):
    """`count` pairs for signed endpoints: the request of ccxt, and the case for the recipe."""
    chance = random.Random(f"{seed} {subject.name}")
    made = signed_by_ccxt.exchange(subject.class_name, subject.auth)
    endpoints = list(signed_by_ccxt.endpoints(made))
    found = 0
    for _ in range(count * TRIES):
        if found == count:
            return
        endpoint = chance.choice(endpoints)
        names = own_names(subject, made, endpoint)
        if names is None:
            continue
        params = values.params(chance, names, rarely=subject.table in explained.UNBOUND)
        built = signed_by_ccxt.build(made, endpoint, params)
        if built is None or not built.messages:
            continue
        more = subject.given(built)
        if more:
            params = {**params, **more}
            built = signed_by_ccxt.build(made, endpoint, params)
        found += 1
        text = (
            made.json(params)
            if explained.is_json(subject.name, built)
            else json.dumps(params, ensure_ascii=False)
        )
        yield built, comparison.case(subject.name, subject.auth, built, params, text)


def own_names(subject, made, endpoint):
    """The names that a request for this endpoint may carry, without those in its path; None if ccxt
    cannot build it.
    """
    plain, in_path = signed_by_ccxt.build(made, endpoint, {}), made.extract_params(endpoint.path)
    if plain is None:
        return None
    return [
        name
        for name in subject.names_for(plain.method, urlsplit(plain.url).path)
        if name not in in_path
    ]


def judged(subject, built, case, answer):
    """The outcome of a request, and the difference that nobody explained."""
    if "error" in answer:
        code = answer["error"]["code"]
        if code == "request.unknown_endpoint":
            return "not in the table", None
        return (
            ("refused", None)
            if explained.refusal(case, built, code)
            else ("DIFFERENT", answer["error"])
        )
    if explained.has_made_up_name(case, built):
        return "DIFFERENT", "signed with a name that no row lists"
    found = comparison.differences(built, answer, subject.cosmetic)
    if found and explained.difference(case, built):
        return "different as explained", None
    return ("DIFFERENT", found) if found else ("identical", None)


def compare(subject, recipe, count, seed):
    """The number of requests for each outcome, and every difference that nobody explained."""
    pairs = list(requests(subject, count, seed))
    tally, unexplained = collections.Counter(), []
    for (built, case), answer in zip(
        pairs, comparison.answers(recipe, [case for _, case in pairs]), strict=True
    ):
        end, found = judged(subject, built, case, answer)
        tally[end] += 1
        if found:
            unexplained.append((case, found))
    return tally, unexplained


def at_least_one(text):
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("nothing would be compared")
    return number


def main():
    all_subjects = list(subjects())
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--recipe", required=True, help="the built example of countersign-core")
    parser.add_argument(
        "--count",
        type=at_least_one,
        default=20,
        help="signed requests of each exchange and kind of key",
    )
    parser.add_argument("--seed", default="1")
    parser.add_argument(
        "--only", metavar="NAME", choices=[subject.name for subject in all_subjects],
        help="one exchange and kind of key, such as binance_rsa",
    )  # fmt: skip
    parser.add_argument(
        "--show", type=int, default=5, help="unexplained differences to print of each"
    )
    options = parser.parse_args()

    failed = False
    for subject in all_subjects:
        if options.only not in (None, subject.name):
            continue
        if not subject.known_to_ccxt():
            print(f"{subject.name:20} not in ccxt {ccxt.__version__}: its vectors alone")
            continue
        tally, unexplained = compare(subject, options.recipe, options.count, options.seed)
        print(
            f"{subject.name:20} "
            + ", ".join(f"{number} {end}" for end, number in sorted(tally.items())),
            flush=True,
        )
        for case, difference in unexplained[: options.show]:
            print("  ", case.method, case.host + case.path, case.params_text, "\n     ", difference)
        enough = sum(tally.values()) == options.count and tally["identical"] * 4 >= options.count
        if not enough:
            print("  too few of them were compared")
        failed = failed or bool(unexplained) or not enough
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
