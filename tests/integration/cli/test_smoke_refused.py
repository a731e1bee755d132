"""`gateway smoke` where there is nothing to walk, and what it must not print."""

from pathlib import Path

import pytest

from app.smoke.first_steps import QUESTION
from tests.integration.cli.answered import refused
from tests.integration.cli.smoke_walks import SHORT, refuse, smoke
from tests.support.answers import vllm_error
from tests.support.gateway import StartGateway
from tests.support.reading_worker import ReadingWorker

SECRET = "sk-qw-a-secret-of-the-tests"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("ftp://host",), "URL must be like http://10.0.0.5:8000"),
        (("localhost:8000",), "URL must be like "),
        (("http://[bad",), "URL must be like "),
        (("http://user:pw@host",), "URL: only scheme, host, port and path"),
        (("http://host", "--from", "16"), "--from: between 1024 and 1M"),
        (("http://host", "--api-key", "a\nb"), "the API key is empty, or has characters"),
        (("http://host", "--api-key", ""), "the API key is empty, or has characters"),
        (("http://host", "--api-key-file", "/no/such"), "--api-key-file: cannot read /no/such: "),
        (("http://host", "--api-key", "a", "--api-key-file", "b"), "--api-key and --api-key-file"),
    ],
)
async def test_what_is_wrong_is_named_in_one_line(arguments: tuple[str, ...], line: str) -> None:
    result = await smoke(*arguments)
    assert result.exit_code == 2
    assert refused(result).startswith(line)


async def test_a_server_that_is_not_there(unused_port: int) -> None:
    result = await smoke(f"http://127.0.0.1:{unused_port}")
    assert result.exit_code == 2
    assert refused(result).endswith("is the URL right, and the server up?")


async def test_a_key_that_is_not_known(start_gateway: StartGateway, reader: ReadingWorker) -> None:
    gateway = await start_gateway(reader)
    for key in (None, SECRET):
        result = await smoke(gateway.url, key=key)
        assert result.exit_code == 2
        assert "GATEWAY_SMOKE_API_KEY, --api-key-file or --api-key" in refused(result)
        assert SECRET not in result.output


async def test_a_model_that_is_not_there_is_answered_with_those_that_are(
    reader: ReadingWorker,
) -> None:
    result = await smoke(reader.url, "--model", "other")
    assert result.exit_code == 2
    assert refused(result).endswith("none of those there: empero-ai/Qwythos-9B-Claude-Mythos-5-1M")


async def test_a_key_may_come_from_a_file(
    reader: ReadingWorker, start_gateway: StartGateway, tmp_path: Path
) -> None:
    gateway = await start_gateway(reader)
    file = tmp_path / "key"
    file.write_text(f"{gateway.key}\n")
    result = await smoke(gateway.url, *SHORT, "--api-key-file", str(file))
    assert result.exit_code == 0, result.output
    assert gateway.key not in result.output


async def test_a_key_that_a_server_repeats_is_not_printed(reader: ReadingWorker) -> None:
    reader.spoil = refuse(QUESTION, vllm_error(401, f"Incorrect API key provided: {SECRET}"))
    result = await smoke(reader.url, key=SECRET)
    assert result.exit_code == 1
    assert "Incorrect API key provided: [key]" in result.stdout
    assert SECRET not in result.output


async def test_a_server_cannot_steer_the_terminal(reader: ReadingWorker) -> None:
    reader.spoil = refuse(QUESTION, vllm_error(500, "\x1b[2J\x1b[31mgone\u202e"))
    for as_json in ((), ("--json",)):
        result = await smoke(reader.url, *as_json)
        assert result.exit_code == 1
        assert "gone" in result.stdout
        assert "\x1b" not in result.stdout
        assert "\u202e" not in result.stdout
