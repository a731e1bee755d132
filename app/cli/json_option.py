"""`--json`, for commands that print something."""

import click

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
