"""`gateway`: the command line."""

import click

from app import __version__
from app.cli.audit import audit
from app.cli.config import config
from app.cli.db import db
from app.cli.dev import dev
from app.cli.doctor import doctor
from app.cli.embedded_worker import embedded_worker_command
from app.cli.keys import keys
from app.cli.plan import plan_command
from app.cli.plans import plans
from app.cli.rules import rules
from app.cli.serve import serve
from app.cli.smoke import smoke
from app.cli.tenants import tenants
from app.cli.workers import workers
from app.telemetry.command_logs import configure_command_logging


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="gateway")
def main() -> None:
    """An OpenAI-compatible gateway for Qwythos-9B.

    Settings come from the environment (GATEWAY_...) and from the file that GATEWAY_CONFIG names.
    """
    configure_command_logging()


for command in (
    dev,
    serve,
    config,
    doctor,
    keys,
    plans,
    tenants,
    audit,
    rules,
    db,
    plan_command,
    smoke,
    workers,
    embedded_worker_command,
):
    main.add_command(command)
