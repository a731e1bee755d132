"""How many tokens a prompt has, from its bytes.

Bytes a token differ by the script that a text is written in, and by what a key's prompts are:
prose, code, tables of numbers. The first is looked at, the second is learned from what workers
report. Nothing here tokenises: 4 MB would hold the event loop for seconds.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass
from enum import IntEnum
from statistics import median

from app.protocol.prompt_text import PromptText


class Script(IntEnum):
    LATIN = 0  # and what else is ASCII: code, JSON, white space
    CYRILLIC = 1  # and Greek
    ARABIC = 2  # and Hebrew
    INDIC = 3  # Devanagari to Sinhala
    CJK = 4  # Chinese characters, kana, Hangul
    OTHER = 5  # Thai, Georgian, Ethiopic, symbols, emoji, ...


# Counted with the vocabulary that Qwen publishes (151,643 tokens; this model's has 248,320 and can
# only be better) over the interface texts of a web framework in 30 languages, over English
# documents, and over this code. They range from 2.5 (Finnish) to 5.0 (English) for Latin, 2.1
# (Greek) to 4.3 (Russian), 3.0 (Persian) to 4.0 (Arabic), 1.8 (Punjabi) to 2.7 (Hindi), 3.2 to 3.9
# for Chinese, Japanese and Korean. Of others, 1.9 (Armenian) to 4.1 (Thai).
BYTES_PER_TOKEN = {
    Script.LATIN: 4.0,
    Script.CYRILLIC: 3.5,
    Script.ARABIC: 3.4,
    Script.INDIC: 2.4,
    Script.CJK: 3.4,
    Script.OTHER: 2.5,
}
BYTES_PER_DIGIT_TOKEN = 0.75  # each is a token, and cuts the words beside it short
# ASCII with hardly any white space: base64, keys. URLs have 2 %, minified JSON 4 %, prose 16 %.
BYTES_PER_DENSE_TOKEN = 1.5
MAX_DENSE_WHITE_SPACE = 0.015
BYTES_PER_ACCENTED_TOKEN = 2.0  # a Latin letter beyond ASCII often stands alone

# `<|im_start|>`, the role's newline, `<|im_end|>` and another newline; a role is in the text.
MESSAGE_TOKENS = 4
PROMPT_TOKENS = 5  # the opened turn of the answer with its `<think>`
TOOLS_TOKENS = 300  # the template's words about how tools are called

# The text is looked at in so many places, evenly spread, so many bytes each: some 20 us.
SAMPLES = 64
SAMPLE_BYTES = 256

# What is learned corrects the prior by at most this factor, either way. Greek needs 1.6; only runs
# of one letter or of white space are further off, and are over-estimated.
MAX_CORRECTION = 4.0
# Of the text, by the prior. In shorter prompts the template's share says more than the text's.
MIN_LEARNED_TOKENS = 256
# The median of so many reports: four odd ones in a row change little, five typical ones all.
REPORTS_KEPT = 9
# How far off an estimate may well be before workers have told. Over 38 kinds of text the prior gave
# 0.6 (Greek) to 1.6 (Thai) of the true count, and of most 0.8 to 1.3.
LIKELY_ERROR = 1.5  # a factor, either way


@dataclass(frozen=True, slots=True)
class TextProfile:
    """What is known of a prompt before anybody has tokenised it. Tokens are the prior's; the
    template's stand apart, as they are no matter of the text."""

    script: Script  # the one of most bytes
    text_bytes: int
    text_tokens: float
    template_tokens: int


def profile_of(text: PromptText) -> TextProfile:
    template = PROMPT_TOKENS + MESSAGE_TOKENS * text.messages
    if text.has_tools:
        template += TOOLS_TOKENS
    sample = _sample(text)
    if not sample:
        return TextProfile(Script.LATIN, 0, 0.0, template)
    script, tokens_per_byte = _weigh(sample)
    return TextProfile(script, text.text_bytes, text.text_bytes * tokens_per_byte, template)


def _sample(text: PromptText) -> bytes:
    """All of a short text, else pieces of it from all over."""
    pieces = [piece for section in text.sections for piece in section]
    if text.text_bytes <= SAMPLES * SAMPLE_BYTES:
        return b"".join(pieces)
    step = text.text_bytes // SAMPLES
    samples: list[bytes] = []
    at = step // 2  # within the piece that is looked at
    for piece in pieces:
        while at < len(piece):
            samples.append(piece[at : at + SAMPLE_BYTES])
            at += step
        at -= len(piece)
    return b"".join(samples)


