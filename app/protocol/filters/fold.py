"""Text as a reader sees it: what is invisible left out, what looks alike made the same.

Rules are written for plain ASCII. A value with a zero-width space in it, in full-width letters or
with a Cyrillic letter is still that value to whoever reads it.
"""

import unicodedata

import regex

# In a row, shown or scanned: a flood of them would have to be held back with what it stands in.
# The longest emoji sequences have a dozen.
MAX_INVISIBLE = 32

_INVISIBLE_CLASS = (
    r"[\p{Cf}\p{Variation_Selector}"
    r"\u0000-\u0008\u000e-\u001f\u007f-\u0084\u0086-\u009f"  # controls but for white space
    r"\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"  # marks on a letter
    r"\u2065\ufff0-\ufff8\U000e0000-\U000e0fff"  # kept for invisible ones to come
    r"\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0]"  # blank letters
)
_INVISIBLE = regex.compile(_INVISIBLE_CLASS)
_FLOOD = regex.compile(f"({_INVISIBLE_CLASS}{{{MAX_INVISIBLE}}}){_INVISIBLE_CLASS}+")
_LEADING = regex.compile(f"{_INVISIBLE_CLASS}*")

# Letters that compatibility forms (NFKC) do not bring together: see Unicode TR 39.
# ruff: noqa: RUF001 - the letters are what this is about
_ALIKE = {
    **dict(zip("АВЕЅІЈКМНОРСТУХԌԚԜҮ", "ABESIJKMHOPCTYXGQWY", strict=True)),
    **dict(zip("аеорсухѕіјԁԛԝһӏԍүкмнтв", "aeopcyxsijdqwhlgykmhtb", strict=True)),
    **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEZHIKMNOPTYX", strict=True)),
    **dict(zip("αικνορυχγ", "aiknopuxy", strict=True)),
    **dict(zip("ıƖɡɩʟɑᴀᴄᴅᴇᴊᴋᴍᴏᴘᴛᴜᴠᴡᴢ", "iIgilaacdejkmoptuvwz", strict=True)),
    **dict(zip("ՏՍօոսցհ", "SUonugh", strict=True)),
    **dict.fromkeys("‐‑‒–—―−﹘", "-"),
    **dict.fromkeys("‘’‚‛′", "'"),
    **dict.fromkeys("“”„‟″", '"'),
    **dict.fromkeys("∕⁄", "/"),
    **dict.fromkeys("∶꞉", ":"),
    "‹": "<",
    "›": ">",
}


class _Folding(dict[int, str]):
    """For `str.translate`; each character is worked out once."""

    def __missing__(self, code: int) -> str:
        self[code] = folded = _folded(chr(code))
        return folded


def _folded(character: str) -> str:
    if _INVISIBLE.match(character):
        return ""
    if character.isascii():
        return character
    alike = _ALIKE.get(character)
    if alike is not None:
        return alike
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    compatible = unicodedata.normalize("NFKC", character)
    if compatible.isascii():
        return compatible
    return _ALIKE.get(compatible, character)


FOLDING = _Folding()


_CONTROLS = bytes((*range(0x09), *range(0x0E, 0x20), 0x7F))  # of ASCII, and invisible


def is_plain(text: str) -> bool:
    """Whether rules see it as it is."""
    if not text.isascii():
        return False
    return text.isprintable() if len(text) < 64 else _has_no_controls(text)


def _has_no_controls(text: str) -> bool:
    return len(text.encode().translate(None, _CONTROLS)) == len(text)


def fold(text: str) -> str:
    """As rules see it. It may be shorter, and with ligatures longer."""
    return text if is_plain(text) else text.translate(FOLDING)


def cap_invisible(text: str, run: int) -> tuple[str, int]:
    """Without the invisible characters beyond MAX_INVISIBLE in a row; `run` of them end what came
    before, and what is returned, too."""
    if is_plain(text):
        return text, 0
    if run:
        found = _LEADING.match(text)
        leading = 0 if found is None else found.end()
        if leading:
            kept = min(leading, MAX_INVISIBLE - run)
            if leading == len(text):
                return text[:kept], run + kept
            text = text[:kept] + text[leading:]
            rest = _FLOOD.sub(r"\1", text[kept:], concurrent=True)
            return text[:kept] + rest, _trailing(rest)
    text = _FLOOD.sub(r"\1", text, concurrent=True)
    return text, _trailing(text)


def _trailing(text: str) -> int:
    count = 0
    while count < len(text) and _INVISIBLE.match(text[-1 - count]):
        count += 1
    return count
