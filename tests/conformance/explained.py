"""Every difference between the recipes and ccxt that is on purpose, with its reason. Any other
difference fails.
"""

import json
import re

from .values import NAMES

# Names to which ccxt gives random values if an order has none. They are given here, so that both
# sign the same.
ORDER_IDS = {
    "binance": (
        "newClientOrderId", "clientOrderId", "clientAlgoId", "newClientStrategyId",
        "listClientOrderId", "workingClientOrderId", "pendingClientOrderId",
        "pendingAboveClientOrderId", "pendingBelowClientOrderId", "aboveClientOrderId",
        "belowClientOrderId", "limitClientOrderId", "stopClientOrderId",
    ),
    "htx": ("client-order-id",),
    "okx": ("clOrdId",),
    "phemex": ("clOrdID",),
}  # fmt: skip

# Parameters that ccxt sets itself, by the end of the path. Both are given the same.
SET_BY_CCXT = (
    (
        "binance",
        "/batchOrders",
        {"batchOrders": [{"symbol": "BTCUSDT", "newClientOrderId": "own", "clientOrderId": "own"}]},
    ),
    ("bybit", "/withdraw/create", {"timestamp": 1}),
    ("woo", "/v3/trade/order", {"broker_id": "bc830de7-50f3-460b-9ee0-f430f83f9dad"}),
    ("woo", "/v3/trade/algoOrder", {"brokerId": "bc830de7-50f3-460b-9ee0-f430f83f9dad"}),
    ("htx", "order", {"channel_code": "AA03022abc"}),
)

# Exchanges whose JSON is in a header.
PAYLOADS = ("gemini",)

# Exchanges whose signature leaves method or path open, by the beginning of a path. A request there
# carries only the names of its own row.
UNBOUND = {
    "binance": "/",
    "bybit": "/",
    "krakenfutures": "/",
    "mexc": "/",
    "phemex": "/",
    "upbit": "/",
    "woo": "/v1/",
}

HAZARD = re.compile(r"[&=#%+;?\s]|[^\x20-\x7e]")


def is_json(exchange, built):
    return family(exchange) in PAYLOADS or str(built.body or "").startswith(("{", "[", "json={"))


def nested_in_a_query(case, built):
    nested = any(value is None or isinstance(value, (list, dict)) for value in case.params.values())
    return nested and ("?" in built.url or not is_json(case.exchange, built))


def unescaped(case, built):
    """A value that could be read as several values is signed or sent as it is."""
    values = (str(value) for value in case.params.values())
    hazards = [value for value in values if HAZARD.search(value)]
    texts = [*built.messages, built.url.encode()]
    return not is_json(case.exchange, built) and any(
        value.encode() in text for value in hazards for text in texts
    )


def form_in_json(case, built):
    """Kraken does not say if a body is JSON or a form: as a form it would be another request."""
    return is_json(case.exchange, built) and any(mark in str(built.body) for mark in "&;")


def holds_no_scalar(case, built):
    return any(value is None or isinstance(value, (list, dict)) for value in case.params.values())


def holds_objects(case, built):
    lists = [value if isinstance(value, list) else [value] for value in case.params.values()]
    return any(isinstance(item, (list, dict)) for items in lists for item in items)


