"""What a pattern alone cannot say: checksums, dates, whether a token is only a placeholder.

A rule names its validator in YAML. Each takes the normalised text of a match, its label and
separators included, says whether the match counts, and never raises.
"""

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Protocol

from stdnum import iban as iban_number
from stdnum import luhn as luhn_digits
from stdnum.ar import cuit
from stdnum.au import tfn
from stdnum.be import nn
from stdnum.br import cpf
from stdnum.ca import sin
from stdnum.ch import ssn as ahv
from stdnum.cl import rut
from stdnum.cn import ric
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.in_ import aadhaar, pan
from stdnum.it import codicefiscale
from stdnum.jp import in_ as my_number
from stdnum.kr import rrn
from stdnum.mx import curp
from stdnum.nl import bsn
from stdnum.no import fodselsnummer
from stdnum.pl import pesel
from stdnum.pt import nif
from stdnum.se import personnummer
from stdnum.tr import tckimlik
from stdnum.us import itin, ssn
from stdnum.za import idnr as za_idnr

Validator = Callable[[str], bool]

_NOT_DIGITS = re.compile("[^0-9]")
_SEPARATORS = re.compile("[^A-Za-z0-9]")
# What stands in a token's place in documentation.
_STAND_INS = re.compile(
    "xxxx|your|placeholder|change[_-]?me|redacted|replace|insert|dummy"
    "|(?<=[_-])example|example(?=[_-])",
    re.IGNORECASE,
)
# A random token of 16 characters has fewer than 5 different ones once in a million in hexadecimal.
_TOKEN_TAIL_CHARACTERS = 16
_TOKEN_DISTINCT = 5
# Not to be told from a variable's name below that.
_SECRET_VALUE_CHARACTERS = 16
_SECRET_VALUE_DISTINCT = 10
_TEXT_AFTER_ASSIGNMENT = re.compile("[:=]>?[\\s\"'\\\\]*([^\\s\"'\\\\]*)\\\\?[\"']?$")

