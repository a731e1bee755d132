"""The application: everything is built here, once, and handed down. Nothing imports this."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import ASGIApp

from app import __version__
from app.api.admin import add_admin_routes
from app.api.client_address import ClientAddresses
from app.api.documentation import build_documentation_router
from app.api.errors import add_error_handlers
from app.api.openai import HotRoutes, add_openai_routes
from app.api.ops import ops
from app.api.request_id import RequestIds
from app.audit.checkpoints.signing import SigningKeys
from app.audit.start import recording, signing_keys_of
from app.drain import Drain
from app.gateway.endings import Endings
from app.gateway.expect import Learned
from app.gateway.ledger import AuditLedger
from app.gateway.pipeline import Gateway
from app.gateway.redact import RedactionInUse
from app.gateway.running import Running
from app.limits.attempts import FailedAttempts
from app.limits.start import check_redis_url, limiting
from app.protocol.prefix import PrefixMemory
from app.protocol.sealed import Sealer, parse_sealing_keys
from app.protocol.token_estimate import TokenEstimates
from app.rules.document import RulesRefused
from app.rules.lexicon import shipped_lexicon
from app.rules.rulebook import UnknownProfile
from app.rules.watch import DefaultProfileMissing, RulebookWatch
from app.settings import Network, Settings, SettingsError
from app.store.database import create_engine
from app.store.keys import KeyStore
from app.telemetry.metrics import Metrics
from app.telemetry.trace_export import Sdk
from app.telemetry.trace_start import trace_sdk_of, tracing
from app.upstream.affinity import Affinity
from app.upstream.client import WorkerClient
from app.upstream.dispatcher import Dispatcher
from app.upstream.membership.changes import Membership
from app.upstream.membership.start import WorkerSources, check_workers
from app.upstream.pool import Pool
from app.upstream.prober import Prober
from app.upstream.watch import Watch
from app.upstream.workers import Workers

ENDING_WRITES = (
    3  # what an ending waits for, each as long as a disk may take: intent, body, outcome
)

# FastAPI's own: where variables of the environment say so, it would export what exceptions say, and
# take a client's trace as it came.
NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "auto_configure": False,
}

BAD_REQUEST = {
    "description": "Bad Request",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}},
}


class GatewayApp(FastAPI):
    """FastAPI, with the data path outside of its own layers."""

    def build_middleware_stack(self) -> ASGIApp:
        inner = HotRoutes(super().build_middleware_stack())
        trusted: Sequence[Network] = self.state.trusted_proxies
        return RequestIds(ClientAddresses(inner, trusted) if trusted else inner)

    def openapi(self) -> dict[str, Any]:
        """FastAPI's document, without the 422 that it assumes: ours is a 400 of OpenAI's shape."""
        if self.openapi_schema is None:
            schema = super().openapi()
            for path in schema["paths"].values():
                for operation in path.values():
                    if operation["responses"].pop("422", None) is not None:
                        operation["responses"].setdefault("400", BAD_REQUEST)
            for name in ("HTTPValidationError", "ValidationError"):
                schema["components"]["schemas"].pop(name, None)
        return super().openapi()


def create_app(settings: Settings) -> GatewayApp:
    """The production application, which the tests use too.

    Raises SettingsError where the settings lack what it cannot run without.
    """
    check_given(settings)
    assert settings.database_url is not None  # noqa: S101 - check_given has seen to it
    assert settings.key_pepper is not None  # noqa: S101 - as well
    check_workers(settings)
    check_redis_url(settings)
    metrics = Metrics(version=__version__)
    rules = rules_of(settings, metrics)
    engine = create_engine(settings.database_url.get_secret_value())
    pepper = settings.key_pepper.get_secret_value().encode()
    app = GatewayApp(
        title="Qwythos Gateway",
        version=__version__,
        description="OpenAI-compatible, in front of Qwythos-9B on vLLM.",
        lifespan=_lifespan(
            settings,
            engine,
            pepper,
            signing_keys_of(settings, pepper),
            sealer_of(settings),
            rules,
            redaction_of(settings, rules, metrics),
            metrics,
            trace_sdk_of(settings),
        ),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # ours are behind a flood guard
        telemetry=NO_TELEMETRY,
        redirect_slashes=False,  # another path is another route, and there is none
    )
    app.state.trusted_proxies = settings.trusted_proxies
    app.state.drain = Drain()
    app.state.metrics = metrics
    app.state.engine = engine
    add_error_handlers(app)
    add_openai_routes(app)
    app.include_router(ops)
    app.include_router(build_documentation_router())
    add_admin_routes(app, settings)
    return app


def check_given(settings: Settings) -> None:
    """Raises SettingsError where the settings lack what no gateway can do without."""
    missing = []
    if settings.database_url is None:
        missing.append("GATEWAY_DATABASE_URL: is not set; it names the PostgreSQL to use")
    if settings.key_pepper is None:
        missing.append(
            "GATEWAY_KEY_PEPPER: is not set; make one with `openssl rand -base64 32` and keep it"
        )
    if missing:
        raise SettingsError(*missing)


def sealer_of(settings: Settings) -> Sealer | None:
    """Raises SettingsError."""
    if settings.sealing_key is None:
        return None
    try:
        keys = parse_sealing_keys(settings.sealing_key.get_secret_value())
    except ValueError as error:
        raise SettingsError(f"GATEWAY_SEALING_KEY: {error}") from None
    return Sealer(keys, seconds=settings.sealed_reasoning_seconds)


def rules_of(settings: Settings, metrics: Metrics) -> RulebookWatch:
    """Raises SettingsError."""
    try:
        return RulebookWatch(
            settings.rules,
            default_profile=settings.filter_profile,
            reload_seconds=settings.rules_reload_seconds,
            rules_reloaded=metrics.rules_reloaded,
        )
    except DefaultProfileMissing as missing:
        raise SettingsError(f"GATEWAY_FILTER_PROFILE: {missing}") from None
    except RulesRefused as refused:
        raise SettingsError(f"GATEWAY_RULES: {refused}") from None


def redaction_of(settings: Settings, rules: RulebookWatch, metrics: Metrics) -> RedactionInUse:
    """Raises SettingsError."""
    try:
        return RedactionInUse(rules, settings.audit_redaction, metrics)
    except UnknownProfile as unknown:
        raise SettingsError(f"GATEWAY_AUDIT_REDACTION: {unknown}") from None


def _lifespan(  # type: ignore[no-untyped-def]  # what FastAPI wants has no public type
    settings: Settings,
    engine: AsyncEngine,
    pepper: bytes,
    signing_keys: SigningKeys,
    sealer: Sealer | None,
    rules: RulebookWatch,
    redaction: RedactionInUse,
    metrics: Metrics,
    trace_sdk: Sdk | None,
):
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        """Opened from top to bottom, closed from bottom to top."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(engine.dispose)
            traces = await stack.enter_async_context(
                tracing(settings, trace_sdk, metrics.process.spans, version=__version__)
            )
            audit = await stack.enter_async_context(
                recording(settings, signing_keys, pepper, redaction, metrics)
            )
            pool = Pool((), settings)
            watch = Watch(pool, settings, metrics)
            client = await stack.enter_async_context(WorkerClient(settings, watch))
            prober = Prober(pool, client, settings, metrics, watch)
            stack.push_async_callback(prober.close)
            prefixes = PrefixMemory(
                seconds=settings.prefix_memory_seconds, entries=settings.prefix_memory_entries
            )
            affinity = Affinity(
                prefixes, floor_tokens_per_second=settings.prefill_floor_tokens_per_second
            )
            membership = Membership(
                pool,
                metrics.pool,
                [prober.forget, lambda endpoint: affinity.forget_worker(endpoint.name)],
            )
            app.state.membership = membership
            sources = WorkerSources(settings, membership, metrics.pool)
            await sources.take()
            await prober.start()
            await rules.prepare()
            limiter = await stack.enter_async_context(
                limiting(settings, AuditLedger(engine), metrics)
            )
            dispatcher = Dispatcher(pool, affinity, settings, metrics.pool)
            endings = Endings()
            stack.push_async_callback(
                endings.close,
                settings.settle_seconds + ENDING_WRITES * settings.audit_write_seconds,
            )
            app.state.gateway = Gateway(
                settings=settings,
                pepper=pepper,
                keys=KeyStore(
                    engine,
                    pepper,
                    cache_seconds=settings.key_cache_seconds,
                    cache_entries=settings.key_cache_entries,
                    outage_seconds=settings.key_outage_seconds,
                ),
                failed_attempts=FailedAttempts(
                    settings.failed_authentications_per_minute, time.monotonic
                ),
                limiter=limiter,
                audit=audit,
                endings=endings,
                workers=Workers(pool, dispatcher, client, settings, metrics),
                sealer=sealer,
                learned=Learned(TokenEstimates(max_keys=settings.key_cache_entries), prefixes),
                running=Running(
                    run_bytes=settings.replay_bytes, total_bytes=settings.replays_bytes
                ),
                rules=rules,
                lexicon=shipped_lexicon(),
                metrics=metrics,
                traces=traces,
                drain=app.state.drain,
                clock=time.monotonic,
            )
            async with asyncio.TaskGroup() as background:
                tasks = [
                    background.create_task(prober.run()),
                    background.create_task(sources.run()),
                    background.create_task(rules.run()),
                    background.create_task(redaction.run()),
                ]
                yield
                for task in tasks:
                    task.cancel()

    return lifespan
