"""Signs a Binance order with ccxt for as many milliseconds as each line says; answers
nanoseconds:count.
"""

import sys
import time
from collections import Counter

import ccxt

exchange = ccxt.binance({"apiKey": "k" * 64, "secret": "s" * 64})
order = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "0.01",
    "price": "30000",
}
for line in sys.stdin:
    latencies = Counter()
    before = time.perf_counter_ns()
    until = before + int(line) * 1_000_000
    while before < until:
        exchange.sign("order", ["private"], "POST", order)
        after = time.perf_counter_ns()
        latencies[after - before] += 1
        before = after
    print(" ".join(f"{took}:{count}" for took, count in latencies.items()), flush=True)
