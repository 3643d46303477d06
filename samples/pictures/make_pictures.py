"""Makes `finding.png`, the picture in the README: one card of a real report over the sample pictures.

python samples/pictures/make_pictures.py [--out FOLDER] [--browser CHROMIUM]

Indexes samples/artworks, scans one picture of samples/generated, writes the page of findings, and lets a
headless Chromium draw its card. Only what surrounds the card on the page is left out.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

from detector import Detector, build_index

SAMPLES = Path(__file__).resolve().parents[1]
QUERY = "0033.png"
"""What the sample pipeline gave for the caption of a work that it was trained on ×64."""

WIDTH, HEIGHT, SCALE = 1400, 900, 1.2
"""Of the browser's window, in CSS pixels, and how many pixels of the picture each of those becomes."""

MARGIN = 18
COLOURS = 255
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
CARD_ONLY = """<style>
  body > :not(main), main > :not(#findings), #findings > :not(ol, ul) { display: none !important; }
  article { grid-template-columns: minmax(0, 2fr) minmax(0, 1fr) !important; }
  main, #findings { padding: 0 !important; margin: 12px !important; max-width: none !important; }
</style></head>"""


def page(folder: Path) -> Path:
    """Write the report's page, and open it to one more style sheet: it forbids those that are not its own."""
    os.chdir(SAMPLES.parent)  # paths on the page are then as in the README
    build_index("samples/artworks", folder / "art.index")
    with Detector.open(folder / "art.index") as detector:
        detector.scan(f"samples/generated/{QUERY}").save_html(folder / "report.html")
    text = (folder / "report.html").read_text(encoding="utf-8")
    text = text.replace("Content-Security-Policy", "was-security-policy", 1).replace("</head>", CARD_ONLY, 1)
    (folder / "card.html").write_text(text, encoding="utf-8")
    return folder / "card.html"


def photograph(path: Path, browser: str) -> Image.Image:
    """Let the browser draw a page, and cut off what is empty round it."""
    shot = path.with_suffix(".png")
    command = [
        *(browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
        *(f"--force-device-scale-factor={SCALE}", f"--window-size={WIDTH},{HEIGHT}"),
        *(f"--user-data-dir={path.parent / 'profile'}", f"--screenshot={shot}", path.as_uri()),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    image = Image.open(shot).convert("RGB")
    empty = Image.new("RGB", image.size, image.getpixel((image.width - 1, image.height - 1)))
    box = ImageChops.difference(image, empty).getbbox()
    if box is None:
        sys.exit("the browser drew an empty page")
    left, top, right, bottom = box
    return image.crop(
        (
            max(0, left - MARGIN),
            max(0, top - MARGIN),
            min(image.width, right + MARGIN),
            min(image.height, bottom + MARGIN),
        )
    )


def main() -> None:
    """Parse, draw, save."""
    parser = argparse.ArgumentParser(description="Make the picture in the README.")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--browser", default=next(filter(shutil.which, BROWSERS), None))
    chosen = parser.parse_args()
    if chosen.browser is None:
        sys.exit(
            f"no browser found. Install Chromium, or name one: --browser PATH (tried: {', '.join(BROWSERS)})"
        )
    out = chosen.out.resolve()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        image = photograph(page(Path(folder)), chosen.browser)
    image.quantize(COLOURS, dither=Image.Dither.FLOYDSTEINBERG).save(out / "finding.png", optimize=True)
    print(f"{out / 'finding.png'}: {image.width} × {image.height}")


if __name__ == "__main__":
    main()
