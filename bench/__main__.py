"""`python -m bench`: prints the benchmark table. Ends with 1 only if an answer was wrong."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from bench.figures import Figures, as_json, as_table
from bench.gateway import Running, database, gateway, limited_gateway
from bench.measure import Bench, Limited, Target, cpu_when_still, load_processes
from bench.nginx import find_nginx, relay
from bench.plans import BESIDE, beside_plan, plans
from bench.processes import ChildFailed, child, family, python_module, read_line, resident_mib
from bench.scenarios import SCENARIOS
from bench.valkey import valkey

NAMES = (*SCENARIOS, BESIDE)
MAX_FAULTS = 10  # printed


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        figures = asyncio.run(run(options.scenario or NAMES, options.nginx, quick=options.quick))
    except ChildFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _progress("")
    print(as_table(figures))
    if options.json is not None:
        options.json.write_bytes(as_json(figures))
    return 1 if figures.faults else 0


async def run(names: Sequence[str], nginx_path: Path | None, *, quick: bool) -> Figures:
    """Starts everything, measures the named scenarios, ends everything."""
    nginx = find_nginx(nginx_path)
    figures = Figures(nginx.title, nginx.from_wheel)
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-bench-")))
        _progress("starting nginx, the database, Valkey and two gateways")
        worker = await stack.enter_async_context(child(*python_module("bench.upstream")))
        worker_port = int(await read_line(worker, "the worker"))
        port, pid = await stack.enter_async_context(relay(nginx, worker_port, home))
        relayed = Target("nginx", False, port, family(pid), "none")
        shared = await stack.enter_async_context(database(worker_port, home))
        running = await stack.enter_async_context(gateway(shared))
        served = _served("gateway", running)
        textless = replace(served, name="gateway without texts", api_key=running.metadata_key)
        redis = await stack.enter_async_context(valkey(home))
        loads = await stack.enter_async_context(load_processes(2))
        await cpu_when_still(served.pids)
        figures.idle_mib = resident_mib(served.pids)
        async with limited_gateway(shared, redis.url) as second:
            limited = Limited(_served("gateway with limits", second), redis.scripts_run)
            bench = Bench(relayed, served, textless, limited, loads, _progress)
            for plan in plans(quick=quick):
                if plan.scenario.name in names:
                    figures.rows.append(await bench.row(plan))
            if BESIDE in names:
                figures.beside = await bench.beside(beside_plan(quick=quick))
        # Alone again, as before: of pages that two share, each would tell half.
        figures.after_mib = resident_mib(served.pids)
        figures.faults = bench.faults[:MAX_FAULTS]
    return figures


def _served(name: str, running: Running) -> Target:
    return Target(name, True, running.port, family(running.pid), running.api_key)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything, in a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument(
        "--scenario", action="append", choices=NAMES, help="only this one; may be repeated"
    )
    parser.add_argument(
        "--nginx", type=Path, metavar="PATH", help="the yardstick (default: on PATH, else a wheel)"
    )
    return parser


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
