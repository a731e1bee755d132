"""What agents write into a prompt that is another in each request, and that no model needs.

Claude Code begins its system text with such a line. Engines find a prompt's beginning in their
cache only where it is the same to the byte: with the line in it, 60,000 tokens are read again for
every turn (vLLM 36829 leaves it out on its own route for Anthropic's clients; not on this one).
"""

import re

_NAME = "x-anthropic-billing-header:"
# Only its pairs: where a client has joined texts without a line's end, what follows is prompt.
_BILLING = re.compile(
    rf"^{_NAME}(?:[ \t]*[A-Za-z0-9_]+=[^;\s]*(?:;|(?=[ \t]*$)))*[ \t]*\n?", re.MULTILINE
)


def without_nonces(system: str) -> str:
    """A system text without them; most have none."""
    return _BILLING.sub("", system) if _NAME in system else system
