"""`gateway plan`: what a GPU can hold of the model, and the line that starts a worker on it."""

from collections.abc import Sequence

import click
import orjson

from app.cli.errors import BadUsage
from app.cli.json_option import as_json
from app.cli.table import fields, table
from app.cli.token_count import token_count, token_words
from app.settings import MODEL_ALIAS, MODEL_ID
from app.sizing.cautions import cautions
from app.sizing.gpus import GPUS, Gpu, described
from app.sizing.model import MAX_CONTEXT_TOKENS, KvType
from app.sizing.plan import (
    DEFAULT_UTILIZATION,
    TENSOR_PARALLEL,
    Deployment,
    Plan,
    calculate,
    recommended,
)
from app.sizing.serve_command import bounds, serve_command
from app.upstream.engines import SAMPLING_DEFAULTS

LABEL = "Calculated, not measured"
EXIT_UNFIT = 1


@click.command("plan")
@click.option("--gpu", "name", metavar="NAME", help="One of --list.")
@click.option("--list", "listing", is_flag=True, help="List the GPUs that are known.")
@click.option(
    "--tensor-parallel",
    "--gpus",
    type=click.Choice([str(ranks) for ranks in TENSOR_PARALLEL]),
    help="GPUs of one worker. Without it all are compared, and one is recommended.",
)
@click.option(
    "--kv",
    type=click.Choice([kv.value for kv in KvType]),
    default=KvType.BF16.value,
    show_default=True,
    help="Type of the keys and values that are kept.",
)
@click.option(
    "--context",
    "context_tokens",
    metavar="TOKENS",
    type=token_count,
    default="256k",
    show_default=True,
    help="Tokens that prompt and answer have together: 262144, 256k, 1M.",
)
@click.option(
    "--utilization",
    type=click.FloatRange(0, 1, min_open=True),
    default=DEFAULT_UTILIZATION,
    show_default=True,
    help="Of the GPU's memory, vLLM's share.",
)
@click.option(
    "--gpu-memory-gib",
    type=click.FloatRange(1, 1024),
    help="Memory of a GPU that is not known, as vLLM sees it.",
)
@click.option(
    "--tflops",
    type=click.FloatRange(0, min_open=True),
    help="Its dense bf16 peak, for the seconds of a prefill.",
)
@click.option(
    "--bandwidth-gb-s",
    type=click.FloatRange(0, min_open=True),
    help="Its memory's bandwidth, for the bound of a decode.",
)
@as_json
def plan_command(
    *,
    name: str | None,
    listing: bool,
    tensor_parallel: str | None,
    kv: str,
    context_tokens: int,
    utilization: float,
    gpu_memory_gib: float | None,
    tflops: float | None,
    bandwidth_gb_s: float | None,
    as_json: bool,
) -> None:
    """Calculate what fits on a GPU, how long prompts take, and the `vllm serve` line for it.

    Ends with 1 where the context does not fit.
    """
    if listing:
        _echo_gpus(as_json=as_json)
        return
    if context_tokens > MAX_CONTEXT_TOKENS:
        raise BadUsage(f"--context: the model has {MAX_CONTEXT_TOKENS:,} tokens at most")
    gpu = _gpu(name, gpu_memory_gib, tflops, bandwidth_gb_s)
    ranks = TENSOR_PARALLEL if tensor_parallel is None else (int(tensor_parallel),)
    deployments = (Deployment(gpu, n, KvType(kv), context_tokens, utilization) for n in ranks)
    plans = [calculate(deployment) for deployment in deployments]
    chosen = plans[0] if len(plans) == 1 else recommended(plans)
    if as_json:
        click.echo(orjson.dumps(_document(plans, chosen)))
    else:
        _echo_plans(plans, chosen)
    if chosen is None or not chosen.fits:
        raise click.exceptions.Exit(EXIT_UNFIT)


def _gpu(
    name: str | None, memory_gib: float | None, tflops: float | None, bandwidth: float | None
) -> Gpu:
    if memory_gib is not None:
        if name is not None:
            raise BadUsage("--gpu-memory-gib: describes a GPU of your own; leave --gpu out")
        return described(memory_gib, tflops, bandwidth)
    if tflops is not None or bandwidth is not None:
        raise BadUsage("--tflops and --bandwidth-gb-s describe a GPU of --gpu-memory-gib")
    known = ", ".join(GPUS)
    if name is None:
        raise BadUsage(f"name a GPU: --gpu is one of {known}; or give --gpu-memory-gib")
    found = GPUS.get(name.lower())
    if found is None:
        raise BadUsage(
            f"--gpu: {name!r} is none of {known}; describe it with --gpu-memory-gib, --tflops and "
            "--bandwidth-gb-s"
        )
    return found


# -- for people


