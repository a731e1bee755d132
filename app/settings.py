"""All configuration, read once: the environment over `..._FILE` over the YAML of `GATEWAY_CONFIG`.

This is the only module that reads the environment. Every limit has a unit in its name, and a
default whose reason stands beside it.
"""

import os
from enum import StrEnum
from importlib.resources.abc import Traversable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SourceError

from app.pool_settings import PoolSettings
from app.worker_settings import Engine as Engine
from app.worker_settings import Separation as Separation
from app.worker_settings import Worker
from app.worker_settings import WorkerSettings as WorkerSettings

ENV_PREFIX = "GATEWAY_"
KIB = 1024
MIB = 1024 * KIB

MODEL_ID = "empero-ai/Qwythos-9B-Claude-Mythos-5-1M"
MODEL_ALIAS = "qwythos"
WORKERS_FORM = 'must be a JSON list, for example ["http://10.0.0.5:8000"]'
PROXIES_FORM = 'must be a JSON list, for example ["10.0.0.0/8"]'
DEFAULT_CONTEXT_TOKENS = 1_010_000  # what the model is served with: `--max-model-len 1010000`


class SettingsError(Exception):
    """Configuration that cannot be used; the text is one line that says what to change."""


class WorkerCheck(StrEnum):
    """What a worker's failing of the check means."""

    REFUSE = "refuse"  # it is not ready
    WARN = "warn"
    OFF = "off"  # nothing is asked


_NETWORK_FORMS = (str, IPv4Network, IPv6Network)


def _network(value: object) -> object:
    """Of an address the network that is it alone; of IPv4 in IPv6 the IPv4."""
    try:
        # Text: a number would be taken for an address, too.
        network = ip_network(str(value).strip() if isinstance(value, _NETWORK_FORMS) else "")
    except ValueError:
        raise ValueError(
            "must be an address, or a network without host bits, for example 10.0.0.0/8"
        ) from None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        network = IPv4Network((mapped, network.prefixlen - 96))
    if network.prefixlen == 0:
        raise ValueError("names every address there is; name your own proxies")
    return network


Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]


def _refuse_empty(value: object) -> object:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if isinstance(text, str) and not text.strip():
        raise ValueError("is set but empty; give it a value or unset it")
    return value


Secret = Annotated[SecretStr, BeforeValidator(_refuse_empty)]

_LIST_FORMS = {"workers": WORKERS_FORM, "trusted_proxies": PROXIES_FORM}

SECRETS = (
    "database_url", "redis_url", "key_pepper", "admin_token", "sealing_key", "audit_signing_key",
)  # fmt: skip


