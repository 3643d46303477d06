"""Makes the pictures of the server's pages in the README, over the sample pictures.

python samples/pictures/make_screenshots.py [--out FOLDER] [--browser CHROMIUM]

Indexes samples/artworks, scans samples/generated, serves both, and lets a headless Chromium look an artist up, open a
match and look at it on a phone in the dark. Needs the extras `server` and `test`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from detector import Detector, build_index
from detector.server.app import create_app
from detector.server.options import ServerOptions
from detector.server.running import address_of, bind

SAMPLES = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARTIST = "atelier clair"
PICTURE = SAMPLES / "edited" / "0024.png"
COLOURS = 255
DESK, PHONE = {"width": 1120, "height": 800}, {"width": 390, "height": 780}


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve the samples from a folder; yields the address."""
    os.chdir(SAMPLES.parent)  # paths on the pages are then as in the README
    build_index("samples/artworks", folder / "art.index")
    with Detector.open(folder / "art.index") as detector:
        for _ in detector.scan("samples/generated", jsonl=folder / "findings.jsonl"):
            pass
    options = ServerOptions(folder / "art.index", findings=(folder / "findings.jsonl",), port=0)
    with bind(options) as bound:
        server = uvicorn.Server(uvicorn.Config(create_app(options), log_config=None, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.05)
            yield address_of(options, bound)
        finally:
            server.should_exit = True
            thread.join()


def ask(page: Page, address: str) -> None:
    """Look the artist up, by name and by picture."""
    page.goto(address)
    page.get_by_label("Your name").fill(ARTIST)
    page.get_by_label("Pictures of your works").set_input_files(PICTURE)
    page.get_by_role("button", name="Look up").click()
    page.wait_for_url("**/results/*")
    page.wait_for_load_state("networkidle")


def top_of(page: Page, height: int) -> bytes:
    """Photograph the top of a page."""
    width = page.viewport_size["width"] if page.viewport_size else 0
    clip = {"x": 0, "y": 0, "width": width, "height": height}
    return page.screenshot(clip=clip, full_page=True, animations="disabled")


def save(shot: bytes, path: Path) -> None:
    """Save a photograph, small."""
    image = Image.open(io.BytesIO(shot)).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    print(f"{path}: {image.width} × {image.height}, {path.stat().st_size // 1000} kB")


def main() -> None:
    """Parse, serve, look, save."""
    parser = argparse.ArgumentParser(description="Make the pictures of the pages in the README.")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--browser", default=next(filter(None, map(shutil.which, BROWSERS)), None))
    chosen = parser.parse_args()
    if chosen.browser is None:
        sys.exit(
            f"no browser found. Install Chromium, or name one: --browser PATH (tried: {', '.join(BROWSERS)})"
        )
    out = chosen.out.resolve()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        serving(Path(folder)) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chosen.browser, args=["--no-sandbox"])
        page = browser.new_page(viewport=DESK)
        ask(page, address)
        save(top_of(page, 690), out / "page-answer.png")
        page.get_by_role("link", name="The Striped Fish").click()
        page.wait_for_load_state("networkidle")
        save(page.locator(".stage").screenshot(), out / "page-slider.png")
        page = browser.new_page(viewport=PHONE, color_scheme="dark")
        ask(page, address)
        save(top_of(page, PHONE["height"]), out / "page-phone.png")
        browser.close()


if __name__ == "__main__":
    main()
