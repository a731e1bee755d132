"""`gateway smoke` as after `make run`: the gateway in front of llama.cpp with the small model."""

import asyncio
import json
from pathlib import Path

from click.testing import CliRunner

from app.cli import main
from app.embedded.worker import embedded_worker
from tests.support.gateway import running_gateway

# By the model: too small to call a tool, at times to end a summary or to find two words.
MAY_WARN = {"question", "tool call", "summary", "1k"}


async def test_the_stand_in_is_walked_as_far_as_it_goes(tmp_path: Path, database_url: str) -> None:
    async with (
        embedded_worker(tmp_path, None) as worker,
        running_gateway(
            database_url,
            [],
            workers=[worker.settings()],
            default_output_tokens=worker.default_output_tokens,
        ) as gateway,
    ):
        arguments = ["smoke", gateway.url, "--from", "1k", "--max-context", "1k", "--json"]
        result = await asyncio.to_thread(
            CliRunner().invoke, main, arguments, env={"GATEWAY_SMOKE_API_KEY": gateway.key}
        )
    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    found = {step["step"]: step for step in map(json.loads, lines)}
    assert result.exit_code == 0, found
    assert found["reach"]["figures"]["context_tokens"] == 8_192
    for step in found.values():
        allowed = {"ok", "warning"} if step["step"] in MAY_WARN else {"ok", "skipped"}
        assert step["status"] in allowed, step
    assert found["1k"]["figures"]["cached_tokens"] > 500
    assert found["16k"]["status"] == "skipped"
