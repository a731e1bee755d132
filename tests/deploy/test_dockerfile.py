"""What has to hold of the Dockerfile before anything is built."""

import re
from pathlib import Path

import pytest

from app import __version__
from tests.deploy.build_context import BuildContext
from tests.deploy.dockerfile import Dockerfile, Instruction, parse

ROOT = Path(__file__).parents[2]
TARGETS = ("gateway", "embedded-worker")
DIGITS = re.compile(r"[0-9]+:[0-9]+")


@pytest.fixture(scope="module")
def dockerfile() -> Dockerfile:
    return parse((ROOT / "Dockerfile").read_text("utf-8"))


def test_every_stage_has_the_one_base_and_that_is_pinned(dockerfile: Dockerfile) -> None:
    image, _, tag = dockerfile.arguments["BASE"].partition(":")
    assert image
    assert re.match(r"[0-9]+\.[0-9]+-", tag), "a version, and a release of the system"
    for stage in dockerfile.stages.values():
        assert stage.base == "${BASE}" or stage.base in dockerfile.stages


def test_what_is_built_without_a_target_is_the_gateway(dockerfile: Dockerfile) -> None:
    assert [*dockerfile.stages][-1] == "gateway"


@pytest.mark.parametrize("target", TARGETS)
def test_it_runs_as_a_user_with_numbers_of_its_own(dockerfile: Dockerfile, target: str) -> None:
    user = dockerfile.last(target, "USER").text
    assert DIGITS.fullmatch(user), "Kubernetes cannot tell that a name is not root's"
    assert user == "10001:10001"
    [home] = [
        copied
        for stage in dockerfile.line(target)
        for copied in stage.all("COPY")
        if copied.words[-1] == dockerfile.last(target, "VOLUME").text
    ]
    assert home.flags["chown"] == user


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_that_runs_needs_a_shell(dockerfile: Dockerfile, target: str) -> None:
    for word in ("ENTRYPOINT", "CMD", "HEALTHCHECK"):
        assert dockerfile.last(target, word).exec_form
    for stage in dockerfile.line(target):
        assert not list(stage.all("RUN")), "what is installed is made in a stage that is left"


@pytest.mark.parametrize("target", TARGETS)
def test_it_is_stopped_by_the_signal_that_drains(dockerfile: Dockerfile, target: str) -> None:
    assert dockerfile.last(target, "STOPSIGNAL").text == "SIGTERM"


@pytest.mark.parametrize("target", TARGETS)
def test_it_says_what_it_is(dockerfile: Dockerfile, target: str) -> None:
    labels: dict[str, str] = {}
    for stage in dockerfile.line(target):
        for label in stage.all("LABEL"):
            labels |= label.pairs
    for name in ("title", "description", "version", "revision", "licenses"):
        assert labels[f"org.opencontainers.image.{name}"]


def test_its_version_is_that_of_the_package(dockerfile: Dockerfile) -> None:
    assert Instruction("ARG", f"VERSION={__version__}") in dockerfile.stages["runtime"].instructions


def test_everything_that_is_copied_is_sent_to_the_build(dockerfile: Dockerfile) -> None:
    context = BuildContext(ROOT)
    for stage in dockerfile.stages.values():
        for copied in stage.all("COPY"):
            if "from" not in copied.flags:
                assert all(context.has(source) for source in copied.words[:-1]), copied.text


@pytest.mark.parametrize("private", [".git", ".env", "var", ".venv", "deploy/compose", "tests"])
def test_nothing_else_is_sent_to_a_build(private: str) -> None:
    assert not BuildContext(ROOT).has(private)
    assert not list(BuildContext(ROOT).files(private))


def test_every_python_package_is_checked_by_its_hash(dockerfile: Dockerfile) -> None:
    for stage in dockerfile.stages.values():
        for step in stage.all("RUN"):
            for command in step.command.split("&&"):
                if "pip " in command and " install " in command:
                    assert "--require-hashes" in command or "--no-index" in command
