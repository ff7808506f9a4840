"""The parts of a request that the agent fills in at each exchange, and the way ccxt writes a
request there.
"""

import re
from typing import NamedTuple

# The stand-in for a credential that ccxt insists on. It is base64, as Kraken's secrets are:
# "countersign: no secret here".
STAND_IN = "Y291bnRlcnNpZ246IG5vIHNlY3JldCBoZXJl"


class Venue(NamedTuple):
    """The parts that the agent fills in at one exchange: headers and parameters, by name."""

    headers: frozenset = frozenset()
    parameters: frozenset = frozenset()
    # A pattern for JSON text that has more than the parameters. Group 1 is the object of all
    # parameters. Group 2 is the rest of the object after the members that the agent sets.
    wrapping: object = None
    # The header that carries such a text in base64, if the body does not.
    payload: str = ""
    # The stand-in for the id of a key, in the form that ccxt expects.
    api_key: str = STAND_IN
    # A function of method and path: True if ccxt writes the parameters of that request unescaped.
    unescaped: object = None
    # True if ccxt writes them unescaped but the exchange wants them escaped. A value that needs
    # escaping is then not sent.
    escaped_only: bool = False


def _headers(words):
    return frozenset(words.split())


def _binance_unescaped(method, path):
    if path.endswith("/batchOrders"):
        return method != "DELETE"  # there the parts differ
    return path.endswith("/capital/withdraw/apply") or any(
        part in path for part in ("simple-earn", "staking", "sub-account")
    )


def _always_unescaped(_method, _path):
    return True


BINANCE = Venue(
    _headers("x-mbx-apikey"),
    frozenset({"signature", "timestamp"}),
    unescaped=_binance_unescaped,
    escaped_only=True,
)
COINBASE = Venue(
    _headers("authorization cb-access-key cb-access-passphrase cb-access-sign cb-access-timestamp")
)
AUTHORIZATION = Venue(_headers("authorization"))

VENUES = {
    "backpack": Venue(_headers("x-api-key x-signature x-timestamp x-window")),
    "binance": BINANCE,
    "binancecoinm": BINANCE,
    "binanceusdm": BINANCE,
    "bitfinex": Venue(_headers("bfx-apikey bfx-nonce bfx-signature")),
    "bitflyer": Venue(_headers("access-key access-sign access-timestamp")),
    "bitget": Venue(_headers("access-key access-passphrase access-sign access-timestamp")),
    "bitso": AUTHORIZATION,
    # ccxt sends an empty body as a pair without a meaning.
    "bitstamp": Venue(
        _headers("x-auth x-auth-nonce x-auth-signature x-auth-timestamp x-auth-version"),
        frozenset({"foo"}),
    ),
    "bitvavo": Venue(
        _headers(
            "bitvavo-access-key bitvavo-access-signature bitvavo-access-timestamp "
            "bitvavo-access-window"
        )
    ),
    "bybit": Venue(
        _headers("x-bapi-api-key x-bapi-recv-window x-bapi-sign x-bapi-timestamp"),
        unescaped=_always_unescaped,
    ),
    "coinbase": COINBASE,
    "coinbaseexchange": COINBASE,
    "cryptocom": Venue(
        wrapping=re.compile(
            r'\{"id":"\d+","method":"[^"]*","params":(\{.*\}),"api_key":"[^"]*",'
            r'"sig":"[^"]*","nonce":"\d+"\}'
        )
    ),
    "deribit": AUTHORIZATION,
    "gate": Venue(_headers("key sign timestamp")),
    "gemini": Venue(
        _headers("x-gemini-apikey x-gemini-payload x-gemini-signature"),
        wrapping=re.compile(r'(?!)()|\{"request":"[^"]*","nonce":"?\d+"?,?(.*\})'),
        payload="X-GEMINI-PAYLOAD",
        api_key="account-" + STAND_IN,
    ),
    "htx": Venue(
        parameters=frozenset(
            {"AccessKeyId", "Signature", "SignatureMethod", "SignatureVersion", "Timestamp"}
        )
    ),
    "kraken": Venue(
        _headers("api-key api-sign"),
        frozenset({"nonce"}),
        re.compile(r'(?!)()|\{"nonce":"\d+",?(.*\})'),
    ),
    "krakenfutures": Venue(_headers("apikey authent nonce")),
    # ccxt also signs for its own partner account. The agent does not.
    "kucoin": Venue(
        _headers(
            "kc-api-key kc-api-key-version kc-api-partner kc-api-partner-sign "
            "kc-api-partner-verify kc-api-passphrase kc-api-sign kc-api-timestamp"
        ),
        unescaped=_always_unescaped,
    ),
    "mexc": Venue(
        _headers("apikey request-time signature x-mexc-apikey"),
        frozenset({"signature", "timestamp"}),
    ),
    "okx": Venue(_headers("ok-access-key ok-access-passphrase ok-access-sign ok-access-timestamp")),
    "phemex": Venue(
        _headers("x-phemex-access-token x-phemex-request-expiry x-phemex-request-signature")
    ),
    "upbit": AUTHORIZATION,
    "whitebit": Venue(
        _headers("x-txc-apikey x-txc-payload x-txc-signature"),
        wrapping=re.compile(
            r'(?!)()|\{"request":"[^"]*","nonce":"\d+","nonceWindow":(?:false|true),?(.*\})'
        ),
    ),
    "woo": Venue(_headers("x-api-key x-api-signature x-api-timestamp")),
}
