"""What is assumed of each GPU. None of it was measured by us."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rates:
    """TFLOP/s that a prefill is assumed to reach on one GPU, in matrices and in attention."""

    linear: float
    attention: float


@dataclass(frozen=True, slots=True)
class Gpu:
    """`overhead_gib` is what vLLM keeps beside weights and cache: a guess, to be replaced by
    `vllm:cache_config_info` of the first start. `fast` and `slow` bound a prefill."""

    name: str
    title: str
    visible_gib: float
    overhead_gib: float
    fast: Rates | None
    slow: Rates | None
    bandwidth_gb_per_second: float | None
    peer_to_peer: bool = True
    known: bool = True


_HOPPER = (Rates(650, 550), Rates(450, 330))

GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu(
            "rtx4090", "RTX 4090 24G", 23.6, 1.8, Rates(140, 120), Rates(95, 75), 1_008,
            peer_to_peer=False,
        ),
        Gpu("l40s", "L40S 48G", 44.4, 2.5, Rates(190, 150), Rates(130, 90), 864),
        Gpu("a100", "A100 80G", 79.1, 3.5, Rates(210, 170), Rates(160, 120), 2_039),
        Gpu("h100", "H100 80G", 79.1, 3.5, *_HOPPER, 3_350),
        Gpu("h200", "H200 141G", 139.8, 4.0, *_HOPPER, 4_800),
        Gpu("b200", "B200 180G", 178.4, 5.0, Rates(1_400, 1_000), Rates(900, 600), 8_000),
    )
}  # fmt: skip

# Of its dense bf16 peak, what an H100 (989 TFLOP/s) is assumed to reach; for a GPU that we only
# know the peak of.
H100_PEAK_TFLOPS = 989
# By memory, what the table above guesses: vLLM's graphs and buffers grow with the batch.
_OVERHEAD_GIB = ((30, 1.8), (60, 2.5), (100, 3.5), (160, 4.0))
_LARGEST_OVERHEAD_GIB = 5.0


def described(
    memory_gib: float, peak_tflops: float | None, bandwidth_gb_per_second: float | None
) -> Gpu:
    """A GPU that is not in the table, from its data sheet. What is not given is not calculated."""
    overhead = next(
        (gib for below, gib in _OVERHEAD_GIB if memory_gib < below), _LARGEST_OVERHEAD_GIB
    )
    fast, slow = (
        None if peak_tflops is None else _scaled(rates, peak_tflops / H100_PEAK_TFLOPS)
        for rates in _HOPPER
    )
    title = f"GPU of {memory_gib:g} GiB"
    return Gpu("own", title, memory_gib, overhead, fast, slow, bandwidth_gb_per_second, known=False)


def _scaled(rates: Rates, factor: float) -> Rates:
    return Rates(rates.linear * factor, rates.attention * factor)
