"""Draws the sample artworks and writes their metadata.csv."""

from __future__ import annotations

import argparse
from pathlib import Path

from artstudio.catalogue import works
from artstudio.files import save, save_table

_COLUMNS = ("file_name", "title", "artist", "licence", "source", "caption")


def main() -> None:
    """Parses the command line and draws."""
    parser = argparse.ArgumentParser(
        description="Draw the sample artworks and their metadata.csv (Hugging Face imagefolder convention).",
        epilog="The same pillow, numpy and OpenCV versions give the same bytes on every run.",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "artworks",
        metavar="DIR",
        help="folder to write to; files of the same names are replaced (default: %(default)s)",
    )
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for work in works():
        save(work.draw(), out / work.file_name)
        rows.append({column: str(getattr(work, column)) for column in _COLUMNS})
        print(f"{work.file_name}  {work.title}")
    save_table(rows, out / "metadata.csv")


if __name__ == "__main__":
    main()
