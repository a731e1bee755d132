"""Where the gateway finds what it needs, and the secrets that it keeps."""

from pathlib import Path

from pydantic import Field

from app.settings.forms import Secret, Theme
from app.settings.worker import Worker


class PlaceSettings(Theme):
    """Where things are

    `gateway serve` needs a database and workers; `gateway dev` starts what is not given.
    """

    database_url: Secret | None = None
    """The PostgreSQL (15 or newer) of keys and audit records:
    `postgresql://user:password@host:5432/name`. Its query may carry `sslmode`."""

    redis_url: Secret | None = None
    """The Redis (6.2 or newer) or Valkey in which limits hold over all replicas:
    `redis://:password@host:6379/0`, `rediss://` for TLS. Without it they hold in each process
    alone."""

    workers: tuple[Worker, ...] = ()
    """The workers, as a JSON list of URLs (vLLM with its reasoning and tool parsers on) and of
    objects; the [fields of a worker](#fields-of-a-worker) stand below."""

    host: str = "127.0.0.1"
    """The address to listen on. The default is this machine's alone: `0.0.0.0` has to be meant."""

    port: int = Field(default=8080, ge=0, le=65535)
    """The port to listen on; 0 takes a free one."""

    home: Path = Path("var")
    """The directory that the gateway may write to: the audit spool, and what `gateway dev`
    keeps."""

    embedded_model: Path | None = None
    """A GGUF file that `gateway dev` runs instead of the small model that comes with it."""


class SecretSettings(Theme):
    """Secrets

    None has a default outside `gateway dev`, and one that is empty stops the start. Each may come
    from a file: `GATEWAY_KEY_PEPPER_FILE` holds the path of the file that holds the secret, as
    Kubernetes and Docker mount it. So may `GATEWAY_DATABASE_URL` and `GATEWAY_REDIS_URL`.
    """

    key_pepper: Secret | None = None
    """The key under which API keys are kept as digests; who loses it loses all of them. Make one
    with `openssl rand -base64 32`."""

    admin_token: Secret | None = None
    """Opens `/admin/v1`. Without it those routes do not exist."""

    sealing_key: Secret | None = None
    """Seals the thought that a client carries from turn to turn, for keys with sealed reasoning:
    base64 of 32 bytes (`openssl rand -base64 32`). To rotate, put the new one in front:
    `new,old`."""

    audit_signing_key: Secret | None = None
    """Signs the checkpoints of the audit log: base64 of 32 bytes; to rotate, put the new one in
    front: `new,old`. By default it is made from the pepper, and changes with it."""
