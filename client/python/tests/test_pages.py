"""Tests histories of several pages, which ccxt asks for page by page. Each cursor goes back as the
exchange gave it out.
"""

import json
import unittest
from urllib.parse import parse_qsl, unquote, urlsplit

import ccxt

from countersign import attach

from .markets import market
from .recipes import Recipes, signed_by_ccxt, subjects

CURSORS = (
    "1321052653536515584%3A1672217748287%2C1321052653536515584%3A1672217748287",
    "page_token%3D39380%26",
    "eyJtaW5JRCI6MTA0NjA0OH0=",
    "a+b/c==",
)
SINCE = 1_600_000_000_000
# The members that ccxt needs in an entry so as not to leave it out, at one exchange or another.
ENTRY = {
    **{name: str(SINCE) for name in ("createdTime", "createTime", "cTime", "timestamp")},
    "created_time": "2020-09-13T12:26:40Z",
    "time": SINCE // 1000,
    "symbol": "BTCUSDT",
    "product_id": "BTCUSDT",
    "asset": "BTC",
    "status": "Success",
}


def bybit(entries, cursor):
    return {
        "retCode": 0,
        "retMsg": "OK",
        "time": SINCE,
        "result": {"category": "linear", "list": entries, "nextPageCursor": cursor},
    }


def bybit_assets(entries, cursor):
    return {
        "retCode": 0,
        "retMsg": "OK",
        "time": SINCE,
        "result": {"rows": entries, "nextPageCursor": cursor},
    }


def bitget(entries, cursor):
    return {
        "code": "00000",
        "data": [{**entry, "idLessThan": cursor, "orderId": cursor} for entry in entries],
    }


def coinbase(entries, cursor):
    return {"orders": entries, "cursor": cursor, "has_next": True}


def kraken(entries, cursor):
    return {"error": [], "result": {"withdrawals": entries, "next_cursor": cursor}}


PAGES = {"paginate": True, "paginationCalls": len(CURSORS) + 1}
# exchange, parameter, form of its answers, ccxt's call
HISTORIES = [
    (
        "bybit",
        "cursor",
        bybit,
        lambda made: made.fetch_canceled_and_closed_orders("BTC/USDT", SINCE, None, PAGES),
    ),
    ("bybit", "cursor", bybit_assets, lambda made: made.fetch_deposits("USDT", SINCE, None, PAGES)),
    (
        "bybit",
        "cursor",
        bybit_assets,
        lambda made: made.fetch_withdrawals("USDT", SINCE, None, PAGES),
    ),
    (
        "bybit",
        "cursor",
        bybit_assets,
        lambda made: made.fetch_transfers("USDT", SINCE, None, PAGES),
    ),
    (
        "bybit_rsa",
        "cursor",
        bybit,
        lambda made: made.fetch_canceled_and_closed_orders("BTC/USDT", SINCE, None, PAGES),
    ),
    ("bitget", "idLessThan", bitget, lambda made: made.fetch_deposits(None, SINCE, None, PAGES)),
    (
        "bitget",
        "cursor",
        bitget,
        lambda made: made.fetch_deposits(None, SINCE, None, {**PAGES, "uta": True}),
    ),
    (
        "coinbase",
        "cursor",
        coinbase,
        lambda made: made.fetch_orders("BTC/USDT", SINCE, None, PAGES),
    ),
    (
        "coinbase_legacy",
        "cursor",
        coinbase,
        lambda made: made.fetch_orders("BTC/USDT", SINCE, None, PAGES),
    ),
    ("kraken", "cursor", kraken, lambda made: made.fetch_withdrawals("BTC", SINCE, None, PAGES)),
]


class Book:
    """An exchange whose histories have as many pages as there are cursors, and one more."""

    def __init__(self, page):
        self.page, self.requests = page, []

    def fetch(self, url, method="GET", headers=None, body=None):
        self.requests.append((method, url, headers, body))
        number = len(self.requests)
        entries = (
            [{**ENTRY, "id": str(number), "refid": str(number), "order_id": str(number)}]
            if number <= len(CURSORS) + 1
            else []
        )
        cursor = CURSORS[number - 1] if number <= len(CURSORS) else None
        return json.loads(json.dumps(self.page(entries, cursor)))


def exchange(subject, book):
    made = signed_by_ccxt.exchange(subject.class_name, subject.auth)
    made.enableRateLimit, made.fetch = False, book.fetch
    made.set_markets([market("BTC/USDT", "BTCUSDT")])
    made.options["enableUnifiedAccount"], made.options["enableUnifiedMargin"] = True, False
    made.options["uta"] = False
    return made


def asked(ask, made):
    """Runs ccxt's call. Its result does not matter: the pages have only the members that ccxt needs
    to go on.
    """
    try:
        ask(made)
    except (KeyError, TypeError, ccxt.ExchangeError) as error:
        raise AssertionError(f"ccxt did not go on: {error!r}") from error


class Pages(unittest.TestCase):
    def test_each_cursor_leaves_as_ccxt_would_have_sent_it(self):
        known = {subject.name: subject for subject in subjects()}
        for name, parameter, page, ask in HISTORIES:
            subject = known[name]
            with self.subTest(name, page=page.__name__):
                own, ours = Book(page), Book(page)
                asked(ask, exchange(subject, own))
                asked(ask, attach(exchange(subject, ours), "k", Recipes(subject)))
                self.assertEqual(
                    [bare(request) for request in ours.requests],
                    [bare(request) for request in own.requests],
                )
                sent = "".join(str(request[1]) + str(request[3]) for request in ours.requests)
                for cursor in CURSORS:
                    self.assertTrue(cursor in sent or cursor in unquote(sent), cursor)
                self.assertGreater(len(own.requests), len(CURSORS), parameter)


def bare(request):
    """A request without its signature, because the clock goes on."""
    method, url, _, body = request
    return (
        method,
        url if method == "GET" else urlsplit(url).path,
        [pair for pair in parse_qsl(body or "") if pair[0] != "nonce"],
    )


if __name__ == "__main__":
    unittest.main()
