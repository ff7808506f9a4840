"""A few markets, so that ccxt needs no network to build its orders."""


def market(symbol, native, contract=False):
    base, _, rest = symbol.partition("/")
    quote, _, settle = rest.partition(":")
    return {
        "id": native,
        "lowercaseId": native.lower(),
        "symbol": symbol,
        "base": base,
        "quote": quote,
        "settle": settle or None,
        "baseId": base,
        "quoteId": quote,
        "settleId": settle or None,
        "type": "swap" if contract else "spot",
        "spot": not contract,
        "margin": False,
        "swap": contract,
        "future": False,
        "option": False,
        "contract": contract,
        "linear": True if contract else None,
        "inverse": False if contract else None,
        "contractSize": 1.0 if contract else None,
        "active": True,
        "precision": {"amount": 0.00001, "price": 0.01},
        "limits": {"amount": {}, "price": {}, "cost": {}, "leverage": {}},
        "info": {"orderTypes": ["LIMIT", "MARKET"]},
    }


MARKETS = {
    "binance": [market("BTC/USDT", "BTCUSDT")],
    "binanceusdm": [market("BTC/USDT:USDT", "BTCUSDT", contract=True)],
    "kraken": [market("BTC/USD", "XXBTZUSD")],
    "okx": [
        market("BTC/USDT", "BTC-USDT"),
        market("BTC/USDT:USDT", "BTC-USDT-SWAP", contract=True),
    ],
}
