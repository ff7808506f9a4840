"""Writes what ccxt sends for orders of every type, with the options that it documents:
tests/orders/ccxt.jsonl, one request a line.

    python -m conformance.orders           # compares the file with what the installed ccxt sends
    python -m conformance.orders --write
"""

import argparse
import itertools
import json
import sys
from urllib.parse import urlsplit

import ccxt

from .subject import ROOT

FILE = ROOT / "tests" / "orders" / "ccxt.jsonl"

SPOT = {
    "type": "spot",
    "spot": True,
    "swap": False,
    "future": False,
    "option": False,
    "contract": False,
    "margin": True,
}
SWAP = {
    "type": "swap", "spot": False, "swap": True, "future": False, "option": False, "contract": True,
    "margin": False, "linear": True, "inverse": False, "contractSize": 1,
}  # fmt: skip


def spot(name, quote="USDT", **more):
    return {
        **SPOT,
        "id": name,
        "symbol": f"BTC/{quote}",
        "base": "BTC",
        "quote": quote,
        "baseId": "BTC",
        "quoteId": quote,
        **more,
    }


def swap(name, quote="USDT", settle=None, settle_id=None):
    settle = settle or quote
    inverse = settle == "BTC"
    return {
        **SWAP, "id": name, "symbol": f"BTC/{quote}:{settle}", "base": "BTC", "quote": quote,
        "settle": settle, "baseId": "BTC", "quoteId": quote, "settleId": settle_id or settle,
        "linear": not inverse, "inverse": inverse,
    }  # fmt: skip


# Precisions of exchanges that give numbers of digits. The others give steps.
DIGITS = {"amount": 8, "price": 5}
# ccxt's class, and markets as its `load_markets` would bring them. BitMEX and CoinEx are not in
# this ccxt.
MARKETS = {
    "backpack": [spot("BTC_USDC", "USDC"), swap("BTC_USDC_PERP", "USDC")],
    "binance": [spot("BTCUSDT"), swap("BTCUSDT"), swap("BTCUSD_PERP", "USD", "BTC")],
    "bitfinex": [spot("tBTCUSD", "USD", precision=DIGITS)],
    "bitflyer": [spot("BTC_JPY", "JPY")],
    "bitget": [spot("BTCUSDT"), swap("BTCUSDT"), swap("BTCUSD", "USD", "BTC")],
    "bitso": [spot("btc_mxn", "MXN")],
    "bitstamp": [spot("btcusd", "USD")],
    "bitvavo": [spot("BTC-EUR", "EUR")],
    "bybit": [spot("BTCUSDT"), swap("BTCUSDT"), swap("BTCUSD", "USD", "BTC")],
    "coinbase": [spot("BTC-USD", "USD")],
    "coinbaseexchange": [spot("BTC-USD", "USD")],
    "cryptocom": [spot("BTC_USDT"), swap("BTCUSD-PERP", "USD")],
    "deribit": [spot("BTC_USDC", "USDC"), swap("BTC-PERPETUAL", "USD", "BTC")],
    "gate": [spot("BTC_USDT"), swap("BTC_USDT", settle_id="usdt")],
    "gemini": [spot("btcusd", "USD")],
    "kraken": [spot("XXBTZUSD", "USD", altname="XBTUSD", wsId="XBT/USD")],
    "krakenfutures": [swap("PF_XBTUSD", "USD")],
    "kucoin": [spot("BTC-USDT")],
    "kucoinfutures": [swap("XBTUSDTM")],
    "mexc": [spot("BTCUSDT"), swap("BTC_USDT")],
    "okx": [spot("BTC-USDT"), swap("BTC-USDT-SWAP")],
    "phemex": [spot("sBTCUSDT", priceScale=8, valueScale=8, ratioScale=8), swap("BTCUSDT")],
    "upbit": [spot("KRW-BTC", "KRW")],
    "whitebit": [spot("BTC_USDT"), swap("BTC_PERP")],
    "woo": [spot("SPOT_BTC_USDT"), swap("PERP_BTC_USDT")],
}
OPTIONS = [
    {}, {"postOnly": True}, {"timeInForce": "IOC"}, {"timeInForce": "FOK"}, {"timeInForce": "PO"},
    {"clientOrderId": "abc123"}, {"reduceOnly": True}, {"triggerPrice": 90},
    {"triggerPrice": 90, "triggerDirection": "ascending"}, {"stopLossPrice": 90},
    {"takeProfitPrice": 110}, {"stopLoss": {"triggerPrice": 90}},
    {"takeProfit": {"triggerPrice": 110}},
    {"stopLoss": {"triggerPrice": 90, "price": 89},
     "takeProfit": {"triggerPrice": 110, "price": 111}},
    {"trailingAmount": 5}, {"trailingPercent": 5},
    {"trailingPercent": 5, "trailingTriggerPrice": 90}, {"cost": 50}, {"marginMode": "cross"},
    {"marginMode": "isolated"}, {"hedged": True}, {"leverage": 3}, {"test": True}, {"hf": True},
    {"selfTradePrevention": "cancel_newest"}, {"timeInForce": "GTD", "expiry": 1700000000},
]  # fmt: skip
OF_SALES = [{}, {"triggerPrice": 90}, {"reduceOnly": True}]
# Types that only some exchanges have, in their own words; ccxt hands them on.
NATIVE = [
    "stop", "stop_limit", "STOP", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT", "LIMIT_MAKER", "ioc",
    "fok", "post_only", "trigger", "oco", "trailing-stop", "stop-limit", "take-profit-limit",
    "stop-loss",
]  # fmt: skip
# Types that Binance says a market has.
ORDER_TYPES = [
    "LIMIT", "MARKET", "LIMIT_MAKER", "STOP", "STOP_MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT",
    "TAKE_PROFIT", "TAKE_PROFIT_LIMIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET",
]  # fmt: skip
TYPICAL = {
    "active": True, "taker": 0.001, "maker": 0.001, "info": {"orderTypes": ORDER_TYPES},
    "priceScale": 0, "valueScale": 0, "precision": {"amount": 1e-8, "price": 1e-8},
    "limits": {"amount": {"min": 0}, "cost": {}, "price": {}, "leverage": {}},
}  # fmt: skip


