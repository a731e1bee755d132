"""Writes the boards: `python -m deploy.grafana.build`. A test holds what is committed current."""

import json
from pathlib import Path

from deploy.grafana.board import Board
from deploy.grafana.boards.latency import LATENCY
from deploy.grafana.boards.overview import OVERVIEW
from deploy.grafana.boards.safety import SAFETY

BOARDS: tuple[Board, ...] = (OVERVIEW, LATENCY, SAFETY)
DASHBOARDS = Path(__file__).with_name("dashboards")


def rendered(board: Board) -> str:
    return json.dumps(board.json(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    for board in BOARDS:
        path = DASHBOARDS / f"{board.name}.json"
        path.write_text(rendered(board), "utf-8")
        print(path)


if __name__ == "__main__":
    main()
