"""The names of what spans say. No other module writes one.

`gen_ai.*` are OpenTelemetry's GenAI conventions as of v1.41, which still change: a new version is a
change to this file. `gateway.*` are ours.
"""

SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.0"

# -- the exchange over HTTP
HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"

# -- what was asked
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_CHOICES = "gen_ai.request.choice.count"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_STREAM = "gen_ai.request.stream"
REQUEST_SAMPLING = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
}

# -- what was answered
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
FIRST_CHUNK_SECONDS = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"

# -- content, where that was asked for
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
CONTENT = (INPUT_MESSAGES, OUTPUT_MESSAGES)

# -- ours
REQUEST_ID = "gateway.request_id"
TENANT = "gateway.tenant"
KEY_ID = "gateway.key_id"
OUTCOME = "gateway.outcome"
ATTEMPTS = "gateway.attempts"
RESCUES = "gateway.rescues"
ATTACHED_TO = "gateway.attached_to"
CONTENT_CUT = "gateway.content_cut"
WORKER_POOL = "gateway.worker.pool"

CHAT = "chat"
TEXT_COMPLETION = "text_completion"
PROVIDER_NAME = "qwythos"  # of the whole; of an attempt it is the engine
