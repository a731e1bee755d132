"""`python -m bench.pool`: which worker a request goes to, tried on simulated traffic."""

import argparse
import sys
import time
from collections.abc import Sequence

from bench.pool.figures import Row, as_table, short_p99_verdict
from bench.pool.scenarios import ONLY_SHORT, ROUTERS, SCENARIOS
from bench.pool.simulation import simulate


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    rows: list[Row] = []
    for scenario in SCENARIOS:
        if scenario.name not in (options.scenario or [each.name for each in SCENARIOS]):
            continue
        for name, router in ROUTERS.items():
            started = time.monotonic()
            outcome = simulate(scenario.plan(60 * options.minutes, options.seed), router)
            rows.append(Row(scenario.title, name, outcome))
            seconds = time.monotonic() - started
            print(f"{scenario.title}, {name}: {seconds:.0f} s", file=sys.stderr, flush=True)
    print(as_table(rows))
    told = {(row.scenario, row.router): row.outcome for row in rows}
    titles = {each.name: each.title for each in SCENARIOS}
    alone = told.get((titles[ONLY_SHORT], "gateway"))
    beside = told.get((titles["pools"], "gateway"))
    if alone is not None and beside is not None:
        print(f"\n{short_p99_verdict(alone, beside)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.pool", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="of traffic, in each run")
    parser.add_argument("--seed", type=int, default=1, help="of all that is left to chance")
    parser.add_argument(
        "--scenario",
        action="append",
        choices=[each.name for each in SCENARIOS],
        help="only this one; may be repeated",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