class Settings(PoolSettings, BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", allow_inf_nan=False
    )

    # -- where things are
    database_url: Secret | None = None
    redis_url: Secret | None = None
    workers: tuple[Worker, ...] = ()
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    home: Path = Path("var")
    embedded_model: Path | None = None

    # -- secrets; none has a default outside `gateway dev`
    key_pepper: Secret | None = None
    admin_token: Secret | None = None
    sealing_key: Secret | None = None
    audit_signing_key: Secret | None = None  # by default made from the pepper

    # -- rules for prompts and answers
    rules: Path | None = None  # a file of packs and profiles, or a directory of them
    rules_reload_seconds: float = Field(default=5.0, gt=0)  # a change acts within this
    filter_profile: str = Field(default="default", min_length=1)  # of keys that name none

    # -- keys
    key_cache_seconds: float = Field(default=5.0, gt=0, le=5)  # revocation acts within this
    # While the database is away, keys that it confirmed so long ago at most work on, and what is
    # revoked meanwhile may, too. 0: after `key_cache_seconds` nobody is let in.
    key_outage_seconds: float = Field(default=0.0, ge=0, le=86_400)
    key_cache_entries: int = Field(default=10_000, ge=1)  # ~1 KiB each, without tool rules

    # -- limits
    # How long Redis may take; then a request is decided here. A healthy one answers within 1 ms.
    redis_timeout_seconds: float = Field(default=0.075, gt=0, le=1)
    redis_cluster: bool = False
    redis_prefix: str = Field(default="gateway:", pattern=r"^[^{}\s]{0,64}$")  # of every key
    # A replica that is killed frees its slots after this; renewed three times as often.
    lease_seconds: float = Field(default=30.0, ge=1, le=300)
    # How many processes share the limits until Redis has said it: a new one may not reach it. By
    # default those of this server.
    replicas: int = Field(default=1, ge=1)
    # Of a token budget, what all replicas together may spend while Redis is away; then it closes.
    outage_budget_share: float = Field(default=0.05, ge=0, le=1)
    # An audit record is written by then, also on a busy database: budgets are counted from them.
    recount_delay_seconds: float = Field(default=5.0, gt=0, le=15)  # below RECOUNT_SECONDS

    # -- the edge
    # Whose X-Forwarded-For is believed: addresses and networks of the proxies in front.
    trusted_proxies: tuple[Network, ...] = ()
    # From one address, or one /64 of IPv6. A hand that mistypes and a deployment with an old key
    # make a few, as SDKs do not repeat them; a search makes thousands.
    failed_authentications_per_minute: int = Field(default=30, ge=1)
    header_deadline_seconds: float = Field(default=10.0, gt=0)
    max_header_bytes: int = Field(default=32 * KIB, ge=1 * KIB)
    max_headers: int = Field(default=100, ge=10)
    # 32 MiB is a 1M-token prompt (4-8 MB of text) with JSON escapes and room to spare.
    # At most what the audit log can keep in one piece, with what it adds.
    max_body_bytes: int = Field(default=32 * MIB, ge=1 * KIB, le=40 * MIB)
    # A body may take this long, and one second more for each 64 KiB: a floor under its rate.
    body_deadline_seconds: float = Field(default=60.0, gt=0)
    body_floor_bytes_per_second: int = Field(default=64 * KIB, ge=1)
    keep_alive_seconds: float = Field(default=75.0, gt=0)  # longer than any SDK's idle pool
    client_stall_seconds: float = Field(default=60.0, gt=0)  # a client that stopped reading
    max_connections: int = Field(default=10_000, ge=1)  # per process
    drain_seconds: float = Field(default=300.0, ge=0)

    # -- waiting, and saying so
    commit_after_seconds: float = Field(default=12.0, gt=0)  # then the status line leaves
    keep_alive_comment_seconds: float = Field(default=15.0, gt=0)  # proxies cut at 60 s
    empty_delta_seconds: float = Field(default=60.0, gt=0)  # LangChain drops a stream at 120 s

    # -- workers
    connect_seconds: float = Field(default=2.0, gt=0)
    # vLLM closes idle connections after 5 s; ours have to go first.
    worker_idle_seconds: float = Field(default=3.5, gt=0, lt=5)
    first_byte_seconds: float = Field(default=120.0, gt=0)  # plus the prefill:
    prefill_floor_tokens_per_second: float = Field(default=400.0, gt=0)  # slowest prefill borne
    inter_token_seconds: float = Field(default=60.0, gt=0)  # silence between tokens
    probe_seconds: float = Field(default=5.0, gt=0)  # between readiness probes of a worker
    probe_timeout_seconds: float = Field(default=5.0, gt=0)
    # Does a worker split the thought off as its settings say? One that does not gets no request.
    worker_check: WorkerCheck = WorkerCheck.REFUSE
    worker_check_seconds: float = Field(default=120.0, gt=0)  # a busy worker queues it
    worker_check_retry_seconds: float = Field(default=30.0, gt=0)  # it costs the worker an answer

    # -- generation
    default_output_tokens: int = Field(default=16_384, ge=1)  # the model card's, when absent
    max_choices: int = Field(default=4, ge=1, le=16)  # `n`
    max_messages: int = Field(default=10_000, ge=1)
    max_tools: int = Field(default=128, ge=0)  # OpenAI's own limit
    # At 0.3 and below this model loops; a request that cold is sampled at the floor instead.
    temperature_floor: float = Field(default=0.4, gt=0.3, le=2)

    # -- the prompt
    # Of a token that a worker has in its prefix cache, against one that it reads: a tenth, as
    # hosted models are priced. It costs no prefill, but memory and attention as any other.
    cached_token_weight: float = Field(default=0.1, ge=0, le=1)
    # A prompt that was read so long ago is taken for cold: a person answers within minutes, and
    # a busy worker has room for a few of the longest prompts only.
    prefix_memory_seconds: float = Field(default=600.0, gt=0)
    # ~200 bytes each, one for 8 KiB of a prompt: 100 of the longest prompts, in 10 MB a process.
    prefix_memory_entries: int = Field(default=50_000, ge=1)

    # -- the thought
    max_thinking_tokens: int | None = Field(default=None, ge=1)  # of every key, beside its own
    # What `reasoning_effort` may think; efforts that are not named here may think as they like.
    thinking_tokens_by_effort: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=lambda: {"none": 64, "minimal": 256, "low": 1_024, "medium": 4_096}
    )
    # Text that comes before any thought is held until the worker is seen to split it off.
    hold_characters: int = Field(default=64 * 1024, ge=1)  # 16,384 tokens of text
    # A tool loop of one day; at most a year.
    sealed_reasoning_seconds: float = Field(default=86_400.0, gt=0, le=366 * 86_400)
    loop_repeats: int = Field(default=4, ge=3)  # of the same text in a row, and as many characters:
    loop_thought_characters: int = Field(default=2_000, ge=200)  # two repeated paragraphs
    loop_answer_characters: int = Field(default=8_000, ge=200)  # it may be asked to repeat a line

    # -- audit
    audit_flush_seconds: float = Field(default=0.25, gt=0)
    # Of this process alone; by default below `home`. What it holds has to outlive the process.
    audit_directory: Path | None = None
    # Room for some 60,000 requests; one more is kept free for the ends of running ones.
    audit_segment_bytes: int = Field(default=64 * MIB, ge=1 * MIB)
    audit_write_seconds: float = Field(default=5.0, gt=0)  # for a disk; then it counts as failed
    # Of a running answer, what a crash may lose of it: so much time, or so much text.
    audit_chunk_seconds: float = Field(default=1.0, gt=0)
    audit_chunk_characters: int = Field(default=16_384, ge=1)
    audit_strict: bool = False  # every piece of an answer is on disk before it is sent
    audit_redaction: str | None = None  # a filter profile; what it finds is masked before storing
    # Messages that were stored today and need not be again: ~150 bytes each, 15 MB in all.
    audit_known_messages: int = Field(default=100_000, ge=1)
    # Of tenants that may go on while nothing can be recorded: ~2 KiB each.
    audit_open_records: int = Field(default=10_000, ge=1)
    # Signed, so often: what is older cannot be changed unseen.
    audit_checkpoint_records: int = Field(default=1_000, ge=1)
    audit_checkpoint_seconds: float = Field(default=10.0, gt=0)
    # A second place for them, out of the database's reach: file:///path, syslog:///dev/log,
    # syslog://host:514 or s3://bucket/prefix. By default a file below `audit_directory`.
    audit_checkpoints: str | None = None
    settle_seconds: float = Field(default=5.0, gt=0)  # time box for the limits at a request's end

    # -- logs
    log_level: str = "info"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _SecretFiles(settings_cls), _YamlFile(settings_cls)

    @property
    def names_workers(self) -> bool:
        """Whether there is anything that says which workers there are."""
        return bool(self.workers or self.workers_file or self.workers_dns)

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        level = value.lower()
        if level not in ("debug", "info", "warning", "error"):
            raise ValueError("must be debug, info, warning or error")
        return level


