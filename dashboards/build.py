"""Writes the dashboards' JSON beside their code: `python -m dashboards.build`, or `make dashboards`. The same code, the same bytes."""

import json
from pathlib import Path

from dashboards.boards import BOARDS
from dashboards.panels import Json

FOLDER = Path(__file__).resolve().parent


def rendered(board: Json) -> str:
    """Return a dashboard as the text of its file."""
    return json.dumps(board, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    for name, make in BOARDS.items():
        (FOLDER / name).write_text(rendered(make()), encoding="utf-8")


if __name__ == "__main__":
    main()
