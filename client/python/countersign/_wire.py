"""The protocol's frames, and the JSON text in them."""

import json
import struct
from decimal import Decimal

from ._errors import Refused, Unavailable

EXTENSION, EXTENSION_RESPONSE = 27, 29
# The bytes of a length field.
LENGTH = 4
MAX_FRAME = 256 * 1024
MAX_PAYLOAD = 64 * 1024
# Largest number of digits before or after the point of a number. No exchange takes as many.
MOST_DIGITS = 400


def frame(extension, payload):
    """The bytes of a question as the socket carries them."""
    data = payload.encode()
    if len(data) > MAX_PAYLOAD:
        raise ValueError(f"the request is longer than {MAX_PAYLOAD} bytes")
    name = extension.encode()
    body = struct.pack(">BI", EXTENSION, len(name)) + name + struct.pack(">I", len(data)) + data
    return struct.pack(">I", len(body)) + body


def understood(text):
    """The content of an answer's JSON. Raises `Refused` if it is a refusal."""
    try:
        answer = json.loads(text)
    except ValueError as error:
        raise Unavailable("the agent's answer is not JSON") from error
    if not isinstance(answer, dict) or answer.get("v") != 1:
        raise Unavailable("the agent speaks another version of the protocol")
    if "error" in answer:
        error = answer["error"]
        raise Refused(error["code"], error["message"], error.get("request_id"))
    return answer


def cut(data):
    """The frame in `data`, without its length field. None if bytes are missing."""
    if len(data) < LENGTH:
        return None
    length = int.from_bytes(data[:LENGTH], "big")
    if not 1 <= length <= MAX_FRAME:
        raise Unavailable(f"the agent sent a frame of {length} bytes")
    if len(data) > LENGTH + length:
        raise Unavailable("the agent sent more than one answer")
    return data[LENGTH:] if len(data) == LENGTH + length else None


def payload(extension, body):
    """The payload of an answer to a question of `extension`."""
    if body[0] != EXTENSION_RESPONSE:
        raise Unavailable(f"the agent answered {extension} with message {body[0]}")
    name, rest = _string(body[1:])
    if name != extension.encode():
        raise Unavailable(f"the agent answered another question than {extension}")
    text, rest = _string(rest)
    if rest:
        raise Unavailable("the agent's answer has too many bytes")
    return text


def _string(data):
    """The first string of `data`, and the bytes after it."""
    length = int.from_bytes(data[:LENGTH], "big")
    string, rest = data[LENGTH : LENGTH + length], data[LENGTH + length :]
    if len(data) < LENGTH + length:
        raise Unavailable("the agent's answer is cut short")
    return string, rest


def json_text(value):
    """Compact JSON. Numbers are plain decimals, because exchanges refuse exponents."""
    try:
        return _written(value)
    except RecursionError as error:
        raise ValueError("the parameters are nested too deeply") from error


def params_text(params):
    """Parameters as JSON text. A text is checked and kept as it is."""
    if not isinstance(params, str):
        return json_text(params)
    if not isinstance(json.loads(params), (dict, list)):
        raise ValueError("params is neither an object nor an array")
    return params


def _written(value):
    if isinstance(value, dict):
        members = (
            f"{_string_text(_name(name))}:{_written(member)}" for name, member in value.items()
        )
        return "{" + ",".join(members) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_written, value)) + "]"
    if isinstance(value, str):
        return _string_text(value)
    return _number_or_word(value)


_string_text = json.JSONEncoder(ensure_ascii=False).encode


def _name(name):
    """The name of a member, as Python's `json` writes it."""
    return name if isinstance(name, str) else _number_or_word(name)


def _number_or_word(value):
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int):
        return _plain(Decimal(int(value)))
    if isinstance(value, float):
        return _plain(Decimal(float.__repr__(value)))
    if isinstance(value, Decimal):
        return _plain(value)
    raise TypeError(f"a parameter of type {type(value).__name__} is neither text nor a number")


def _plain(number):
    """A number without an exponent, with exactly the digits that it has. A caller's own number
    class cannot change the text.
    """
    if not number.is_finite():
        raise ValueError(f"{number} is not a number that an exchange could read")
    if number.adjusted() > MOST_DIGITS or number.as_tuple().exponent < -MOST_DIGITS:
        raise ValueError(f"a number with more than {MOST_DIGITS} digits before or after its point")
    return Decimal.__format__(number, "f")
