"""Qwythos Gateway: an OpenAI-compatible front door for a reasoning model on vLLM."""

__version__ = "0.1.0"
