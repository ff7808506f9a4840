"""A ccxt exchange object without a network: a few markets and currencies, answers that say nothing,
every private request kept.
"""

import json
import sys

import ccxt

from .subject import ROOT

sys.path.insert(0, str(ROOT / "client" / "python"))

from countersign import attach  # noqa: E402

# By exchange: symbols of each kind of market that it has, with its own names for them.
MARKETS = {
    "binance": {
        "BTC/USDT": "BTCUSDT",
        "BTC/USDT:USDT": "BTCUSDT",
        "BTC/USD:BTC": "BTCUSD_PERP",
        "BTC/USDT:USDT-261225-100000-C": "BTC-261225-100000-C",
    },
    "binanceusdm": {"BTC/USDT:USDT": "BTCUSDT"},
    "bybit": {
        "BTC/USDT": "BTCUSDT",
        "BTC/USDT:USDT": "BTCUSDT",
        "BTC/USD:BTC": "BTCUSD",
        "BTC/USDC:USDC-261225-100000-C": "BTC-25DEC26-100000-C",
    },
    "krakenfutures": {"BTC/USD:USD": "PF_XBTUSD", "BTC/USD:BTC": "PI_XBTUSD"},
    "mexc": {"BTC/USDT": "BTCUSDT", "BTC/USDT:USDT": "BTC_USDT"},
    "phemex": {"BTC/USDT": "sBTCUSDT", "BTC/USD:BTC": "BTCUSD", "BTC/USDT:USDT": "BTCUSDT"},
    "upbit": {"BTC/KRW": "KRW-BTC", "ETH/BTC": "BTC-ETH"},
    "woo": {"BTC/USDT": "SPOT_BTC_USDT", "BTC/USDT:USDT": "PERP_BTC_USDT"},
}
CURRENCIES = ("BTC", "ETH", "EUR", "KRW", "USD", "USDC", "USDT")
NETWORKS = ("BTC", "ERC20", "ETH", "TRC20")
NOW_MS = 1_700_000_000_123
# With these options ccxt asks the exchange nothing before it builds a request: they say which kind
# of account it is, and that a market order to buy needs no price.
OPTIONS = (
    {"createMarketBuyOrderRequiresPrice": False, "enableUnifiedMargin": False,
     "enableUnifiedAccount": True, "unifiedMarginStatus": 6},
    {"createMarketBuyOrderRequiresPrice": False, "enableUnifiedMargin": False,
     "enableUnifiedAccount": False, "unifiedMarginStatus": 1},
)  # fmt: skip
# An answer that is a list and one that is an object: each method can go on with one of them.
ANSWERS = (
    {
        "retCode": 0,
        "code": "0",
        "success": True,
        "error": [],
        "result": {"list": [], "success": True},
        "data": {},
    },
    {
        "retCode": 0,
        "code": "0",
        "success": True,
        "error": [],
        "result": {"list": [], "success": True},
        "data": [],
    },
)


class Requests:
    """Takes an agent's place, and keeps the requests that it is asked to sign."""

    def __init__(self):
        self.asked = {}

    def sign(self, _key, method, path, params, params_in=None, host=None):
        text = params if isinstance(params, str) else json.dumps(params or {})
        self.asked[method, host, path, text, params_in] = None
        return {"method": method, "url": "", "headers": {}, "body": None}

    def keys(self):
        return [{"name": "k", "api_key": "k"}]


def exchange(name, requests):
    """The exchange object, and a function that sets its options and its answers."""
    made = getattr(ccxt, name)(
        {"apiKey": "k", "secret": "c2VjcmV0", "password": "p", "enableRateLimit": False}
    )
    made.set_markets(
        [_market(*pair) for pair in MARKETS[name].items()],
        {code: _currency(code) for code in CURRENCIES},
    )
    made.milliseconds = lambda: NOW_MS
    answer = {}
    made.fetch = lambda url, method="GET", headers=None, body=None: answer
    attach(made, "k", requests)

    def prepare(options, answers):
        made.options.update(options)
        made.options["lastNonce"] = 0
        answer.clear()
        answer.update(answers)

    return made, prepare


def _market(symbol, native):
    base, _, rest = symbol.partition("/")
    quote, _, contract = rest.partition(":")
    settle, _, option = contract.partition("-")
    kind = "option" if option else "swap" if settle else "spot"
    return {
        "id": native, "lowercaseId": native.lower(), "symbol": symbol, "type": kind, "active": True,
        "base": base, "quote": quote, "settle": settle or None,
        "baseId": base, "quoteId": quote, "settleId": settle or None,
        "spot": kind == "spot", "margin": kind == "spot", "swap": kind == "swap",
        "future": False, "option": kind == "option",
        "contract": bool(settle), "contractSize": 1.0 if settle else None,
        "linear": settle != base if settle else None, "inverse": settle == base if settle else None,
        "precision": {"amount": 0.00001, "price": 0.01, "cost": 0.01},
        "taker": 0.001, "maker": 0.001,
        "limits": {"amount": {}, "price": {}, "cost": {}, "leverage": {}},
        "priceScale": 4, "ratioScale": 8, "valueScale": 8,
        "info": {"orderTypes": ["LIMIT", "MARKET"], "priceScale": "4", "baseAssetPrecision": "4"},
    }  # fmt: skip


def _currency(code):
    network = {
        "active": True,
        "deposit": True,
        "withdraw": True,
        "fee": 0.1,
        "precision": 1e-8,
        "limits": {},
        "info": {},
    }
    networks = {name: {"id": name, "network": name, **network} for name in NETWORKS}
    return {
        "id": code,
        "code": code,
        "name": code,
        "valueScale": 8,
        "networks": networks,
        **network,
    }