# Each byte that begins a character, as the class of what it begins; others are dropped. UTF-8 is
# so orderly that the first byte nearly always tells the script; exceptions that matter are counted.
_DIGIT, _ACCENTED = len(Script), len(Script) + 1
_CLASSES = bytearray(256)
for _first, _last, _class in (
    (0x30, 0x39, _DIGIT),
    (0xC2, 0xCD, _ACCENTED),
    (0xCE, 0xD4, Script.CYRILLIC),  # U+0380 to U+053F
    (0xD5, 0xD5, Script.OTHER),  # Armenian
    (0xD6, 0xDB, Script.ARABIC),  # U+0580 to U+06FF
    (0xDC, 0xDF, Script.OTHER),  # Syriac, Thaana, N'Ko
    (0xE0, 0xE0, Script.INDIC),  # U+0800 to U+0FFF, but for the exceptions
    (0xE1, 0xE2, Script.OTHER),
    (0xE3, 0xED, Script.CJK),
    (0xEE, 0xEE, Script.OTHER),
    (0xEF, 0xEF, Script.CJK),  # full-width forms
    (0xF0, 0xF7, Script.OTHER),  # emoji, above all
):
    _CLASSES[_first : _last + 1] = bytes([_class]) * (_last - _first + 1)
_CLASSES_TABLE = bytes(_CLASSES)
_CONTINUATION = bytes(range(0x80, 0xC0))
_SOUTH_EAST_ASIAN = (b"\xe0\xb8", b"\xe0\xb9", b"\xe0\xba", b"\xe0\xbb")  # Thai and Lao


def _weigh(sample: bytes) -> tuple[Script, float]:
    """The script of most bytes, and the tokens of a byte of such a mixture."""
    classes = sample.translate(_CLASSES_TABLE, _CONTINUATION)
    digits = classes.count(_DIGIT)
    if sample.isascii():
        white_space = sample.count(b" ") + sample.count(b"\n")
        dense = white_space < MAX_DENSE_WHITE_SPACE * len(sample)
        bytes_per_token = BYTES_PER_DENSE_TOKEN if dense else BYTES_PER_TOKEN[Script.LATIN]
        tokens = (len(sample) - digits) / bytes_per_token + digits / BYTES_PER_DIGIT_TOKEN
        return Script.LATIN, tokens / len(sample)
    # How long a character is, is known where it matters: emoji have four bytes.
    long = sum(sample.count(bytes([first])) for first in range(0xF0, 0xF5))
    thai = sum(map(sample.count, _SOUTH_EAST_ASIAN))
    accented = classes.count(_ACCENTED) * 2
    weights = {
        Script.LATIN: classes.count(Script.LATIN),
        Script.CYRILLIC: classes.count(Script.CYRILLIC) * 2,
        Script.ARABIC: classes.count(Script.ARABIC) * 2,
        Script.INDIC: (classes.count(Script.INDIC) - thai) * 3,
        Script.CJK: classes.count(Script.CJK) * 3,
        Script.OTHER: (classes.count(Script.OTHER) + thai) * 3 + long,
    }
    tokens = sum(weight / BYTES_PER_TOKEN[script] for script, weight in weights.items())
    tokens += digits / BYTES_PER_DIGIT_TOKEN + accented / BYTES_PER_ACCENTED_TOKEN
    weighed = sum(weights.values()) + digits + accented
    weights[Script.LATIN] += digits + accented
    return max(weights, key=weights.__getitem__), tokens / weighed if weighed else 1.0


class TokenEstimates:
    """What a key's prompts of each script turned out to be, over the prior.

    Of the last `max_keys` keys, in 0.5 KiB each and script. Not for use from several threads.
    """

    def __init__(self, *, max_keys: int) -> None:
        self._max_keys = max_keys
        # By key and script, the logarithms of the last factors that were reported.
        self._reported: OrderedDict[str, dict[Script, tuple[float, ...]]] = OrderedDict()

    @property
    def keys(self) -> int:
        """How many keys are remembered."""
        return len(self._reported)

    def estimate(self, key_id: str, profile: TextProfile) -> int:
        """In tokens, at least 1, and never more than a worker could make of so many bytes."""
        tokens = profile.text_tokens * self.correction(key_id, profile.script)
        return max(1, profile.template_tokens + math.ceil(min(tokens, profile.text_bytes)))

    def correction(self, key_id: str, script: Script) -> float:
        """The factor over the prior, within MAX_CORRECTION either way."""
        reported = self._reported.get(key_id, {}).get(script, ())
        if not reported:
            return 1.0
        # Of one report or two, the prior is another: a single odd prompt decides nothing.
        values = (*reported, 0.0) if len(reported) <= 2 else reported
        return math.exp(median(values))

    def learn(self, key_id: str, profile: TextProfile, prompt_tokens: int) -> None:
        """A worker's own count of this prompt. One that is too short to tell teaches nothing."""
        if profile.text_tokens < MIN_LEARNED_TOKENS:
            return
        text_tokens = max(1, prompt_tokens - profile.template_tokens)
        factor = min(max(text_tokens / profile.text_tokens, 1 / MAX_CORRECTION), MAX_CORRECTION)
        by_script = self._reported.pop(key_id, {})
        kept = by_script.get(profile.script, ())[1 - REPORTS_KEPT :]
        by_script[profile.script] = (*kept, math.log(factor))
        self._reported[key_id] = by_script
        if len(self._reported) > self._max_keys:
            self._reported.popitem(last=False)
