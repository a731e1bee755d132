"""All configuration, read once: the environment over `..._FILE` over the YAML of `GATEWAY_CONFIG`.

This is the only module that reads the environment. The settings themselves stand by theme in the
modules beside it. Every limit has a unit in its name, and a default whose reason stands below it.
"""

import os
import re
from collections.abc import Mapping
from enum import StrEnum
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from app.settings.asking import AskingSettings
from app.settings.asking import WorkerCheck as WorkerCheck
from app.settings.audit import AuditSettings
from app.settings.edge import EdgeSettings, WaitingSettings
from app.settings.faults import SettingsError as SettingsError
from app.settings.faults import settings_error
from app.settings.forms import ENV_PREFIX, UnreadFile
from app.settings.forms import MIB as MIB
from app.settings.forms import Network as Network
from app.settings.generation import GenerationSettings, PromptSettings, ThoughtSettings
from app.settings.key import KeySettings, RuleSettings
from app.settings.limit import LimitSettings
from app.settings.log import LogSettings
from app.settings.place import PlaceSettings, SecretSettings
from app.settings.pool import PoolSettings
from app.settings.trace import TraceSettings
from app.settings.worker import Engine as Engine
from app.settings.worker import Separation as Separation
from app.settings.worker import WorkerSettings as WorkerSettings

MODEL_ID = "empero-ai/Qwythos-9B-Claude-Mythos-5-1M"
MODEL_ALIAS = "qwythos"
DEFAULT_CONTEXT_TOKENS = 1_010_000  # what the model is served with: `--max-model-len 1010000`

CONFIG_VARIABLE = ENV_PREFIX + "CONFIG"

SECRETS = (
    "database_url", "redis_url", "key_pepper", "admin_token", "sealing_key", "audit_signing_key",
    "otlp_headers",
)  # fmt: skip


class Source(StrEnum):
    """What a setting was read from."""

    DEFAULT = "default"
    CONFIG_FILE = "file"  # of GATEWAY_CONFIG
    SECRET_FILE = "_FILE"  # noqa: S105 - the end of a variable's name
    ENVIRONMENT = "environment"


class Settings(
    PlaceSettings,
    SecretSettings,
    KeySettings,
    RuleSettings,
    LimitSettings,
    EdgeSettings,
    WaitingSettings,
    AskingSettings,
    PoolSettings,
    GenerationSettings,
    PromptSettings,
    ThoughtSettings,
    AuditSettings,
    LogSettings,
    TraceSettings,
    BaseSettings,
):
    """All of them, in the order in which `docs/configuration.md` lists them."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", allow_inf_nan=False
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (
            init_settings,
            _Environment(settings_cls),
            _SecretFiles(settings_cls),
            _YamlFile(settings_cls),
        )

    @property
    def names_workers(self) -> bool:
        """Whether there is anything that says which workers there are."""
        return bool(self.workers or self.workers_file or self.workers_dns)


def load_settings(**overrides: object) -> Settings:
    """Read the settings. Raises SettingsError that names the variables at fault.

    `overrides` (a command's own flags, or what `gateway dev` fills in) win over everything;
    None in them means "not given".
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]  # validated by the model itself
    except ValidationError as error:
        raise settings_error(error) from None


def sources_of_settings() -> dict[str, Source]:
    """Of each setting, what it is read from. Raises SettingsError for a file that cannot be."""
    found = dict.fromkeys(Settings.model_fields, Source.DEFAULT)
    # The weakest first.
    for source, values in (
        (Source.CONFIG_FILE, _YamlFile(Settings)()),
        (Source.SECRET_FILE, _SecretFiles(Settings)()),
        (Source.ENVIRONMENT, _Environment(Settings)()),
    ):
        found.update(dict.fromkeys(values, source))
    return found


def unknown_variables() -> list[str]:
    """Names in the environment that look like settings and are none: a typing error, perhaps.

    Only worth a warning: Kubernetes adds some of its own for a service called "gateway".
    """
    known = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}
    known |= {f"{ENV_PREFIX}{name.upper()}_FILE" for name in SECRETS} | {CONFIG_VARIABLE}
    return sorted(
        name for name in _environment() if name.startswith(ENV_PREFIX) and name not in known
    )


def _environment() -> Mapping[str, str]:
    return os.environ  # noqa: TID251 - the one reader


class _Environment(EnvSettingsSource):
    """The variables. What is not the JSON that it should be goes on as it is, so that it is refused
    by name, together with all other faults."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


class _SecretFiles(PydanticBaseSettingsSource):
    """`GATEWAY_X_FILE`: the path of a file that holds secret X, as Kubernetes mounts it."""

    def get_field_value(
        self, field: FieldInfo, field_name: str
    ) -> tuple[str | UnreadFile | None, str, bool]:
        path = _environment().get(f"{ENV_PREFIX}{field_name.upper()}_FILE")
        if path is None or field_name not in SECRETS:
            return None, field_name, False
        return _read(path), field_name, False

    def __call__(self) -> dict[str, Any]:
        values = (
            (name, self.get_field_value(field, name)[0])
            for name, field in self.settings_cls.model_fields.items()
        )
        return {name: value for name, value in values if value is not None}


class _EachKeyOnce(yaml.SafeLoader):
    """YAML's own rule, which the library does not keep: it takes the last of two."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and keys.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, "a name that stands there twice", key.start_mark
                )
        return super().construct_mapping(node, deep)


class _YamlFile(YamlConfigSettingsSource):
    """The file that `GATEWAY_CONFIG` names, if it does."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        self._path = _environment().get(CONFIG_VARIABLE)
        if self._path is not None and isinstance(found := _read(self._path), UnreadFile):
            raise SettingsError(f"{CONFIG_VARIABLE}: {found.reason}")
        super().__init__(settings_cls, yaml_file=self._path)

    def _read_file(self, file_path: Path | Traversable) -> dict[str, Any]:
        try:
            values = yaml.load(file_path.read_text("utf-8"), _EachKeyOnce)  # noqa: S506 - a safe one
        except (yaml.YAMLError, RecursionError) as error:
            reason = _place_of(error)
            raise SettingsError(f"{CONFIG_VARIABLE}: {self._path} is not YAML: {reason}") from None
        if values is None:
            return {}
        if not isinstance(values, dict):
            raise SettingsError(f"{CONFIG_VARIABLE}: {self._path} must hold `name: value` pairs")
        return values


def _place_of(error: yaml.YAMLError | RecursionError) -> str:
    """What is wrong in which line, and nothing of what stands there: it may be a secret."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return "it is nested too deeply" if isinstance(error, RecursionError) else "unreadable"
    mark = error.problem_mark or error.context_mark
    where = "" if mark is None else f"line {mark.line + 1}: "
    words = re.split("[\"']", error.problem or error.context or "")[0]  # what follows is quoted
    return f"{where}{words.strip()}"


def _read(path: str) -> str | UnreadFile:
    try:
        return Path(path).read_text("utf-8").strip()
    except OSError as error:
        return UnreadFile(f"cannot read {path}: {error.strerror}")
    except UnicodeDecodeError:
        return UnreadFile(f"{path} is not UTF-8 text")
