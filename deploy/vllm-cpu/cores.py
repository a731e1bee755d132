"""Which processor cores each of vLLM's workers gets."""

import os
from pathlib import Path

MAX_PER_WORKER = 4  # so small a model gives no work to more, and its clients need cores too
TOPOLOGY = Path("/sys/devices/system/cpu")


def allowed() -> list[int]:
    """The cores that this process may use, one of each pair that shares a physical core.

    All of them where that would leave less than two: a virtual machine's two cores are often
    the two threads of one.
    """
    usable = sorted(os.sched_getaffinity(0))
    firsts: dict[str, int] = {}
    for core in usable:
        siblings = TOPOLOGY / f"cpu{core}" / "topology" / "thread_siblings_list"
        group = siblings.read_text().strip() if siblings.exists() else str(core)
        firsts.setdefault(group, core)
    physical = list(firsts.values())
    return physical if len(physical) > 1 else usable


def bind(workers: int, usable: list[int]) -> str:
    """In vLLM's notation, "0,1|2,3": the same number of cores for each worker, at least one.

    Where there are fewer cores than workers these share them, which works, slowly.
    """
    each = min(max(len(usable) // workers, 1), MAX_PER_WORKER)
    parts = [
        [usable[(worker * each + i) % len(usable)] for i in range(each)]
        for worker in range(workers)
    ]
    return "|".join(",".join(map(str, part)) for part in parts)
