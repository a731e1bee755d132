"""What has to hold of the Dockerfile before anything is built."""

import re
from pathlib import Path

import pytest

from app import __version__, health
from app.settings import Settings
from tests.deploy.build_context import BuildContext
from tests.deploy.commands import read
from tests.deploy.dockerfile import Dockerfile, Instruction, parse

ROOT = Path(__file__).parents[2]
TARGETS = ("gateway", "embedded-worker")
BUILT_IN = {"gateway": "build", "embedded-worker": "build-embedded-worker"}
DIGITS = re.compile(r"[0-9]+:[0-9]+")


@pytest.fixture(scope="module")
def dockerfile() -> Dockerfile:
    return parse((ROOT / "Dockerfile").read_text("utf-8"))


def test_every_stage_has_the_one_base_and_that_is_pinned(dockerfile: Dockerfile) -> None:
    image, _, tag = dockerfile.arguments["BASE"].partition(":")
    assert image
    assert re.match(r"[0-9]+\.[0-9]+-slim-[a-z]", tag), "a version, and a release of the system"
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
def test_it_holds_the_environment_that_was_built_for_it_where_that_was_built(
    dockerfile: Dockerfile, target: str
) -> None:
    """The first line of each command names its interpreter by its path."""
    environment = dockerfile.last("build", "ENV").pairs["VENV"]
    [copied] = [
        copied
        for copied in dockerfile.stages[target].all("COPY")
        if copied.words == [environment, environment]
    ]
    assert copied.flags["from"] == BUILT_IN[target]
    first, *_ = dockerfile.last(target, "ENV").pairs["PATH"].split(":")
    assert first == f"{environment}/bin"


@pytest.mark.parametrize("target", TARGETS)
def test_it_runs_a_command_of_ours_that_others_reach(dockerfile: Dockerfile, target: str) -> None:
    assert dockerfile.last(target, "ENTRYPOINT").exec_form == ["gateway"]
    command = read(dockerfile.last(target, "CMD").exec_form)
    assert command.info_name == {"gateway": "serve"}.get(target, target)
    assert command.params["host"] == "0.0.0.0"
    port = command.params["port"] or Settings.model_fields["port"].default
    assert dockerfile.last(target, "EXPOSE").text == str(port)


@pytest.mark.parametrize(
    ("target", "path"), [("gateway", "/healthz"), ("embedded-worker", "/health")]
)
def test_its_health_is_asked_by_our_module_where_it_listens(
    dockerfile: Dockerfile, target: str, path: str
) -> None:
    *asks, module = dockerfile.last(target, "HEALTHCHECK").exec_form[:4]
    assert asks == ["python", "-I", "-m"]
    assert module == health.__name__
    [url] = dockerfile.last(target, "HEALTHCHECK").exec_form[4:] or [health.DEFAULT_URL]
    assert url == f"http://127.0.0.1:{dockerfile.last(target, 'EXPOSE').text}{path}"


@pytest.mark.parametrize("target", TARGETS)
def test_what_it_writes_is_in_its_volume(dockerfile: Dockerfile, target: str) -> None:
    volume = dockerfile.last(target, "VOLUME").text
    assert dockerfile.last(target, "WORKDIR").text == volume
    variables = dockerfile.last(target, "ENV").pairs
    assert (variables["HOME"], variables["GATEWAY_HOME"]) == (volume, volume)


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
