"""Uploads that mean harm: each gets a 4xx with a reason or a valid answer, and the server is as it was before."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

pytest.importorskip("fastapi", reason="needs the extra: pip install 'replication-detector[server]'")

from PIL import Image

from detector import build_index
from detector.server.schemas import CheckAnswer, Error
from tests.benchmarks.hostile import (
    bad_metadata,
    deflate_bomb,
    encoded,
    flipped,
    huge_dimensions,
    many_frames,
    many_scans,
    other_type,
    polyglot,
    random_bytes,
    truncated,
)
from tests.serving import served

SEED = 20261121
AT_ONCE = 8
MOST_MB = 100.0
WARM_UP = 60


KINDS: dict[Callable[[random.Random], bytes], int] = {
    truncated: 5,
    flipped: 5,
    huge_dimensions: 4,
    deflate_bomb: 1,
    other_type: 3,
    random_bytes: 4,
    polyglot: 2,
    many_frames: 1,
    bad_metadata: 2,
    many_scans: 1,
}
"""How often each kind comes."""


def whole_bodies(rng: random.Random, data: bytes) -> dict[str, Any]:
    """A request with an upload: as a form, as a picture by itself, or as something that is only nearly one."""
    kind = rng.randrange(20)
    if kind < 12:
        name = rng.choice(["a.png", "../../etc/passwd", "<script>.svg", "a\x00.jpg", "😀" * 100, "x" * 5000])
        return {"files": [("pictures", (name, data))]}
    if kind < 16:
        given = rng.choice(["image/png", "image/svg+xml", "image/", "image/x; charset=\xff"])
        return {"content": data, "headers": {"Content-Type": given.encode("latin-1")}}
    form = httpx.Request("POST", "http://a", files=[("pictures", ("a.png", data))])
    body, content_type = form.read(), form.headers["Content-Type"]
    boundary = content_type.partition("boundary=")[2].encode()
    part = (
        b"--" + boundary + b'\r\nContent-Disposition: form-data; name="pictures"; filename="a"\r\n\r\nx\r\n'
    )
    made = rng.choice(
        [
            body[: rng.randrange(len(body))],
            part * 5_000,
            body.replace(b"Content-Disposition", b"X-" + b"a" * 100_000),
            body.replace(
                b'name="pictures"', b'name="' + rng.choice([b"", b"__proto__", b"x" * 9_000]) + b'"'
            ),
            b"--" + boundary + b"\r\n" * 10_000,
            rng.randbytes(5_000),
        ]
    )
    wrong = rng.choice(
        [content_type, content_type, "multipart/form-data", "multipart/form-data; boundary=" + "b" * 500]
    )
    return {"content": made, "headers": {"Content-Type": wrong}}


def requests(count: int) -> Iterator[dict[str, Any]]:
    """Yield requests, the same ones for the same count."""
    rng = random.Random(SEED)
    kinds = list(KINDS)
    weights = list(KINDS.values())
    for number in range(count):
        kind = kinds[number] if number < len(kinds) else rng.choices(kinds, weights)[0]
        yield whole_bodies(rng, kind(rng))


def resident_mb() -> float:
    """Memory of this process and its decoders."""
    process = psutil.Process()
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 1e6


def is_answered_well(answer: httpx.Response) -> None:
    if answer.status_code == 200:
        CheckAnswer.model_validate(answer.json())
    else:
        assert 400 <= answer.status_code < 500, answer.text
        assert Error.model_validate(answer.json()).error.message
    assert "Content-Security-Policy" in answer.headers


@pytest.fixture(scope="module")
def small_index(artworks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few works by hashes alone: what is attacked here is in front of the search."""
    folder = tmp_path_factory.mktemp("hostile") / "small.index"
    build_index([artworks / "city-3.jpg", artworks / "poster-2.jpg"], folder, descriptors=["pdq", "phash"])
    return folder


def attack(index: Path, count: int) -> dict[int, int]:
    """Send hostile requests, several at a time, and compare the server with itself before.

    Returns:
        How many answers there were of each status.
    """
    picture = encoded(Image.linear_gradient("L").convert("RGB"), "PNG")
    statuses: dict[int, int] = {}
    # The largest bomb of pixels is just above this bound, the next one just below.
    with served(index, max_pixels=60_000_000, workers=2) as client:

        def send(request: dict[str, Any]) -> int:
            answer = client.post("/v1/check", **request)
            is_answered_well(answer)
            return answer.status_code

        with ThreadPoolExecutor(AT_ONCE) as pool:
            # Every kind once or more, several at a time: what is loaded on first use is loaded after that.
            list(pool.map(send, requests(WARM_UP)))
            before = resident_mb()
            for status in pool.map(send, requests(count)):
                statuses[status] = statuses.get(status, 0) + 1
        assert client.get("/healthz").json()["status"] == "ok"
        good = client.post("/v1/check", files=[("pictures", ("good.png", picture))]).json()["results"][0]
        assert good["verdict"] == "no_match"
        assert b"detector_pending_pictures 0.0" in client.get("/metrics").content
        assert resident_mb() - before < MOST_MB, f"from {before:.0f} to {resident_mb():.0f} MB"
    return statuses


def test_a_hundred_hostile_uploads(small_index: Path) -> None:
    statuses = attack(small_index, 100)
    assert sum(statuses.values()) == 100
    assert {200, 400} <= statuses.keys()


@pytest.mark.slow
@pytest.mark.fuzz
@pytest.mark.timeout(1800)
def test_two_thousand_hostile_uploads(small_index: Path) -> None:
    statuses = attack(small_index, 2_000)
    assert sum(statuses.values()) == 2_000
