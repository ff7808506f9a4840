"""Calls every unified method of ccxt with each option that it documents, at the exchanges whose
signatures leave method or path open, and asserts that no request is refused for a name that no row
lists.

    python -m conformance.unified --recipe target/debug/examples/recipe
"""

import argparse
import collections
import copy
import inspect
import json
import re
import subprocess
import sys

import ccxt

from . import offline
from .subject import subjects

# Methods that send something private, without helpers and sockets of ccxt's own.
UNIFIED = re.compile(
    r"(add|borrow|cancel|close|create|edit|enable|fetch|reduce|repay|set|transfer|upgrade|withdraw)"
    r"_\w+|transfer|withdraw"
)
PUBLIC = ("fetch_currencies", "fetch_markets", "fetch_paginated", "set_markets", "set_sandbox")
OPTION = re.compile(r":param (\S+) \[?params\.(\w+)\]?")
NAMED = {
    "category": "linear", "defaultType": "swap", "marginMode": "cross", "network": "ERC20",
    "orderFilter": "StopOrder", "paginate": False, "positionIdx": 1, "side": "buy",
    "subType": "linear", "timeInForce": "PO", "triggerDirection": "ascending", "type": "spot",
    "until": offline.NOW_MS + 60_000, "clientOrderId": "c1",
    "stopLoss": {"triggerPrice": 18_000.0, "price": 17_900.0},
    "takeProfit": {"triggerPrice": 22_000.0, "price": 22_100.0}, "triggerPrice": 19_000.0,
    "stopPrice": 19_000.0, "stopLossPrice": 18_000.0, "takeProfitPrice": 22_000.0,
    "trailingAmount": 5.0, "trailingPercent": 1.0, "trailingTriggerPrice": 19_000.0, "cost": 100.0,
    "leverage": 5, "price": 20_000.0,
}  # fmt: skip
# Values of a method's own arguments, by their names; any other is "1".
ARGUMENTS = {
    **NAMED, "amount": 1.5, "since": offline.NOW_MS - 600_000, "limit": 10, "timeout": 1000,
    "code": "USDT", "codes": ["USDT"], "fromCode": "BTC", "toCode": "USDT", "id": "123",
    "ids": ["123", "124"], "clientOrderIds": ["c1", "c2"], "type": "limit", "address": "0xabc",
    "tag": "memo", "fromAccount": "spot", "toAccount": "swap", "hedged": True,
    "marginMode": "isolated",
}  # fmt: skip


def methods(made):
    for name, method in inspect.getmembers(made, callable):
        if UNIFIED.fullmatch(name) and not name.startswith(PUBLIC) and not name.endswith("_ws"):
            parameters = inspect.signature(method).parameters
            if "params" in parameters:
                yield name, method, [
                    parameter for parameter in parameters.values() if parameter.name != "params"
                ]


def documented(made, name):
    """The options of a method by its own documentation, one a call, and none."""
    own = next(kind.__dict__[name] for kind in type(made).__mro__ if name in kind.__dict__)
    yield {}
    for kind, option in OPTION.findall(inspect.getdoc(own) or ""):
        yield {option: NAMED.get(option, option_of(kind))}


def option_of(kind):
    if kind.startswith("bool"):
        return True
    if kind.startswith(("float", "int", "num")):
        return 5
    return ["1"] if kind.endswith("[]") else "1"


def arguments(parameters, symbol):
    """Ways to call a method: as a limit order, as market orders, and with its required arguments
    only.
    """

    def value(name):
        order = {"symbol": symbol, "type": "limit", "side": "buy", "amount": 1, "price": 20_000.0}
        return {"symbol": symbol, "symbols": [symbol], "orders": [order, order]}.get(
            name, ARGUMENTS.get(name, "1")
        )

    whole = {parameter.name: value(parameter.name) for parameter in parameters}
    yield whole
    yield {
        parameter.name: value(parameter.name)
        for parameter in parameters
        if parameter.default is parameter.empty
    }
    if {"side", "type"} <= whole.keys():
        yield from ({**whole, "type": "market", "side": side} for side in ("buy", "sell"))


def asked(subject):
    """Every request that ccxt would send, and the methods that sent any."""
    requests, found = offline.Requests(), set()
    made, prepare = offline.exchange(subject.name, requests)
    for name, method, parameters in methods(made):
        for symbol in offline.MARKETS[subject.name]:
            for given in arguments(parameters, symbol):
                for params in documented(made, name):
                    before = len(requests.asked)
                    call(prepare, method, given, params)
                    found.update([name] if len(requests.asked) > before else ())
    return list(requests.asked), found


def call(prepare, method, given, params):
    for options in offline.OPTIONS:
        for answers in offline.ANSWERS:
            prepare(options, answers)
            try:
                method(**copy.deepcopy(given), params=copy.deepcopy(params))
            # The answers say nothing, and some arguments fit no exchange: only the requests count.
            except Exception:
                continue


def judged(subject, requests, recipe):
    """The answers of the recipe, one for each request."""
    lines = []
    for method, host, path, text, params_in in requests:
        request = {
            "method": method,
            "host": host,
            "path": path,
            **({"params_in": params_in} if params_in else {}),
        }
        case = json.dumps(
            {"id": "", "exchange": subject.name, "auth": subject.auth, "request": request}
        )
        lines.append(f'{case[:-2]},"params":{text}}}}}\n')
    ended = subprocess.run(
        [recipe], input="".join(lines).encode(), stdout=subprocess.PIPE, check=True
    )
    return [json.loads(line) for line in ended.stdout.decode().splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--recipe", required=True, help="the built example of countersign-core")
    parser.add_argument("--only", choices=offline.MARKETS)
    options = parser.parse_args()
    failed = False
    for subject in subjects():
        if subject.name not in offline.MARKETS or options.only not in (None, subject.name):
            continue
        requests, found = asked(subject)
        answers = judged(subject, requests, options.recipe)
        codes = collections.Counter(
            answer["error"]["code"] if "error" in answer else "signed" for answer in answers
        )
        ends = ", ".join(f"{number} {end}" for end, number in sorted(codes.items()))
        print(
            f"{subject.name:20} {len(found)} methods of ccxt {ccxt.__version__}, "
            f"{len(requests)} requests: {ends}",
            flush=True,
        )
        for request, answer in zip(requests, answers, strict=True):
            if answer.get("error", {}).get("code") == "request.forbidden_parameter":
                failed = True
                print("  ", *request[:4], "\n     ", answer["error"]["message"])
        failed = failed or len(found) < 8 or codes["signed"] * 2 < len(requests)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
