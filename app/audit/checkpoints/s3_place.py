"""An object store as the second place: one object a checkpoint, `prefix/writer/sequence.json`.

Nothing that is there is replaced. That nobody else can replace or delete it either is the bucket's
to see to: give it object lock with a default retention, and the gateway the right to put alone.
"""

import importlib
from typing import Any
from urllib.parse import SplitResult

from app.audit.checkpoints.checkpoint import Checkpoint
from app.audit.checkpoints.publisher import PlaceFailed
from app.settings import SettingsError

CONNECT_SECONDS = 5.0
READ_SECONDS = 10.0
_SIGNATURE_DIGITS = 16  # tells two checkpoints of one sequence apart
_ALREADY_THERE = "PreconditionFailed"
_FORBIDDEN = 403


class S3Place:
    """Implements Place. Region, endpoint and credentials are found as the AWS tools find them."""

    name = "s3"

    def __init__(self, url: SplitResult) -> None:
        """`s3://bucket/prefix`. Raises SettingsError."""
        if not url.netloc or url.port is not None or "@" in url.netloc:
            raise SettingsError("an object store is named as s3://bucket/prefix")
        self._bucket = url.netloc
        self._prefix = url.path.strip("/")
        self._client = _client()

    def publish(self, checkpoint: Checkpoint) -> None:
        try:
            if not self._put(checkpoint, str(checkpoint.sequence)):
                # Ours, when an answer was lost; or the chain has not grown since the last one; or
                # somebody was here before us, and must not keep it out.
                digits = checkpoint.signature.hex()[:_SIGNATURE_DIGITS]
                self._put(checkpoint, f"{checkpoint.sequence}-{digits}")
        except Exception as error:  # botocore's errors have no common class
            raise PlaceFailed(f"s3://{self._bucket}: {error}") from error

    def reach(self) -> str:
        """A bucket that lets us put alone refuses to be looked at, and is there."""
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except self._client.exceptions.ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status != _FORBIDDEN:
                raise PlaceFailed(f"s3://{self._bucket}: {error}") from error
            return f"s3://{self._bucket} answers, and may not be looked at"
        except Exception as error:  # botocore's errors have no common class
            raise PlaceFailed(f"s3://{self._bucket}: {error}") from error
        return f"s3://{self._bucket} answers"

    def close(self) -> None:
        self._client.close()

    def _put(self, checkpoint: Checkpoint, name: str) -> bool:
        """False where there is an object of that name."""
        key = f"{checkpoint.writer}/{name}.json"
        try:
            self._client.put_object(
                Bucket=self._bucket,
                Key=f"{self._prefix}/{key}" if self._prefix else key,
                Body=checkpoint.payload,
                ContentType="application/json",
                IfNoneMatch="*",
            )
        except self._client.exceptions.ClientError as error:
            if error.response.get("Error", {}).get("Code") != _ALREADY_THERE:
                raise
            return False
        return True


def _client() -> Any:
    try:
        boto3 = importlib.import_module("boto3")
        config = importlib.import_module("botocore.config")
        errors = importlib.import_module("botocore.exceptions")
    except ModuleNotFoundError:
        raise SettingsError(
            "s3:// needs the package boto3: pip install 'qwythos-gateway[s3]'"
        ) from None
    limits = config.Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"total_max_attempts": 1},  # the publisher's to do
    )
    try:
        return boto3.session.Session().client("s3", config=limits)
    except (errors.BotoCoreError, ValueError) as error:
        raise SettingsError(f"s3:// cannot be used: {error}") from None
