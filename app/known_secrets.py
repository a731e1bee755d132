"""The secrets that this process was given, by their values, so that no text carries them out.

`Secret` (app/settings/forms.py) and a worker's key tell them to `KNOWN` when they are read, whoever
reads them: what was once of that type is masked in every log line and in every audit record, also
where it comes back from outside, in a driver's error or in a prompt.
"""

import json
import re
import threading
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from pydantic import AnyHttpUrl, BaseModel, SecretStr

# A short one would be found in innocent words: "postgres" is a password, too, and 12 characters of
# base64 are the least that anybody makes. In a URL it is masked by its place.
MIN_CHARACTERS = 12
# Workers that come and go may each bring a key. Looking for one takes 60 ns in a log line; of
# more than these, the masks by form (app/telemetry/line_masks.py) have to do. The settings' own
# secrets are few, and are known however many workers were named before them.
MAX_VALUES = 128

MASK = "***"

# Of what the settings take: databases, Redis, and the HTTP of workers. A pepper may have a `://`.
_SCHEME = re.compile(r"\s*(?:postgres|redis|http)[a-z0-9+]*://", re.IGNORECASE)


class KnownSecrets:
    """For any thread: readers see the values before or after a new one."""

    def __init__(self) -> None:
        self.texts: tuple[str, ...] = ()
        self._bytes: tuple[bytes, ...] = ()
        self._adding = threading.Lock()  # or the one of two that came first would be forgotten

    def add(self, secret: str, *, bounded: bool = True) -> None:
        """A key, several with commas between them, `name=value` pairs, or a URL with a password.
        Where it is `bounded` it is not taken as one more than MAX_VALUES."""
        values = {value for value in _values(secret) if len(value) >= MIN_CHARACTERS}
        with self._adding:
            known = set(self.texts)
            fresh = values - known
            if not fresh or (bounded and len(known) + len(fresh) > MAX_VALUES):
                return
            # The longest first: one may be a part of another.
            self.texts = tuple(sorted(known | fresh, key=len, reverse=True))
            self._bytes = tuple(text.encode() for text in self.texts)

    @property
    def longest_characters(self) -> int:
        return len(self.texts[0]) if self.texts else 0

    def masked(self, text: str) -> str:
        for value in self.texts:
            if value in text:
                text = text.replace(value, MASK)
        return text

    def masked_bytes(self, text: bytes) -> bytes:
        """The same of a text, or of JSON, as UTF-8."""
        for value in self._bytes:
            if holds(text, value):
                text = text.replace(value, MASK.encode())
        return text


def holds(text: bytes, value: bytes) -> bool:
    """`value in text`, from its end: in prose of 4 MB that takes CPython 0.1 to 0.3 ms instead of
    0.3 to 1.7. Where nearly all of `value` stands again and again it may take longer by as much as
    that is long: for what nobody outside knows, and for what is short."""
    return text.rfind(value) >= 0


KNOWN = KnownSecrets()


def remember(secret: SecretStr) -> SecretStr:
    """One of the settings. For a validator: gives back what it is given."""
    KNOWN.add(secret.get_secret_value(), bounded=False)
    return secret


def remember_key(secret: SecretStr) -> SecretStr:
    """The same of a worker's."""
    KNOWN.add(secret.get_secret_value())
    return secret


def remember_url(url: AnyHttpUrl) -> AnyHttpUrl:
    """The same of a worker's URL, which may hold a password."""
    KNOWN.add(str(url))
    return url


def remember_all(settings: BaseModel) -> None:
    """Those of settings that came from another process, which were read there."""
    for value in settings.__dict__.values():
        if isinstance(value, SecretStr):
            remember(value)
        else:
            _remember_within(value)


def _remember_within(value: object) -> None:
    """The workers' among them."""
    if isinstance(value, SecretStr):
        remember_key(value)
    elif isinstance(value, AnyHttpUrl):
        remember_url(value)
    elif isinstance(value, BaseModel):
        for inner in value.__dict__.values():
            _remember_within(inner)
    elif isinstance(value, tuple):
        for inner in value:
            _remember_within(inner)


def is_url(secret: str) -> bool:
    """Whether it begins as one. A header's value may hold one further on, and is a secret whole."""
    return _SCHEME.match(secret) is not None


def _values(secret: str) -> Iterator[str]:
    """In all forms in which it may come back: as it is, and as JSON has it inside of a string."""
    for value in _url_values(secret) if is_url(secret) else _plain_values(secret):
        yield value
        for ascii_only in (True, False):
            yield json.dumps(value, ensure_ascii=ascii_only)[1:-1]


def _url_values(url: str) -> Iterator[str]:
    """Only the password: hosts and names are told to everybody."""
    try:
        password = urlsplit(url).password
    except ValueError:  # no URL; whoever uses it says so
        return
    if password:
        yield password
        yield unquote(password)


def _plain_values(secret: str) -> Iterator[str]:
    yield secret.strip()
    yield secret.strip().rstrip("=")  # base64 that was pasted without its padding
    for part in secret.split(","):
        value = part.partition("=")[2]
        yield part.strip()
        yield value.strip()
        yield value.rpartition(" ")[2]  # "Authorization=Bearer x"
