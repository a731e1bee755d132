"""The embedded worker's child process: llama.cpp's own server, for as long as its parent lives.

Run as a file, so it imports nothing of the gateway. Its launch arrives as one line of JSON on
standard input, which then stays open: the kernel closes it with the parent, however the parent
ends, and this process follows.
"""

import json
import os
import sys
from typing import TypedDict

import xllamacpp

MIB_OF_SAVED_PROMPTS = 64  # prefixes kept for later; the default of 8 GiB is a server's
# Tokens of a prompt read at one go. Between two goes the server takes the next token of every other
# answer, and notices a client that has left: with the default of 2,048 both wait for ten seconds.
BATCH_TOKENS = 256
WARNINGS = 2  # llama.cpp's level; at 3 it writes five lines for each request


class Launch(TypedDict):
    """What the parent asks for. `context_tokens` is shared by all slots, and a slot may use all of
    it, up to what the model was trained with; an empty template means the model's own, an empty
    key that anybody is answered."""

    model: str
    model_name: str
    host: str
    port: int
    api_key: str
    context_tokens: int
    slots: int
    threads: int
    flash_attention: bool
    chat_template: str


def parameters(launch: Launch) -> xllamacpp.CommonParams:
    params = xllamacpp.CommonParams()
    params.model.path = launch["model"]
    params.model_alias = {launch["model_name"]}
    params.hostnames = [launch["host"]]
    params.port = launch["port"]
    params.reuse_port = True  # the parent holds the port while we restart
    params.api_keys = [launch["api_key"]] if launch["api_key"] else []
    params.cors_origins = ""  # no browser has business here
    params.ui = False
    params.endpoint_metrics = True
    params.n_ctx = launch["context_tokens"]
    params.n_parallel = launch["slots"]
    params.kv_unified = True
    params.n_batch = params.n_ubatch = BATCH_TOKENS
    params.cache_ram_mib = MIB_OF_SAVED_PROMPTS
    params.cpuparams.n_threads = launch["threads"]
    params.cpuparams_batch.n_threads = launch["threads"]
    if not launch["flash_attention"]:
        disabled = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.flash_attn_type = disabled
    params.verbosity = WARNINGS
    # The gateway tells thoughts from answers itself, by one rule for every engine.
    params.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    if launch["chat_template"]:
        params.chat_template = launch["chat_template"]
    return params


def main() -> None:
    launch: Launch = json.loads(sys.stdin.buffer.readline())
    server = xllamacpp.Server(parameters(launch))  # returns once it listens
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(0 if server else 1)  # at once: nothing here is worth an orderly end


if __name__ == "__main__":
    main()