def _echo_gpus(*, as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps(list(GPUS.values())))
        return
    rows = [
        (gpu.name, gpu.title, f"{gpu.visible_gib:g}", f"{gpu.bandwidth_gb_per_second:,.0f}")
        for gpu in GPUS.values()
    ]
    click.echo(table(("NAME", "GPU", "VISIBLE GIB", "GB/S"), rows))


def _echo_plans(plans: Sequence[Plan], chosen: Plan | None) -> None:
    deployment = plans[0].deployment
    click.echo(
        f"{LABEL}: {deployment.gpu.title}, bf16 weights, {deployment.kv} KV, "
        f"{deployment.utilization:g} of its memory"
    )
    if len(plans) > 1:
        click.echo(f"\nWorkers for {deployment.context_tokens:,} tokens:")
        click.echo(_comparison(plans, chosen))
    if chosen is None:
        click.echo(f"\n{deployment.context_tokens:,} tokens fit on none of these.")
        click.echo(f"! {cautions(plans[-1])[0]}")
        return
    _echo_plan(chosen, recommended=len(plans) > 1)


def _comparison(plans: Sequence[Plan], chosen: Plan | None) -> str:
    head = ("TP", "POOL/RANK GIB", "POOL TOKENS", "AT ONCE", "PREFILL S", "DECODE TOK/S <=", "")
    rows = [
        (
            plan.deployment.tensor_parallel,
            *_pool_cells(plan),
            *_rung_cells(plan, len(plan.rungs) - 1),
            "recommended" if plan is chosen else "",
        )
        for plan in plans
    ]
    return table(head, rows)


def _echo_plan(chosen: Plan, *, recommended: bool) -> None:
    ranks = chosen.deployment.tensor_parallel
    pool_gib, pool_tokens = _pool_cells(chosen)
    click.echo(f"\n{'Recommended: ' if recommended else ''}tensor parallel {ranks}\n")
    click.echo(
        fields(
            [
                ("weights", f"{chosen.weights_gib:.2f} GiB a rank"),
                ("KV pool", f"{pool_gib} GiB a rank, {pool_tokens} tokens"),
                ("block", f"{chosen.pool.block_tokens} tokens"),
            ]
        )
    )
    head = ("CONTEXT", "AT ONCE", "PREFILL S", "DECODE TOK/S <=")
    rows = [
        (token_words(rung.context_tokens), *_rung_cells(chosen, index))
        for index, rung in enumerate(chosen.rungs)
    ]
    click.echo("\n" + table(head, rows) + "\n")
    if chosen.fits:
        click.echo(" \\\n  ".join(_command(chosen)) + "\n")
    for caution in cautions(chosen):
        click.echo(f"! {caution}")


def _pool_cells(plan: Plan) -> tuple[str, str]:
    return f"{plan.pool.rank_gib:.1f}", f"{plan.pool.tokens / 1e6:.2f}M"


def _rung_cells(plan: Plan, index: int) -> tuple[str | None, ...]:
    rung = plan.rungs[index]
    decode = rung.decode_tokens_per_second
    return (
        sequences_words(rung.sequences),
        None if rung.prefill_seconds is None else seconds_words(*rung.prefill_seconds),
        None if decode is None else f"{decode:.0f}",
    )


def sequences_words(sequences: float) -> str:
    """Whole ones where there are many; in brackets where not even one fits."""
    if sequences >= 10:
        return f"{int(sequences)}"
    return f"{sequences:.1f}" if sequences >= 1 else f"({sequences:.2f})"


def seconds_words(fast: float, slow: float) -> str:
    digits = 0 if slow >= 10 else 1
    return f"{fast:.{digits}f}-{slow:.{digits}f}"


# -- for programs


def _command(chosen: Plan) -> tuple[str, ...]:
    return serve_command(
        chosen, model=MODEL_ID, served_name=MODEL_ALIAS, sampling=SAMPLING_DEFAULTS
    )


def _document(plans: Sequence[Plan], chosen: Plan | None) -> dict[str, object]:
    return {
        "object": "plan",
        "basis": LABEL.lower(),
        "plans": [_plan_document(plan) for plan in plans],
        "recommended_tensor_parallel": chosen.deployment.tensor_parallel if chosen else None,
    }


def _plan_document(plan: Plan) -> dict[str, object]:
    deployment, fits = plan.deployment, plan.fits
    return {
        "gpu": deployment.gpu.name,
        "tensor_parallel": deployment.tensor_parallel,
        "kv": deployment.kv,
        "context_tokens": deployment.context_tokens,
        "utilization": deployment.utilization,
        "fits": fits,
        "weights_gib_per_rank": plan.weights_gib,
        "kv_pool_gib_per_rank": plan.pool.rank_gib,
        "kv_pool_tokens": plan.pool.tokens,
        "block_tokens": plan.pool.block_tokens,
        "longest_tokens": plan.pool.longest_tokens,
        "rungs": plan.rungs,
        "bounds": bounds(plan) if fits else None,
        "command": " ".join(_command(plan)) if fits else None,
        "cautions": cautions(plan),
    }
