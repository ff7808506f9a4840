"""Every difference between the recipes and ccxt that is meant, with its reason. What is not here fails."""

import re

# Names that ccxt gives random values where an order has none; given here, so that both sign the same.
ORDER_IDS = {
    "binance": (
        "newClientOrderId", "clientOrderId", "clientAlgoId", "newClientStrategyId", "listClientOrderId",
        "workingClientOrderId", "pendingClientOrderId", "pendingAboveClientOrderId", "pendingBelowClientOrderId",
        "aboveClientOrderId", "belowClientOrderId", "limitClientOrderId", "stopClientOrderId",
    ),
    "htx": ("client-order-id",),
    "okx": ("clOrdId",),
    "phemex": ("clOrdID",),
}  # fmt: skip

# Parameters that ccxt sets itself, by the end of the path: the same given to both.
SET_BY_CCXT = (
    ("binance", "/batchOrders", {"batchOrders": [{"symbol": "BTCUSDT", "newClientOrderId": "own"}]}),
    ("woo", "/v3/trade/order", {"broker_id": "bc830de7-50f3-460b-9ee0-f430f83f9dad"}),
    ("woo", "/v3/trade/algoOrder", {"brokerId": "bc830de7-50f3-460b-9ee0-f430f83f9dad"}),
    ("htx", "order", {"channel_code": "AA03022abc"}),
)

# JSON although it stands in a header.
PAYLOADS = ("gemini",)

HAZARD = re.compile(r"[&=#%+;?\s]|[^\x20-\x7e]")


def is_json(exchange, built):
    return family(exchange) in PAYLOADS or str(built.body or "").startswith(("{", "["))


def nested_in_a_query(case, built):
    nested = any(value is None or isinstance(value, (list, dict)) for value in case.params.values())
    return nested and not is_json(case.exchange, built)


def unescaped(case, built):
    """A value that could be taken for more than one is signed or sent as it is."""
    values = (str(value) for value in case.params.values())
    hazards = [value for value in values if HAZARD.search(value)]
    texts = [*built.messages, built.url.encode()]
    return not is_json(case.exchange, built) and any(value.encode() in text for value in hazards for text in texts)


def form_in_json(case, built):
    """Kraken does not say which of the two a body is: as a form it would be another request."""
    return is_json(case.exchange, built) and any(mark in str(built.body) for mark in "&;")


# Refused by the agent, signed by ccxt: exchange ("*": every one), code, whether that is why, reason.
REFUSED = (
    ("*", "request.malformed", nested_in_a_query, "an array, an object or null in a query or a form"),
    ("*", "request.malformed", unescaped, "a delimiter in a value that is signed or sent unescaped"),
    ("kraken", "request.malformed", form_in_json, "a JSON body that would be a form as well"),
)

# Signed by both, and not alike: exchange, whether that is why, reason.
DIFFERENT = ()


def family(exchange):
    """`binance` of `binance_rsa` and `binanceusdm`."""
    name = exchange.split("_")[0]
    return "binance" if name.startswith("binance") else name


def given(exchange, path, built, random_text):
    """Parameters that ccxt would otherwise choose itself."""
    more = {}
    for name, end, params in SET_BY_CCXT:
        if name == family(exchange) and built.method != "GET" and path.endswith(end) and "cancel" not in path:
            more.update(params)
    sent = [*built.messages, str(built.body).encode()]
    if random_text and any(random_text.encode() in text for text in sent):
        more.update((name, "own") for name in ORDER_IDS.get(family(exchange), ()))
    return more


def refusal(case, built, code):
    """Why the agent refuses what ccxt signs, or None where that is not explained."""
    rules = (rule for rule in REFUSED if rule[0] in ("*", case.exchange) and rule[1] == code)
    return next((reason for _, _, applies, reason in rules if applies(case, built)), None)


def difference(case, built):
    """Why both differ, or None where that is not explained."""
    rules = (rule for rule in DIFFERENT if rule[0] == case.exchange)
    return next((reason for _, applies, reason in rules if applies(case, built)), None)
