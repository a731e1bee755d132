"""Counts of tokens on the command line: 262144, 32k, 1M."""

import re

import click

_FORM = re.compile(r"([1-9]\d{0,8})([kKmM]?)", re.ASCII)
_UNITS = {"": 1, "k": 1024, "m": 1024 * 1024}


def token_count(value: str) -> int:
    """An option's type. k and M are powers of two, as the lengths of contexts are."""
    match = _FORM.fullmatch(value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not like 262144, 256k or 1M")
    return int(match[1]) * _UNITS[match[2].lower()]


def token_words(tokens: int) -> str:
    """The shorter way to write it, where there is one."""
    for unit, size in (("M", _UNITS["m"]), ("k", _UNITS["k"])):
        if tokens >= size and tokens % size == 0:
            return f"{tokens // size}{unit}"
    return f"{tokens:,}"
