"""What all requests of a process are recorded with."""

from collections.abc import Callable

from app.audit.byte_budget import ByteBudget
from app.audit.content.nodes import TenantAddresses
from app.audit.content.redaction import Redaction
from app.audit.content.stored_today import StoredToday
from app.audit.open_metadata import OpenMetadata
from app.audit.running_answer import Keeping
from app.audit.spool.log import SpoolLog

# Of larger bodies, what may be on its way to the disk at a time: half of what the spool lets wait.
# A dozen that come together are no reason to refuse one.
LARGE_BODIES_BYTES = 32 * 1024 * 1024


class Recorder:
    """`redaction` gives the rules that apply now."""

    def __init__(
        self,
        spool: SpoolLog,
        addresses: TenantAddresses,
        known: StoredToday,
        redaction: Callable[[], Redaction],
        open_metadata: OpenMetadata,
        keeping: Keeping,
        clock: Callable[[], float],
    ) -> None:
        """`clock` is monotonic."""
        self.spool = spool
        self.addresses = addresses
        self.known = known
        self.redaction = redaction
        self.open_metadata = open_metadata
        self.keeping = keeping
        self.clock = clock
        self.large_bodies = ByteBudget(LARGE_BODIES_BYTES)

    @property
    def accepting(self) -> bool:
        """Whether new requests can be recorded."""
        return self.spool.accepting
