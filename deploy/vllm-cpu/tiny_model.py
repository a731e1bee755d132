"""Trains a tiny model of the Qwen3.5 architecture and writes it as a model directory.

    python tiny_model.py MODEL_DIR

About a million parameters: three gated delta nets and one full attention layer, with the YaRN
block of the real model's configuration. It answers the prompts in transcripts.py (and close
variants), thinking first, and nothing else.
"""

import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from torch import Tensor
from transcripts import LONG_WORDS, WORDS, Transcript, transcripts
from transformers import PreTrainedTokenizerFast, Qwen3_5ForCausalLM, Qwen3_5TextConfig

SEED = 0
BATCH = 8
ROUNDS = [(300, 2e-3), (100, 1e-3), (100, 1e-3), (100, 1e-3)]  # steps, highest learning rate
LONG_EVERY_STEPS = 4  # a transcript behind a long text costs as much as a batch of short ones
CHECK_EVERY_STEPS, FIRST_CHECK_STEP = 50, 200
MAX_THREADS = 4  # matrices of 128 columns give no work to more
VOCABULARY = 2048
CONTEXT_TOKENS = 1_048_576
IGNORED = -100  # cross_entropy's own mark for "no label here"

# The sampling of the model card. A transcript counts as learnt when each of its tokens is so
# likely that top-p cuts every other one away, so that sampled answers are as certain as greedy.
TEMPERATURE, TOP_P, TOP_K, REPETITION_PENALTY = 0.6, 0.95, 20, 1.05

# As in Qwen3.5: the turn markers are special (dropped from text), the other tags are text.
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TAGS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
TEMPLATE = Path(__file__).with_name("chat_template.jinja").read_text("utf-8").strip()
WORD_BOUNDARIES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Sample(NamedTuple):
    ids: list[int]
    labels: list[int]  # IGNORED up to the turn that is to be learnt


def main(directory: Path) -> None:
    started = time.monotonic()
    torch.set_num_threads(min(MAX_THREADS, len(os.sched_getaffinity(0))))
    torch.set_flush_denormal(True)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    rows = list(transcripts(random.Random(SEED)))  # noqa: S311 - the same rows each time
    tokenizer = train_tokenizer(rows)
    samples = [encode(tokenizer, row) for row in rows]
    model = Qwen3_5ForCausalLM(make_config(tokenizer)).float()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{parameters} parameters, {len(tokenizer)} tokens, {len(samples)} transcripts")
    train(model, samples)
    save(model, tokenizer, directory)
    print(f"trained in {time.monotonic() - started:.0f} s")


def train_tokenizer(rows: list[Transcript]) -> PreTrainedTokenizerFast:
    # Rendering needs only the template, so an empty tokenizer serves until the real one is there.
    empty = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE()), chat_template=TEMPLATE
    )
    texts = [render(empty, row.messages, row) for row in rows]
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_BOUNDARIES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL) - len(TAGS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([*texts, " " + " ".join(WORDS)], trainer)
    bpe.add_special_tokens([AddedToken(tag, special=True, normalized=False) for tag in SPECIAL])
    bpe.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",  # noqa: S106 - a token, not a credential
        pad_token="<|endoftext|>",  # noqa: S106 - nor is this
        model_max_length=CONTEXT_TOKENS,
        clean_up_tokenization_spaces=False,
        chat_template=TEMPLATE,
    )


def render(
    tokenizer: PreTrainedTokenizerFast,
    messages: list[dict[str, Any]],
    row: Transcript,
    *,
    as_prompt: bool = False,
) -> str:
    text: str = tokenizer.apply_chat_template(
        messages,
        tools=row.tools,
        add_generation_prompt=as_prompt,
        enable_thinking=row.thinks,
        tokenize=False,
    )
    return text


def encode(tokenizer: PreTrainedTokenizerFast, row: Transcript) -> Sample:
    """Raises ValueError where the template's prompt is no prefix of the whole: the model would
    then be taught what no server ever asks it."""
    prompt = render(tokenizer, row.messages[:-1], row, as_prompt=True)
    whole = render(tokenizer, row.messages, row).removesuffix("\n")
    if not row.ends:
        whole = whole.removesuffix("<|im_end|>")
    ids: list[int] = tokenizer(whole, add_special_tokens=False).input_ids
    start = len(tokenizer(prompt, add_special_tokens=False).input_ids)
    if tokenizer.decode(ids[:start]) != prompt:
        raise ValueError(f"the prompt {prompt!r} is no prefix of {whole!r}")
    return Sample(ids, [IGNORED] * start + ids[start:])


