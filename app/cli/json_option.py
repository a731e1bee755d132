"""`--json`, for commands that print something."""

import json
import re

import click

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

_NOT_ASCII = re.compile(r"[^\x00-\x7e]")


def ascii_json(document: bytes) -> str:
    """The same JSON in ASCII, so that no text of a client's can steer the terminal it is shown
    on."""
    return _NOT_ASCII.sub(lambda match: json.dumps(match[0])[1:-1], document.decode())
