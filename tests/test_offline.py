"""The main job asks no network for anything, and starts no program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FORBIDDEN = """
import json
import sys

asked = []
WATCHED = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request",
           "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "ftplib.connect", "webbrowser.open")

def watch(event, args):
    # torch has the system say where its libraries are.
    if event in WATCHED and "ldconfig" not in str(args[0]):
        asked.append([event, repr(args)[:200]])
        raise RuntimeError(f"{event} is forbidden here")

sys.addaudithook(watch)
"""

MAIN_JOB = """
from detector.cli import main

artworks, generated, out = sys.argv[1:]

def ended(*command):
    sys.argv = ["detector", *command]
    try:
        main()
    except SystemExit as end:
        return end.code or 0

codes = [
    ended("index", "build", artworks, "--out", f"{out}/art.index"),
    ended("index", "check", "--index", f"{out}/art.index"),
    ended("scan", generated, "--index", f"{out}/art.index", "--jsonl", f"{out}/f.jsonl", "--html", f"{out}/r.html"),
    ended("report", f"{out}/f.jsonl", "--html", f"{out}/r2.html"),
]
print(json.dumps({"codes": codes, "asked": asked}))
"""


def test_building_checking_scanning_and_reporting_open_no_connection(artworks: Path, tmp_path: Path) -> None:
    """From a folder of pictures to a page of findings, the bundled tower included."""
    generated = artworks.parent / "generated"
    command = [sys.executable, "-c", FORBIDDEN + MAIN_JOB, str(artworks), str(generated), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert said == {"codes": [0, 0, 1, 1], "asked": []}
    assert (tmp_path / "r.html").stat().st_size > 10_000


def test_the_watch_notices_a_connection(tmp_path: Path) -> None:
    """A test of the test: what is forbidden there is met."""
    attempt = """
import socket
try:
    socket.create_connection(("192.0.2.1", 9), timeout=0.1)
except RuntimeError:
    print(json.dumps(asked))
"""
    done = subprocess.run(
        [sys.executable, "-c", FORBIDDEN + attempt], capture_output=True, text=True, timeout=60
    )
    assert "socket" in json.loads(done.stdout)[0][0], done.stderr