def load_settings(**overrides: object) -> Settings:
    """Read the settings. Raises SettingsError with one line that names the variable at fault.

    `overrides` (a command's own flags, or what `gateway dev` fills in) win over everything;
    None in them means "not given".
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]  # validated by the model itself
    except ValidationError as error:
        raise SettingsError(_one_line(error)) from None
    except SourceError as error:
        name = str(error).split('"')[1]
        reason = "is not valid JSON"
        if name in _LIST_FORMS:
            reason = _LIST_FORMS[name]
        raise SettingsError(f"{ENV_PREFIX}{name.upper()}: {reason}") from None


def unknown_variables() -> list[str]:
    """Names in the environment that look like settings and are none: a typing error, perhaps.

    Only worth a warning: Kubernetes adds some of its own for a service called "gateway".
    """
    known = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}
    known |= {f"{ENV_PREFIX}{name.upper()}_FILE" for name in SECRETS} | {ENV_PREFIX + "CONFIG"}
    given = {name for name in os.environ if name.startswith(ENV_PREFIX)}  # noqa: TID251 - the one reader
    return sorted(given - known)


class _SecretFiles(PydanticBaseSettingsSource):
    """`GATEWAY_X_FILE`: the path of a file that holds secret X, as Kubernetes mounts it."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[str | None, str, bool]:
        variable = f"{ENV_PREFIX}{field_name.upper()}_FILE"
        path = os.environ.get(variable) if field_name in SECRETS else None  # noqa: TID251 - the one reader
        return (None if path is None else _read(variable, path)), field_name, False

    def __call__(self) -> dict[str, Any]:
        values = (
            (name, self.get_field_value(field, name)[0])
            for name, field in self.settings_cls.model_fields.items()
        )
        return {name: value for name, value in values if value is not None}


class _YamlFile(YamlConfigSettingsSource):
    """The file that `GATEWAY_CONFIG` names, if it does."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        self._path = os.environ.get(ENV_PREFIX + "CONFIG")  # noqa: TID251 - the one reader
        if self._path is not None:
            _read(ENV_PREFIX + "CONFIG", self._path)
        super().__init__(settings_cls, yaml_file=self._path)

    def _read_file(self, file_path: Path | Traversable) -> dict[str, Any]:
        try:
            values = super()._read_file(file_path)
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())
            raise SettingsError(f"GATEWAY_CONFIG: {self._path} is not YAML: {reason}") from None
        if not isinstance(values, dict):
            raise SettingsError(f"GATEWAY_CONFIG: {self._path} must hold `name: value` pairs")
        return values


def _read(variable: str, path: str) -> str:
    try:
        return Path(path).read_text("utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{variable}: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{variable}: {path} is not UTF-8 text") from None


def _one_line(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    name, *rest = first["loc"]
    where = ENV_PREFIX + str(name).upper() + "".join(f"[{part}]" for part in rest)
    reason = str(first["msg"]).removeprefix("Value error, ").partition(", unable")[0]
    if first["type"] == "extra_forbidden":
        reason = "is not a setting of the gateway"
    elif first["type"].startswith("url"):
        reason = "must be a URL, for example http://10.0.0.5:8000"
    elif first["type"] == "tuple_type":
        reason = _LIST_FORMS.get(str(name), "must be a list")
    return f"{where}: {reason[0].lower()}{reason[1:]}"
