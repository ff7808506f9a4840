"""Says which endpoints of the installed ccxt the agent's tables do not have, so that somebody
decides them.

    python -m conformance.endpoints
"""

import argparse
import sys
from urllib.parse import urlsplit

import ccxt

from . import signed_by_ccxt
from .subject import TABLES, subjects


def rows(text):
    """The (method, path) of a `.scopes` file, with the endpoints that nobody may ask for and those
    that nobody could decide.
    """
    for line in text.splitlines():
        words = line.lstrip("#! ").split()
        if (
            len(words) > 1
            and words[0].lower() in signed_by_ccxt.METHODS
            and words[1].startswith("/")
        ):
            yield words[0], tuple(words[1].split("/"))


def signed(subject):
    """The (method, path) of each endpoint that ccxt signs, its parameters as `{name}`, and the
    number of endpoints that it did not build.
    """
    made, found, failed = signed_by_ccxt.exchange(subject.class_name, subject.auth), {}, 0
    for endpoint in signed_by_ccxt.endpoints(made):
        built = signed_by_ccxt.build(made, endpoint, {})
        if built is None:
            failed += 1
        elif built.messages:
            path = urlsplit(built.url).path.replace(signed_by_ccxt.SEGMENT, "{}")
            found[built.method, tuple(path.split("/"))] = endpoint
    return found, failed


def fits(row, path):
    """True if an endpoint of ccxt is this row. A parameter of one fits any text of the other."""
    return len(row) == len(path) and all(
        ours == theirs or ours.startswith("{") or "{}" in theirs
        for ours, theirs in zip(row, path, strict=True)
    )


def main():
    argparse.ArgumentParser(description=__doc__.split("\n\n")[0]).parse_args()
    by_table = {}
    for subject in subjects():
        by_table.setdefault(subject.table, []).append(subject)
    for table, group in sorted(by_table.items()):
        known = {}
        for method, path in rows((TABLES / f"{table}.scopes").read_text()):
            known.setdefault((method, len(path)), []).append(path)
        of_ccxt, failed = {}, 0
        for subject in group:
            if subject.known_to_ccxt():
                found, not_built = signed(subject)
                of_ccxt, failed = {**of_ccxt, **found}, max(failed, not_built)
        new = [
            (method, path)
            for method, path in sorted(of_ccxt, key=lambda endpoint: (endpoint[1], endpoint[0]))
            if not any(fits(row, path) for row in known.get((method, len(path)), ()))
        ]
        total = sum(map(len, known.values()))
        print(
            f"{table}: {total} rows; ccxt {ccxt.__version__} signs {len(of_ccxt)} endpoints, "
            f"{len(new)} of them new",
            end="",
        )
        print(f", {failed} not built" if failed else "")
        for method, path in new:
            print(f"  {method} {'/'.join(path)}")


if __name__ == "__main__":
    sys.exit(main())
