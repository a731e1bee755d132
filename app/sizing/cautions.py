"""What to know of a plan before believing it."""

from app.sizing.model import KV_HEADS, KvType
from app.sizing.plan import PATIENCE_SECONDS, Plan


def cautions(plan: Plan) -> tuple[str, ...]:
    """Those that apply, the gravest first; what is wrong with a worker that would not start is
    that alone."""
    deployment = plan.deployment
    gpu, ranks = deployment.gpu, deployment.tensor_parallel
    guess = (
        f"{gpu.overhead_gib:g} GiB of overhead is a guess: read kv_cache_size_tokens of "
        "vllm:cache_config_info at the first start."
    )
    if not plan.fits:
        return _unfit(plan), guess
    found = [caution for caution in (_slow(plan), _fp8(plan)) if caution]
    if ranks > KV_HEADS:
        found.append(
            f"The model has {KV_HEADS} KV heads: {ranks} ranks keep copies, so this adds speed "
            f"over {KV_HEADS}, and hardly any room."
        )
    if ranks > 1 and not gpu.peer_to_peer:
        found.append(
            f"{gpu.title} has no peer-to-peer transfers: tensor parallelism is slower than this."
        )
    if plan.long:
        found.append(
            "Keep this pool for long prompts: one prefill of this length delays all others on its "
            "worker. --kv-offloading-size brings a prompt back from host memory in about a "
            "second."
        )
    if not gpu.known:
        found.append(
            "Nothing is known of this GPU: its speed is taken as the share of its peak that an "
            "H100 is assumed to reach."
        )
    found.append(guess)
    found.append("No MTP head comes with the original weights: pass no --speculative-config.")
    return tuple(found)


def _unfit(plan: Plan) -> str:
    asked, longest = plan.deployment.context_tokens, plan.pool.longest_tokens
    if not longest:
        return "The weights leave no room for a single sequence: vLLM would not start."
    return (
        f"One sequence of {asked:,} tokens does not fit, and vLLM would not start: at most "
        f"{longest:,} do. More GPUs for each worker hold more, and so does --kv fp8."
    )


def _slow(plan: Plan) -> str | None:
    seconds = plan.slowest_prefill_seconds
    if seconds is None or seconds <= PATIENCE_SECONDS:
        return None
    return (
        f"A full prompt may take {seconds:,.0f} s to its first token: proxies and clients in "
        "front of the gateway have to wait that long, or stream."
    )


def _fp8(plan: Plan) -> str | None:
    if plan.deployment.kv is not KvType.FP8:
        return None
    return (
        "fp8 keys and values are untested with this model: uncalibrated they cost accuracy, and "
        "with prefix caching answers were cut (vllm#47349, vllm#42179). Evaluate before use."
    )
