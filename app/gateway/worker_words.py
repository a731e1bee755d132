"""What of a failing worker's words goes to the log: which trouble they name, and never the words.

An engine's error may quote the prompt, a path, or the key that it was asked with. Whoever needs the
words finds them in the worker's own log, by the request id that was sent along.
"""

# As vLLM 0.32, SGLang and llama.cpp write them, in lower case.
_TROUBLES = {
    "out of memory": "out of memory",
    "ran out": "out of memory",
    "enginecore": "its engine died",
    "engine dead": "its engine died",
    "enginedead": "its engine died",
    "abort": "it aborted the request",
    "timeout": "a timeout",
    "timed out": "a timeout",
    "context length": "the context's length",
    "illegal memory access": "a CUDA error",
    "cuda error": "a CUDA error",
    "nccl": "an NCCL error",
}
# What `AnswerReader.failure` begins with.
_KINDS = {
    "error event": "error event",
    "malformed chunk": "malformed chunk",
    "an event of more than": "an event that is too long",
    "choice": "a choice that nobody asked for",
}
MAX_SEARCHED_CHARACTERS = 4_096  # of an error that may quote a whole prompt


def trouble_in(failure: str) -> str:
    """In our words, of `AnswerReader.failure`."""
    kind = next((words for start, words in _KINDS.items() if failure.startswith(start)), "unknown")
    if kind != "error event":
        return kind
    words = failure[:MAX_SEARCHED_CHARACTERS].lower()
    named = next((trouble for sign, trouble in _TROUBLES.items() if sign in words), None)
    return kind if named is None else f"{kind}: {named}"