def names_inside(value):
    """Every name inside a value, at any depth, also in JSON within a text."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from names_inside(item)
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            yield from names_inside(json.loads(value))
        except ValueError:
            return


def has_made_up_name(case, built):
    """True if a name is in no row and the signature leaves method or path open."""
    unbound = case.path.startswith(UNBOUND.get(family(case.exchange), "\n"))
    return unbound and any(name in NAMES for name in names_inside(case.params))


def names_alike(case, built):
    return len({name.lower() for name in case.params}) < len(case.params)


def holds_a_name(case, built):
    return any(
        name in case.params_text for name in ("from", "price", "quantity", "side", "to", "type")
    )


def json_in_form(case, built):
    return str(built.body).startswith("json=") and bool(
        HAZARD.search(str(built.body).removeprefix("json="))
    )


def no_instruction(case, built):
    return any(message.startswith(b"instruction=&") for message in built.messages)


def no_batch(case, built):
    return case.method == "POST" and case.path == "/api/v1/orders"


def has_exponent(case, built):
    return bool(re.search(r"\de-\d", case.params_text))


def names_in_capitals(case, built):
    return any(name[:1].isupper() for name in case.params)


def read_with_params(case, built):
    return case.method == "GET" and bool(case.params) and "?" not in built.url


def in_a_query(case, built):
    values = (value if isinstance(value, str) else str(value) for value in case.params.values())
    return case.method == "PATCH" and (
        holds_no_scalar(case, built) or any(HAZARD.search(value) for value in values)
    )


def unfilled_path(case, built):
    return "{" in case.path


def list_in_a_read(case, built):
    return case.method == "GET" and any(isinstance(value, list) for value in case.params.values())


def hashed_unescaped(case, built):
    return holds_no_scalar(case, built) or any(
        HAZARD.search(str(value)) for value in case.params.values()
    )


def loses_brackets(case, built):
    return bool(re.search(r"\[\d*\]", case.params_text))


def loses_brackets_of_lists(case, built):
    return case.path.endswith("/asset/dust") and loses_brackets(case, built)


def batch_elsewhere(case, built):
    return isinstance(case.params.get("batchOrders"), list) and not case.path.endswith(
        "/batchOrders"
    )


def object_in_a_query(case, built):
    """ccxt sends an object's first name in its place, and signs it as Python prints it."""
    return "?" in built.url and any(isinstance(value, dict) for value in case.params.values())


def read_as_another(case, built):
    """ccxt sends a value unescaped to an endpoint of Binance that reads it as another value or as
    another parameter.
    """
    ends = ("/batchOrders", "/capital/withdraw/apply")
    parts = ("simple-earn", "staking", "sub-account")
    unescaped_here = case.path.endswith(ends) or any(part in case.path for part in parts)
    return unescaped_here and unescaped(case, built)


def order_in_a_query(case, built):
    """A new order of Phemex whose parameters are signed right before the expiry."""
    return case.path.endswith("/create") and "?" in built.url


def order_without_its_symbol(case, built):
    symbol = str(case.params.get("symbol", "0"))
    return order_in_a_query(case, built) and symbol[-1:].isdigit()


# Refused by the agent, signed by ccxt: exchange ("*": every one), code, the test that this is the
# reason, and the reason.
REFUSED = (
    ("*", "request.malformed", nested_in_a_query,
     "an array, an object or null in a query or a form"),
    ("*", "request.malformed", unescaped,
     "a delimiter in a value that is signed or sent unescaped"),
    ("*", "request.forbidden_parameter", has_made_up_name,
     "a name that no row lists, where method or path is not signed"),
    ("*", "request.ambiguous", names_alike, "two names that differ in case only"),
    ("kraken", "request.malformed", form_in_json, "a JSON body that would be a form as well"),
    ("backpack", "request.malformed", holds_no_scalar, "a JSON body is signed as a query"),
    ("backpack", "request.malformed", no_batch, "an object where the path takes a list of orders"),
    ("cryptocom", "request.malformed", holds_no_scalar,
     "null, or an object that ccxt signs in Python's spelling"),
    ("cryptocom", "request.malformed", holds_a_name,
     "a value that could be read as the next parameter"),
    ("bybit", "request.malformed", holds_objects,
     "the path is not signed: what stands in an object could be any parameter"),
    ("bybit_rsa", "request.malformed", holds_objects,
     "the path is not signed: what stands in an object could be any parameter"),
    ("mexc", "request.malformed", holds_objects,
     "the path is not signed: what stands in an object could be any parameter"),
    ("bitstamp", "request.malformed", read_with_params, "ccxt does not send what a read is given"),
    ("gate", "request.malformed", in_a_query, "the query of a PATCH is signed unescaped"),
    ("gate", "request.malformed", unfilled_path, "ccxt takes this path's parameter from a list"),
    ("krakenfutures", "request.malformed", json_in_form,
     "a delimiter in JSON that stands unescaped in a form"),
    ("upbit", "request.malformed", hashed_unescaped,
     "the token hashes the parameters of a JSON body as an unescaped query"),
    ("phemex", "request.malformed", form_in_json,
     "a JSON body that could be read as a query with another expiry"),
    ("phemex", "request.malformed", order_without_its_symbol,
     "a new order in a query without a symbol at whose end no digits can be cut"),
)  # fmt: skip

