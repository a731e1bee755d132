"""What can go wrong with the embedded parts."""


class EmbeddedError(Exception):
    """One line that says what failed and what to do about it."""


MISSING_EXTRA = (
    "the embedded parts are not installed: run `make install`, or set GATEWAY_DATABASE_URL and "
    "GATEWAY_WORKERS"
)
