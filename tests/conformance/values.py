"""Seeded random parameters: every shape of value that a request can carry."""

TEXTS = (
    "BTCUSDT", "BTC-USDT", "limit", "", " ", "a b", "+5", "5%", "a+b/c&d=e%f,g",
    "#?;:@!$'()*[]{}|\\^~`\"<>", "é", "中文", "😀", "\u00a0", "%41", "%2B", "x=y&z", "1,2,3", "true",
    "null", "tab\there", "new\nline",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 5, 30000, 9007199254740993, 18446744073709551616, 0.0, 1.0, 219.0, 0.1, -0.5, 1e-07,
    5e-324, 1.5e300, 123456.789, 0.30000000000000004, 1e16, 1e22,
)  # fmt: skip
TEXT_NUMBERS = ("0.01", "30000", "1e3", "00.10", "-5", "12345678901234567890.123456789")
# None of them ends in the name of another parameter of any exchange.
NAMES = ("zqa", "zqb", "zqc_d", "zqE", "zq9", "aq1", "Bq2", "mq_3", "q")


def params(random, names, rarely=False):
    """An object of 0 to 6 members, in no order. `names` are the exchange's own; the others are made
    up.
    """
    wanted = random.choice((0, 1, 1, 2, 3, 4, 6))
    made_up = NAMES if not rarely or random.random() < 1 / 8 else ()
    known = (*made_up, *random.sample(names, min(len(names), 6)))
    return {name: value(random) for name in random.sample(known, min(wanted, len(known)))}


def value(random, depth=0):
    """Plain texts and numbers mostly, since those are what every exchange takes."""
    kind = random.choices(
        ("plain", "text", "number", "boolean", "null", "array", "object"), (6, 3, 3, 1, 0.3, 1, 0.5)
    )[0]
    if kind == "plain":
        return random.choice(("BTCUSDT", "buy", "abc-123_X.~", *TEXT_NUMBERS))
    if kind == "text":
        return random.choice(TEXTS)
    if kind == "number":
        return random.choice(
            (
                *NUMBERS,
                random.randint(-(10**12), 10**18),
                random.random(),
                random.uniform(-1e6, 1e6),
            )
        )
    if kind == "boolean":
        return random.choice((True, False))
    if kind == "null" or depth > 2:
        return None
    items = [value(random, depth + 1) for _ in range(random.randint(0, 3))]
    return items if kind == "array" else dict(zip(NAMES, items))