# Signed by both, and not alike: exchange, the test that this is the reason, and the reason.
DIFFERENT = (
    ("backpack", no_instruction,
     "ccxt knows no instruction for the path, and the exchange would refuse it"),
    ("backpack", no_batch, "a batch of no orders, of which ccxt signs nothing"),
    ("backpack", has_exponent, "ccxt signs a number in another spelling than it sends"),
    ("backpack", loses_brackets,
     "ccxt takes brackets out of values, so that the exchange sees others than were signed"),
    ("binance", loses_brackets_of_lists,
     "ccxt takes brackets out of values, where the path takes a list"),
    ("binance_ed25519", loses_brackets_of_lists,
     "ccxt takes brackets out of values, where the path takes a list"),
    ("binance_rsa", loses_brackets_of_lists,
     "ccxt takes brackets out of values, where the path takes a list"),
    ("binance", read_as_another, "ccxt sends unescaped what the exchange reads as another value"),
    ("binance_ed25519", read_as_another,
     "ccxt sends unescaped what the exchange reads as another value"),
    ("binance_rsa", read_as_another,
     "ccxt sends unescaped what the exchange reads as another value"),
    ("binanceusdm", read_as_another,
     "ccxt sends unescaped what the exchange reads as another value"),
    ("coinbase", loses_brackets, "ccxt takes brackets out of values"),
    ("coinbase_ed25519", loses_brackets, "ccxt takes brackets out of values"),
    ("coinbase_legacy", loses_brackets, "ccxt takes brackets out of values"),
    ("coinbase_legacy", list_in_a_read, "ccxt signs a list in another spelling than it sends"),
    ("cryptocom", has_exponent, "ccxt signs a number in another spelling than it sends"),
    ("htx", names_in_capitals, "for contracts ccxt does not sort names in capitals among its own"),
    ("krakenfutures", loses_brackets, "ccxt takes brackets out of values"),
    ("mexc", batch_elsewhere,
     "ccxt spells a list as Python does where the path takes no batch of orders"),
    ("phemex", loses_brackets, "ccxt takes brackets out of values"),
    ("phemex", order_in_a_query, "the symbol of a new order in a query stands last"),
    ("backpack", object_in_a_query, "ccxt signs an object in another spelling than it sends"),
    ("bitget", object_in_a_query, "ccxt signs an object in another spelling than it sends"),
    ("coinbase_legacy", object_in_a_query,
     "ccxt signs an object in another spelling than it sends"),
    ("gate", object_in_a_query, "ccxt signs an object in another spelling than it sends"),
    ("kucoin", object_in_a_query, "ccxt signs an object in another spelling than it sends"),
    ("upbit", object_in_a_query, "ccxt signs an object in another spelling than it sends"),
    ("upbit", has_exponent, "ccxt signs a number in another spelling than it sends"),
)  # fmt: skip


def family(exchange):
    """`binance` of `binance_rsa` and `binanceusdm`."""
    name = exchange.split("_")[0]
    return "binance" if name.startswith("binance") else name


def given(exchange, path, built, random_text):
    """Parameters that ccxt would otherwise choose itself."""
    more = {}
    for name, end, params in SET_BY_CCXT:
        if (
            name == family(exchange)
            and built.method != "GET"
            and path.endswith(end)
            and "cancel" not in path
        ):
            more.update(params)
    sent = [*built.messages, str(built.body).encode()]
    if random_text and any(random_text.encode() in text for text in sent):
        more.update((name, "own") for name in ORDER_IDS.get(family(exchange), ()))
    return more


def refusal(case, built, code):
    """The reason why the agent refuses a request that ccxt signs; None without an explanation."""
    rules = (rule for rule in REFUSED if rule[0] in ("*", case.exchange) and rule[1] == code)
    return next((reason for _, _, applies, reason in rules if applies(case, built)), None)


def difference(case, built):
    """The reason why both differ; None without an explanation."""
    rules = (rule for rule in DIFFERENT if rule[0] == case.exchange)
    return next((reason for _, applies, reason in rules if applies(case, built)), None)
