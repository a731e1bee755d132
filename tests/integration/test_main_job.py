"""What `make run` promises: a first answer from a real small model, with nothing but this."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

STOP_SECONDS = 60.0  # only spent on failure
ANSWER_SECONDS = 300.0  # for the model on a loaded machine; likewise
# One answer in some hundreds of so small a model finds no end, and is cut off.
ENDS = {"stop", "length"}
QUESTION = "Explain what an API gateway does in one sentence."


class DevGateway:
    """`gateway dev` as a process of its own, and what it printed until it was ready."""

    def __init__(self, process: "subprocess.Popen[str]", banner: str) -> None:
        self.process = process
        self.banner = banner
        (self.key,) = re.findall(r"^(sk-qw-\S+)$", banner, re.MULTILINE)
        (self.url,) = re.findall(r"Qwythos Gateway on (\S+)", banner)

    def sdk(self) -> OpenAI:
        return OpenAI(
            base_url=f"{self.url}/v1", api_key=self.key, timeout=ANSWER_SECONDS, max_retries=0
        )


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    home = tmp_path_factory.mktemp("home")
    process = subprocess.Popen(
        [Path(sys.executable).with_name("gateway"), "dev", "--port", "0"],
        env={"PATH": "/usr/bin:/bin", "GATEWAY_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    banner = ""
    for line in process.stdout:
        banner += line
        if "Stop: Ctrl-C" in line:
            break
    yield DevGateway(process, banner)
    process.send_signal(signal.SIGINT)
    assert process.wait(STOP_SECONDS) == 0
    process.stdout.close()


def test_the_banner_says_who_answers_and_how_to_point_it_elsewhere(dev: DevGateway) -> None:
    assert "SmolLM2-135M" in dev.banner
    assert "stands in for Qwythos" in dev.banner
    assert "GATEWAY_WORKERS=" in dev.banner


def test_the_curl_line_of_the_banner_works_as_it_is_pasted(dev: DevGateway) -> None:
    (line,) = re.findall(r"^curl .*?\}'$", dev.banner, re.MULTILINE | re.DOTALL)
    answer = subprocess.run(
        ["bash", "-c", line.replace("curl ", "curl --silent --fail ", 1)],
        capture_output=True,
        text=True,
        timeout=ANSWER_SECONDS,
        check=True,
    )
    (choice,) = json.loads(answer.stdout)["choices"]
    assert choice["finish_reason"] in ENDS
    assert choice["message"]["content"]


def test_the_sdk_chats_and_the_thought_is_counted_and_hidden(dev: DevGateway) -> None:
    answer = dev.sdk().chat.completions.create(
        model="qwythos", messages=[{"role": "user", "content": QUESTION}]
    )
    (choice,) = answer.choices
    assert choice.finish_reason in ENDS
    assert choice.message.content is not None
    assert len(choice.message.content.split()) >= 5
    assert "think>" not in answer.model_dump_json()
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert (answer.usage.completion_tokens_details.reasoning_tokens or 0) > 0


def test_the_sdk_streams(dev: DevGateway) -> None:
    chunks = list(
        dev.sdk().chat.completions.create(
            model="qwythos",
            messages=[{"role": "user", "content": "Hello!"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text.strip()
    assert "think>" not in text
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] in ENDS
    assert chunks[-1].usage is not None


def test_it_is_ready_and_counts(dev: DevGateway) -> None:
    assert httpx.get(f"{dev.url}/readyz").status_code == 200
    assert "gateway_requests_total" in httpx.get(f"{dev.url}/metrics").text
