"""The names that spans bear: OpenTelemetry's conventions for generative AI and HTTP, and ours.

Those for generative AI are in development, and move: they are the ones of
https://github.com/open-telemetry/semantic-conventions-genai (docs/gen-ai/gen-ai-spans.md at 002c8a6, November 2026).
Those for HTTP are stable: https://github.com/open-telemetry/semantic-conventions/blob/v1.41.1/docs/http/http-spans.md.
"""

from __future__ import annotations

from proxy.gemini import openai_bodies

SCHEMA = "https://opentelemetry.io/schemas/1.41.1"
"""Of the conventions for HTTP; those for generative AI have none yet."""

# Generative AI: what an attempt asks for, and what came of it
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_CHOICES = "gen_ai.request.choice.count"
OUTPUT_TYPE = "gen_ai.output.type"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
INPUT_TOKENS_OF = {
    modality.upper(): f"gen_ai.usage.{modality}.input_tokens" for modality in ("text", "image", "audio", "video")
}
OUTPUT_TOKENS_OF = {modality.upper(): f"gen_ai.usage.{modality}.output_tokens" for modality in ("text", "audio")}
"""By Google's word for a modality. The conventions have no name for pictures that come out."""

GEMINI = "gcp.gemini"
"""The provider whose API it is, whichever host speaks it."""
GENERATE, EMBED, CHAT = "generate_content", "embeddings", "chat"
OPERATIONS = {
    "generateContent": GENERATE,
    "streamGenerateContent": GENERATE,
    "embedContent": EMBED,
    "batchEmbedContents": EMBED,
    openai_bodies.CHAT: CHAT,
    openai_bodies.EMBEDDINGS: EMBED,
    openai_bodies.PICTURES: GENERATE,
}
"""What the conventions call our operations. Any other bears its own name."""

# HTTP
METHOD = "http.request.method"
ROUTE = "http.route"
STATUS = "http.response.status_code"
SCHEME = "url.scheme"
PROTOCOL_VERSION = "network.protocol.version"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
OTHER_METHOD = "_OTHER"
"""Stands for any other that somebody made up."""

# The process
SERVICE = "service.name"
SERVICE_VERSION = "service.version"
SERVICE_INSTANCE = "service.instance.id"

# Ours, in the words of records, refusals and metrics
REQUEST_ID = "weighbridge.request_id"
RECORD_ID = "weighbridge.record_id"
PROJECT = "weighbridge.project"
KEY = "weighbridge.key"
OUR_OPERATION = "weighbridge.operation"
UPSTREAM = "weighbridge.upstream"
ATTEMPT = "weighbridge.attempt.outcome"
OUTCOME = "weighbridge.outcome"
REFUSED = "weighbridge.refused"
COST = "weighbridge.cost_usd"
ESTIMATED = "weighbridge.estimated"
IMAGES = "weighbridge.images"
CALLS = "weighbridge.calls"