# Issuers' ranges, by their first digits, with the lengths that they give out.
_CARD_ISSUERS = (
    (re.compile("4"), (13, 16, 19)),  # Visa
    (re.compile("5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),  # Mastercard
    (re.compile("3[47]"), (15,)),  # American Express
    (re.compile("30[0-59]|3[689]"), (14, 16)),  # Diners Club
    (re.compile("35(?:2[89]|[3-8])"), (16, 17, 18, 19)),  # JCB
    (re.compile("6011|64[4-9]|65|62|81"), (16, 17, 18, 19)),  # Discover, UnionPay
    (re.compile("50|5[6-9]|6[37]"), (13, 14, 15, 16, 17, 18, 19)),  # Maestro
    (re.compile("220[0-4]"), (16,)),  # Mir
)

# Domains of two letters are countries'. Of the longer ones these are in use for mail; others, such
# as `.service`, `.png` or `.weight`, stand after an `@` in code more often than in an address.
_MAIL_DOMAINS = frozenset(
    (
        "academy", "accountants", "agency", "app", "army", "arpa", "art", "asia",
        "associates", "attorney", "bank", "berlin", "bike", "bio", "biz", "blog", "build",
        "builders", "business", "cafe", "capital", "care", "careers", "cat", "catering",
        "center", "charity", "church", "city", "clinic", "cloud", "club", "coach",
        "codes", "coffee", "college", "com", "community", "company", "computer",
        "construction", "consulting", "coop", "credit", "cymru", "dental", "dentist",
        "design", "dev", "digital", "direct", "doctor", "earth", "edu", "education",
        "email", "energy", "engineer", "engineering", "enterprises", "equipment",
        "estate", "eus", "events", "exchange", "expert", "family", "farm", "film",
        "finance", "financial", "fitness", "foundation", "fun", "fund", "gal", "gallery",
        "games", "global", "gmbh", "gov", "guide", "guru", "hamburg", "health",
        "healthcare", "help", "holdings", "homes", "hospital", "host", "hosting", "house",
        "immo", "inc", "info", "ink", "institute", "insurance", "int", "international",
        "investments", "jobs", "koeln", "land", "law", "lawyer", "legal", "life", "link",
        "live", "llc", "london", "ltd", "market", "marketing", "media", "medical", "mil",
        "mobi", "moe", "money", "museum", "name", "net", "network", "news", "ngo",
        "ninja", "nyc", "one", "online", "ong", "org", "paris", "partners", "pharmacy",
        "photo", "photography", "photos", "plus", "press", "pro", "productions",
        "properties", "pub", "quebec", "realty", "report", "restaurant", "rocks", "ruhr",
        "sale", "salon", "school", "science", "scot", "services", "shop", "site",
        "social", "software", "solar", "solutions", "space", "store", "studio", "surgery",
        "swiss", "systems", "taxi", "team", "tech", "technology", "tel", "tirol", "tokyo",
        "tools", "top", "tours", "town", "trade", "training", "travel", "university",
        "vet", "video", "vip", "vision", "wales", "website", "wiki", "wien", "work",
        "works", "world", "wtf", "xyz", "yoga", "zone",
    )
)  # fmt: skip
_MACHINE_ACCOUNTS = frozenset(("git", "hg", "svn"))  # `git@host:path` names a repository

# What is written for a password in documentation, and the beginnings of variables in templates.
_STAND_IN_PASSWORDS = frozenset(
    (
        "pass", "passwd", "password", "passphrase", "pw", "pwd", "secret", "token",
        "user", "username", "key", "apikey", "api_key", "api-key", "mypass", "mypassword",
        "my_password", "my-password", "dbpass", "dbpassword", "db_password",
    )
)  # fmt: skip
_TEMPLATE_SIGNS = frozenset("$<{%[*")

_NUMBER_PREFIXES_NEVER_GIVEN = frozenset(("BG", "GB", "KN", "NK", "NT", "TN", "ZZ"))
_YEAR = re.compile("(?:19|20)[0-9]{2}")


class _Number(Protocol):
    """A module of python-stdnum."""

    def is_valid(self, number: str) -> bool: ...


def _digits(text: str) -> str:
    return _NOT_DIGITS.sub("", text)


def _checked(number: _Number, normal: Callable[[str], str] = str) -> Validator:
    def valid(text: str) -> bool:
        value = normal(text)
        # 000000000 and its like pass many checksums, and are nobody's number.
        if len(set(value)) < 3:
            return False
        try:
            return bool(number.is_valid(value))
        except ValueError:  # what python-stdnum's own errors are, and int()'s
            return False

    return valid


def luhn(text: str) -> bool:
    """ISO/IEC 7812's checksum over the digits of the text, of which there are at least two."""
    digits = _digits(text)
    return len(digits) > 1 and luhn_digits.is_valid(digits)


def payment_card(text: str) -> bool:
    """A number that an issuer could have given out: its range, its length, its checksum."""
    digits = _digits(text)
    if len(set(digits)) < 2 or not luhn(digits):
        return False
    return any(
        len(digits) in lengths and begins.match(digits) is not None
        for begins, lengths in _CARD_ISSUERS
    )


def iban(text: str) -> bool:
    """ISO 13616: the country's length and structure, and the checksum modulo 97."""
    return iban_number.is_valid(_SEPARATORS.sub("", text), check_country=False)


def token(text: str) -> bool:
    """Random enough at its end for a secret; no placeholder (`sk-your-key`, `ghp_xxxxxxxx`)."""
    if _STAND_INS.search(text) is not None:
        return False
    return len(set(text[-_TOKEN_TAIL_CHARACTERS:])) >= _TOKEN_DISTINCT


def credentials(text: str) -> bool:
    """What follows the last space of a header is a token, and not the next word of a sentence."""
    value = text.rpartition(" ")[2]
    if not token(text):
        return False
    if any(character.isdigit() for character in value):
        return any(character.isalpha() for character in value)
    rises = sum(one.islower() and next_one.isupper() for one, next_one in pairwise(value))
    return rises >= 2


def secret_value(text: str) -> bool:
    """The quoted value at the end of an assignment looks made by a machine: long, with small and
    capital letters and digits."""
    found = _TEXT_AFTER_ASSIGNMENT.search(text)
    value = "" if found is None else found[1]
    return (
        len(value) >= _SECRET_VALUE_CHARACTERS
        and len(set(value)) >= _SECRET_VALUE_DISTINCT
        and re.search("[a-z]", value) is not None
        and re.search("[A-Z]", value) is not None
        and len(_digits(value)) >= 2
        and _STAND_INS.search(value) is None
    )


def url_password(text: str) -> bool:
    """In `://user:password@`, the password is no word for one and no variable of a template."""
    password = text.rpartition("@")[0].partition("://")[2].partition(":")[2]
    if not password or password[0] in _TEMPLATE_SIGNS or len(set(password)) < 2:
        return False
    if password.lower() in _STAND_IN_PASSWORDS or _STAND_INS.search(password) is not None:
        return False
    return not (password.endswith(("}", "%", "]")) and not password[0].isalnum())


def email_address(text: str) -> bool:
    """The domain may receive mail, and the account is not a version control system's."""
    local, _, domain = text.lower().rpartition("@")
    top = domain.rpartition(".")[2]
    return local not in _MACHINE_ACCOUNTS and (len(top) == 2 or top in _MAIL_DOMAINS)


def phone(text: str) -> bool:
    """8 to 15 digits (E.164) that are not all alike."""
    digits = _digits(text)
    return 8 <= len(digits) <= 15 and len(set(digits)) > 2


def uk_nino(text: str) -> bool:
    """A National Insurance number, whose prefix is one that is given out. It has no checksum."""
    return _SEPARATORS.sub("", text)[:2].upper() not in _NUMBER_PREFIXES_NEVER_GIVEN


def in_aadhaar(text: str) -> bool:
    """Verhoeff's checksum; three years in a row are no Aadhaar number."""
    groups = re.findall("[0-9]{4}", text)
    return not all(map(_YEAR.fullmatch, groups)) and _aadhaar(text)


_aadhaar = _checked(aadhaar, _digits)

VALIDATORS: Mapping[str, Validator] = MappingProxyType(
    {
        "ar-cuit": _checked(cuit, _digits),
        "au-tfn": _checked(tfn, _digits),
        "be-national-number": _checked(nn, _digits),
        "br-cpf": _checked(cpf, _digits),
        "ca-sin": _checked(sin, _digits),
        "ch-ahv": _checked(ahv, _digits),
        "cl-rut": _checked(rut),
        "cn-resident-id": _checked(ric),
        "credentials": credentials,
        "de-tax-id": _checked(idnr, _digits),
        "email-address": email_address,
        "es-dni": _checked(dni),
        "es-nie": _checked(nie),
        "fi-hetu": _checked(hetu),
        "fr-nir": _checked(nir),
        "gb-nhs": _checked(nhs, _digits),
        "gb-nino": uk_nino,
        "iban": iban,
        "in-aadhaar": in_aadhaar,
        "in-pan": _checked(pan),
        "it-codice-fiscale": _checked(codicefiscale),
        "jp-my-number": _checked(my_number, _digits),
        "kr-rrn": _checked(rrn),
        "luhn": luhn,
        "mx-curp": _checked(curp),
        "nl-bsn": _checked(bsn, _digits),
        "no-fodselsnummer": _checked(fodselsnummer, _digits),
        "payment-card": payment_card,
        "phone": phone,
        "pl-pesel": _checked(pesel, _digits),
        "pt-nif": _checked(nif, _digits),
        "se-personnummer": _checked(personnummer),
        "secret-value": secret_value,
        "token": token,
        "tr-kimlik": _checked(tckimlik, _digits),
        "url-password": url_password,
        "us-itin": _checked(itin),
        "us-ssn": _checked(ssn, _digits),
        "za-id": _checked(za_idnr, _digits),
    }
)
