"""`gateway smoke`: a walk through a deployment, up to its longest prompt."""

import asyncio
import secrets
from contextlib import aclosing
from pathlib import Path

import click
import orjson
from yarl import URL

from app.cli.errors import BadUsage, CommandError
from app.cli.json_option import as_json, ascii_json
from app.cli.smoke_display import display
from app.cli.table import fields
from app.cli.token_count import token_count
from app.smoke.patience import PREFILL_FLOOR_TOKENS_PER_SECOND
from app.smoke.result import CannotStart, Result, Status
from app.smoke.rungs import TOP_TOKENS
from app.smoke.target import Target, new_session
from app.smoke.visit import Options, Thoughts
from app.smoke.walk import walk

EXIT_BROKEN = 1
SEED_BYTES = 4  # enough that no two walks share a prefix in a server's cache
MIN_RUNG_TOKENS = 1_024  # below, the template and the question are most of the prompt


class SmokeCannotStart(CommandError):
    exit_code = 2


@click.command()
@click.argument("url", metavar="URL")
# Variables of the caller's, not settings of a gateway.
@click.option(
    "--api-key",
    metavar="KEY",
    envvar="GATEWAY_SMOKE_API_KEY",
    help="Better in GATEWAY_SMOKE_API_KEY: others on the machine see arguments.",
)
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    envvar="GATEWAY_SMOKE_API_KEY_FILE",
    help="A file that holds it.",
)
@click.option("--model", metavar="NAME", help="Of those that it serves.")
@click.option(
    "--from",
    "first_tokens",
    metavar="TOKENS",
    type=token_count,
    default="32k",
    show_default=True,
    help="The first rung; each is twice as long as the one before.",
)
@click.option(
    "--max-context",
    "max_tokens",
    metavar="TOKENS",
    type=token_count,
    default="1M",
    show_default=True,
    help="Walk no further.",
)
@click.option(
    "--thoughts",
    type=click.Choice([value.value for value in Thoughts]),
    default=Thoughts.SPLIT.value,
    show_default=True,
    help="Where a bare server has to leave them.",
)
@click.option(
    "--prefill-floor",
    type=click.FloatRange(0, min_open=True),
    default=PREFILL_FLOOR_TOKENS_PER_SECOND,
    show_default=True,
    help="Tokens a second below which a prompt is given up.",
)
@click.option("--strict", is_flag=True, help="Warnings are failures.")
@click.option("--seed", metavar="TEXT", help="Repeat the documents of another walk.")
@as_json
def smoke(
    *,
    url: str,
    api_key: str | None,
    api_key_file: Path | None,
    model: str | None,
    first_tokens: int,
    max_tokens: int,
    thoughts: str,
    prefill_floor: float,
    strict: bool,
    seed: str | None,
    as_json: bool,
) -> None:
    """Walk through the deployment at URL, a gateway or a bare inference server: a question, the
    sampling, the thought, a tool call, a summary, then documents of 32k, 64k, ... 1M tokens with
    something to be found in them. It stops where it breaks, and says what to change.

    Ends with 0 where all was walked, 1 where something broke, 2 where it could not start.
    """
    if not MIN_RUNG_TOKENS <= first_tokens <= TOP_TOKENS:
        raise BadUsage(f"--from: between {MIN_RUNG_TOKENS} and 1M")
    options = Options(
        model=model,
        seed=seed or secrets.token_hex(SEED_BYTES),
        first_tokens=first_tokens,
        max_tokens=max_tokens,
        thoughts=Thoughts(thoughts),
        prefill_floor=prefill_floor,
        strict=strict,
    )
    key = _key(api_key, api_key_file)
    try:
        broken = asyncio.run(_walk(_base(url), key, options, as_json=as_json))
    except CannotStart as error:
        raise SmokeCannotStart(_line(str(error))) from None
    if broken:
        raise click.exceptions.Exit(EXIT_BROKEN)


async def _walk(url: str, key: str | None, options: Options, *, as_json: bool) -> bool:
    """Whether something broke."""
    async with (
        new_session() as session,
        aclosing(walk(Target(url, key, session), options, display())) as results,
    ):
        status = Status.OK
        async for result in results:
            status = result.status
            if as_json:
                click.echo(ascii_json(orjson.dumps(_document(result, options))))
            else:
                _echo(result)
    return status is Status.FAILED


def _base(url: str) -> str:
    """Without a trailing slash or `/v1`."""
    try:
        parsed = URL(url)
    except ValueError:
        parsed = URL()
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise BadUsage("URL must be like http://10.0.0.5:8000")
    if parsed.user or parsed.password or parsed.query_string or parsed.fragment:
        raise BadUsage("URL: only scheme, host, port and path; the key goes in --api-key-file")
    return str(parsed).rstrip("/").removesuffix("/v1")


def _key(given: str | None, path: Path | None) -> str | None:
    """The key is in no message."""
    if given is not None and path is not None:
        raise BadUsage("--api-key and --api-key-file: give one of them")
    if path is not None:
        try:
            given = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
            raise BadUsage(f"--api-key-file: cannot read {path}: {reason}") from None
    key = given.strip() if given is not None else None
    if key is not None and not (key.isascii() and key.isprintable() and key and " " not in key):
        raise BadUsage("the API key is empty, or has characters that no header can carry")
    return key


def _line(text: str) -> str:
    """Servers chose some of it: none of it may steer the terminal."""
    return fields([("", text)]).strip()


def _echo(result: Result) -> None:
    click.echo(_line(f"{result.status.value:<8} {result.step:<10} {result.detail}"))
    if result.advice is not None:
        click.echo(f"{'':<19} -> {_line(result.advice)}")


def _document(result: Result, options: Options) -> dict[str, object]:
    return {
        "object": "smoke.step",
        "step": result.step,
        "status": result.status,
        "detail": result.detail,
        "advice": result.advice,
        "figures": dict(result.figures or {}),
        "seed": options.seed,
    }