def make_config(tokenizer: PreTrainedTokenizerFast) -> Qwen3_5TextConfig:
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    return Qwen3_5TextConfig(
        architectures=["Qwen3_5ForCausalLM"],
        dtype="bfloat16",
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=128,
        num_hidden_layers=4,  # the fourth is full attention, the others gated delta nets
        full_attention_interval=4,
        num_attention_heads=2,  # two, so that two tensor-parallel workers get one each
        num_key_value_heads=2,
        head_dim=64,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=128,  # vLLM's CPU kernel knows no other
        linear_value_head_dim=128,
        linear_conv_kernel_dim=4,
        tie_word_embeddings=True,
        max_position_embeddings=CONTEXT_TOKENS,
        rope_parameters={
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 262_144,
            "mrope_interleaved": True,
            "mrope_section": [11, 11, 10],
            "rope_theta": 10_000_000,
            # The real model turns a quarter of its 256 dimensions, this one all of its 64: the
            # same 64 dimensions, so frequencies and mrope_section are those of the real model.
            "partial_rotary_factor": 1.0,
        },
        partial_rotary_factor=1.0,
        mamba_ssm_dtype="float32",
        attn_output_gate=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=end,
    )


def train(model: Qwen3_5ForCausalLM, samples: list[Sample]) -> None:
    """Raises SystemExit when transcripts are left that the model does not know for certain."""
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.01)
    pad = model.config.pad_token_id
    batches = make_batches(samples, random.Random(SEED))  # noqa: S311 - likewise
    model.train()
    for done, rate in enumerate(learning_rates(), start=1):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss = torch.zeros(())
        for batch in next(batches):
            ids, labels = padded(batch, pad)
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if done % CHECK_EVERY_STEPS == 0:
            known = count_learnt(model, samples) if done >= FIRST_CHECK_STEP else 0
            print(f"step {done}, loss {loss.item():.4f}, {known} learnt", flush=True)
            if known == len(samples):
                return
    raise SystemExit("error: the tiny model did not learn all of its transcripts")


def learning_rates() -> Iterator[float]:
    for steps, peak in ROUNDS:
        for step in range(1, steps + 1):
            yield peak * min(step / 10, (steps - step + 1) / steps)


def make_batches(samples: list[Sample], rng: random.Random) -> Iterator[list[list[Sample]]]:
    """Without end, the batches of one step: BATCH short samples, now and then a long one too."""
    ordered = sorted(samples, key=lambda sample: len(sample.ids))
    short = [sample for sample in ordered if len(sample.ids) < LONG_WORDS]
    long = ordered[len(short) :]
    queue: list[Sample] = []
    step = 0
    while True:
        step += 1
        if len(queue) < BATCH:
            queue += rng.sample(short, len(short))
        batches, queue = [queue[:BATCH]], queue[BATCH:]
        if step % LONG_EVERY_STEPS == 0:
            batches.append([rng.choice(long)])
        yield batches


def padded(batch: list[Sample], pad: int) -> tuple[Tensor, Tensor]:
    # Padded on the right: in a causal model the padding changes nothing before it.
    length = max(len(sample.ids) for sample in batch)
    ids = [sample.ids + [pad] * (length - len(sample.ids)) for sample in batch]
    labels = [sample.labels + [IGNORED] * (length - len(sample.labels)) for sample in batch]
    return torch.tensor(ids), torch.tensor(labels)[:, 1:]


@torch.no_grad()
def count_learnt(model: Qwen3_5ForCausalLM, samples: list[Sample]) -> int:
    """How many transcripts come back word for word, also when sampled."""
    model.eval()
    count = 0
    for start in range(0, len(samples), BATCH):
        ids, labels = padded(samples[start : start + BATCH], model.config.pad_token_id)
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        place = labels.clamp(min=0).unsqueeze(-1)
        right = logits.gather(-1, place)
        # The worst case: the right token was seen before, and none of the others was.
        right = torch.where(right > 0, right / REPETITION_PENALTY, right * REPETITION_PENALTY)
        likely = (logits.scatter(-1, place, right) / TEMPERATURE).softmax(-1).gather(-1, place)
        count += int(((likely.squeeze(-1) >= TOP_P) | (labels == IGNORED)).all(1).sum())
    model.train()
    return count


def save(model: Qwen3_5ForCausalLM, tokenizer: PreTrainedTokenizerFast, directory: Path) -> None:
    generation = model.generation_config
    ends = ("<|im_end|>", "<|endoftext|>")  # both, as the real model needs them
    generation.eos_token_id = [tokenizer.convert_tokens_to_ids(end) for end in ends]
    generation.pad_token_id = model.config.pad_token_id
    generation.do_sample = True
    generation.temperature, generation.top_p, generation.top_k = TEMPERATURE, TOP_P, TOP_K
    model.bfloat16().save_pretrained(directory)
    tokenizer.save_pretrained(directory)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