class Captured(Exception):
    """Ends a call when its request is ready, so that it goes nowhere."""


class Capture:
    """An exchange of ccxt that knows its markets and remembers the request that it would send."""

    def __init__(self, name, markets):
        secret = "A" * 43 + "=" if name == "backpack" else "c2VjcmV0"
        made = getattr(ccxt, name)(
            {
                "apiKey": "account-key",
                "secret": secret,
                "password": "p",
                "uid": "u",
                "enableRateLimit": False,
            }
        )
        made.milliseconds, made.seconds = lambda: 1700000000123, lambda: 1700000000
        made.uuid = made.uuid16 = made.uuid22 = lambda *_: "00000000-0000-4000-8000-000000000001"
        made.set_markets(
            [
                {**made.safe_market_structure({**TYPICAL, **market}), **_scales(market)}
                for market in markets
            ]
        )
        made.load_markets = lambda *_, **__: made.markets
        for code in {
            market[part]
            for market in markets
            for part in ("base", "quote", "settle")
            if part in market
        }:
            made.currencies.setdefault(
                code, {"id": code, "code": code, "precision": 1e-8, "info": {}, "networks": {}}
            )
        made.options.update(
            operatorId=7,
            createMarketBuyOrderRequiresPrice=False,
            unifiedAccount=False,
            enableUnifiedAccount=False,
        )
        made.is_unified_enabled = lambda *_, **__: [False, True]
        made.load_unified_status = made.load_account = lambda *_, **__: None
        made.fetch_ticker = lambda *_, **__: {"last": 100}
        made.fetch = self._fetch
        self.made, self.request, self._sign = made, None, made.sign
        made.sign = self._remember

    @staticmethod
    def _fetch(*_, **__):
        raise Captured

    def _remember(  # noqa: B006: as ccxt has it
        self, path, api="public", method="GET", params={}, headers=None, body=None
    ):
        of_path = self.made.extract_params(path)
        named = isinstance(params, dict)
        rest = (
            {name: value for name, value in params.items() if name not in of_path}
            if named
            else params
        )
        rest = json.loads(self.made.json(rest))
        self.request = (method, urlsplit(self._sign(path, api, method, params)["url"]).path, rest)
        raise Captured

    def of(self, call):
        """The request of a call; None if ccxt makes none of it."""
        self.request = None
        try:
            call(self.made)
        except Exception:  # whatever it does not take, of whatever kind: there is nothing to send
            pass
        return self.request


