"""`gateway audit`: who asked for what, what was said, and how it ended."""

import click

from app.cli.audit_erase import erase
from app.cli.audit_export import export
from app.cli.audit_keys import public_key
from app.cli.audit_prune import prune
from app.cli.audit_search import search
from app.cli.audit_show import show
from app.cli.audit_verify import verify


@click.group()
def audit() -> None:
    """Who asked for what, what was said, and how it ended."""


for command in (search, show, verify, export, public_key, erase, prune):
    audit.add_command(command)
