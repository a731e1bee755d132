"""What a client asks for in headers, because OpenAI's body has no field for it."""

import re

from starlette.datastructures import Headers

from app.errors import InvalidRequest

MAX_COLD_PREFILL = "x-gateway-max-cold-prefill-tokens"

# As an integer of a policy: 1 to 10**12, in plain digits.
_TOKENS = re.compile(r"[1-9][0-9]{0,11}|10{12}", re.ASCII)


def max_cold_prefill_tokens(headers: Headers) -> int | None:
    """None where it is not asked for. Raises InvalidRequest for what is no such number, or for two:
    one that was misread would start the very prefill that it should have prevented."""
    values = headers.getlist(MAX_COLD_PREFILL)
    if not values:
        return None
    if len(values) > 1 or not _TOKENS.fullmatch(values[0].strip(" \t")):
        raise InvalidRequest(
            f"Invalid value for '{MAX_COLD_PREFILL}': must be one positive integer.",
            param=MAX_COLD_PREFILL,
        )
    return int(values[0])