def _scales(market):
    return {name: market.get(name, 0) for name in ("priceScale", "valueScale", "ratioScale")} | {
        "lowercaseId": market["id"].lower()
    }


def options(capture, symbol):
    """Orders with each option that ccxt knows. A parameter that it hands on unread is no option of
    this exchange.
    """
    for kind, side in itertools.product(("limit", "market"), ("buy", "sell")):
        price = 100 if kind == "limit" else None
        without = None
        for option in OPTIONS if side == "buy" else OF_SALES:
            request = capture.of(
                lambda made: made.create_order(  # noqa: B023
                    symbol, kind, side, 0.5, price, dict(option)
                )
            )
            without = without or request
            if request and (not option or not _handed_on(without, request, option)):
                yield f"{kind} {side} {json.dumps(option)}" if option else f"{kind} {side}", request


def _handed_on(without, request, option):
    params = without[2]
    more = {**params, **option} if isinstance(params, dict) else [{**params[0], **option}]
    return request == (*without[:2], more)


def others(capture, symbol):
    """Every other way in which ccxt places or changes orders."""
    order = {
        "symbol": symbol,
        "type": "limit",
        "side": "buy",
        "amount": 0.5,
        "price": 100,
        "params": {},
    }
    calls = {
        "market buy with cost": lambda made: made.create_market_buy_order_with_cost(symbol, 50),
        "market sell with cost": lambda made: made.create_market_sell_order_with_cost(symbol, 50),
        "market buy with price": lambda made: made.create_order(symbol, "market", "buy", 0.5, 100),
        "edit": lambda made: made.edit_order("1234567", symbol, "limit", "buy", 0.5, 100, {}),
        "many": lambda made: made.create_orders(
            [order, {**order, "side": "sell", "amount": 0.25, "price": 200}]
        ),
        "many market": lambda made: made.create_orders(
            [{**order, "type": "market", "side": "sell", "price": None}]
        ),
        "edit many": lambda made: made.edit_orders([{**order, "id": "1"}]),
        "close": lambda made: made.close_position(symbol, "buy"),
        "close all": lambda made: made.close_all_positions(),
    }
    for native in NATIVE:
        calls[native] = lambda made, native=native: made.create_order(
            symbol, native, "buy", 0.5, 100
        )
    for label, call in calls.items():
        if request := capture.of(call):
            yield label, request


def lines():
    seen = set()
    for name, markets in MARKETS.items():
        for unified in (False, True) if name in ("bitget", "kucoin", "kucoinfutures") else (False,):
            for market in markets:
                capture = Capture(name, markets)
                capture.made.options["uta"] = unified
                both = itertools.chain(
                    options(capture, market["symbol"]), others(capture, market["symbol"])
                )
                for label, (method, path, params) in both:
                    exchange = name.removesuffix("futures") if name == "kucoinfutures" else name
                    request = {"method": method, "path": path, "params": params}
                    text = json.dumps([exchange, request])
                    if text not in seen:
                        seen.add(text)
                        call = f"{market['type']} {label}" + (
                            " in a unified account" if unified else ""
                        )
                        yield json.dumps({"exchange": exchange, "call": call, **request}) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--write", action="store_true", help="write the file")
    if parser.parse_args().write:
        FILE.write_text("".join(lines()))
        return 0
    found, kept = list(lines()), FILE.read_text().splitlines(keepends=True)
    for line in sorted(set(found) ^ set(kept))[:5]:
        print("-" if line in kept else "+", line, end="")
    print(
        f"{len(found)} orders of ccxt {ccxt.__version__}, "
        f"{len(set(found) ^ set(kept))} unlike those under tests/orders"
    )
    return int(found != kept)


if __name__ == "__main__":
    sys.exit(main())
