"""`gateway plan`, which asks nobody: no database, no worker, no GPU."""

import json
import shlex
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app.cli import main
from tests.integration.cli.answered import answered, refused


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["plan", *arguments])


def test_it_says_that_nothing_was_measured() -> None:
    assert run("--gpu", "h100").stdout.startswith("Calculated, not measured")
    assert answered(run("--gpu", "h100", "--json"))["basis"] == "calculated, not measured"


def test_without_a_number_of_gpus_all_are_compared_and_one_is_recommended() -> None:
    result = run("--gpu", "h100", "--context", "1M")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    head = next(index for index, line in enumerate(lines) if line.startswith("TP "))
    compared = [line.split() for line in lines[head + 1 : head + 5]]
    assert [cells[0] for cells in compared] == ["1", "2", "4", "8"]
    assert [cells[-1] == "recommended" for cells in compared] == [False, False, True, False]
    assert compared[2][:5] == ["4", "65.1", "8.53M", "8.1", "45-85"]
    assert "Recommended: tensor parallel 4" in lines


def test_the_line_can_be_pasted() -> None:
    result = run("--gpu", "h100", "--tensor-parallel", "1", "--context", "262144")
    command = result.stdout[result.stdout.index("vllm serve") :].split("\n\n")[0]
    words = shlex.split(command.replace("\\\n", ""))  # as a shell joins lines
    assert words[:2] == ["vllm", "serve"]
    assert words[words.index("--max-model-len") + 1] == "262144"
    sampling = json.loads(words[words.index("--override-generation-config") + 1])
    assert sampling["temperature"] == 0.6


def test_the_ladder_ends_at_the_context() -> None:
    (plan,) = answered(run("--gpu", "H200", "--gpus", "2", "--context", "1M", "--json"))["plans"]
    lengths = [rung["context_tokens"] for rung in plan["rungs"]]
    assert lengths == [32_768, 65_536, 131_072, 262_144, 524_288, 1_048_576]
    assert plan["fits"] is True
    assert plan["bounds"]["sequences"] == 7
    assert plan["command"].startswith("vllm serve ")


def test_what_does_not_fit_has_no_line_and_ends_with_1() -> None:
    result = run("--gpu", "rtx4090", "--tensor-parallel", "1", "--context", "1M")
    assert result.exit_code == 1
    assert "vllm serve" not in result.stdout
    assert "! One sequence of 1,048,576 tokens does not fit" in result.stdout
    as_json = run("--gpu", "rtx4090", "--tensor-parallel", "1", "--context", "1M", "--json")
    assert as_json.exit_code == 1
    (plan,) = json.loads(as_json.stdout)["plans"]
    assert (plan["fits"], plan["command"], plan["bounds"]) == (False, None, None)


def test_where_no_number_of_gpus_does_the_reason_is_given() -> None:
    result = run("--gpu-memory-gib", "4")
    assert result.exit_code == 1
    assert "262,144 tokens fit on none of these." in result.stdout


def test_known_gpus_are_listed() -> None:
    names = [line.split()[0] for line in run("--list").stdout.splitlines()[1:]]
    assert names == ["rtx4090", "l40s", "a100", "h100", "h200", "b200"]
    listed: list[dict[str, Any]] = json.loads(run("--list", "--json").stdout)
    assert [gpu["name"] for gpu in listed] == names


def test_a_gpu_of_ones_own_is_described_by_its_data_sheet() -> None:
    options = ("--gpu-memory-gib", "79.1", "--tflops", "989", "--bandwidth-gb-s", "3350", "--json")
    (own,) = answered(run(*options, "--gpus", "1"))["plans"]
    (known,) = answered(run("--gpu", "h100", "--gpus", "1", "--json"))["plans"]
    assert own["rungs"] == known["rungs"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "name a GPU: --gpu is one of rtx4090, l40s, a100, h100, h200, b200; or give --gpu-"),
        (("--gpu", "v100"), "--gpu: 'v100' is none of rtx4090, "),
        (("--gpu", "h100", "--gpu-memory-gib", "8"), "--gpu-memory-gib: describes a GPU of your "),
        (("--gpu", "h100", "--tflops", "8"), "--tflops and --bandwidth-gb-s describe a GPU of "),
        (("--gpu", "h100", "--context", "2M"), "--context: the model has 1,048,576 tokens at most"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(arguments: tuple[str, ...], line: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert refused(result).startswith(line)


@pytest.mark.parametrize("context", ["0", "1G", "-5", "1.5M", "", "1 M"])
def test_a_context_is_a_count_of_tokens(context: str) -> None:
    result = run("--gpu", "h100", "--context", context)
    assert result.exit_code == 2
    assert "is not like 262144, 256k or 1M" in result.stderr
