"""The server: its API over the sample index, batches, limits, who may ask what, reloading, `detector serve`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

pytest.importorskip("fastapi", reason="needs the extra: pip install 'replication-detector[server]'")

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from starlette.testclient import TestClient

from detector import Detector, UsageError, build_index
from detector.server.app import create_app
from detector.server.decoding import Decoders
from detector.server.generations import Generations
from detector.server.options import MIB, ServerOptions
from detector.server.problems import Busy
from detector.server.security import COOKIE, Gate, RateLimit, own_path
from tests.serving import served

HOME = "http://127.0.0.1"
NO_FILE_CHOSEN = {
    "content": b'--b\r\nContent-Disposition: form-data; name="pictures"; filename=""\r\n\r\n\r\n--b--\r\n',
    "headers": {"Content-Type": "multipart/form-data; boundary=b"},
}
"""What a browser sends for a form whose file was not chosen."""
TOKEN = "kUKz6m2XrTq0-not-a-secret"


@pytest.fixture(scope="module")
def client(sample_index: Path) -> Iterator[TestClient]:
    app = create_app(ServerOptions(index=sample_index, rate_per_minute=0))
    with TestClient(app, base_url=HOME) as made:
        yield made


@pytest.fixture
def picture(edited: Path) -> bytes:
    """A part of a sample artwork, edited."""
    return (edited / "0024.png").read_bytes()


def picture_parts(*pictures: bytes, name: str = "a.png") -> list[tuple[str, tuple[str, bytes]]]:
    return [("pictures", (name, data)) for data in pictures]


# Checks


def test_check_answers_what_the_detector_says(client: TestClient, sample_index: Path, edited: Path) -> None:
    names = ["0001.png", "0024.png", "0027.webp"]
    paths = [path for path in sorted(edited.iterdir()) if path.name in names]
    assert paths
    with Detector.open(sample_index) as detector:
        expected = [detector.check(path.read_bytes(), name=path.name).to_dict() for path in paths]
    answer = client.post("/v1/check", files=[("pictures", (p.name, p.read_bytes())) for p in paths])
    assert answer.status_code == 200
    assert answer.json()["format_version"] == 1
    for found, wanted in zip(answer.json()["results"], expected, strict=True):
        assert [m["reference"] for m in found["matches"]] == [m["reference"] for m in wanted["matches"]]
        for key in ("query", "verdict", "level", "reason", "sha256", "width", "height", "generation"):
            assert found[key] == wanted[key]
        assert found["score"] == pytest.approx(wanted["score"], abs=1e-3)


def test_the_indexed_file_itself_is_identical(client: TestClient, artworks: Path) -> None:
    data = (artworks / "city-3.jpg").read_bytes()
    found = client.post("/v1/check", files=picture_parts(data)).json()["results"][0]
    assert found["level"] == 5
    assert found["matches"][0]["evidence"]["verification"] == "identical"


def test_a_picture_may_be_the_body(client: TestClient, picture: bytes) -> None:
    answer = client.post("/v1/check", content=picture, headers={"Content-Type": "image/png"})
    assert answer.json()["results"][0]["query"] == "picture"
    assert answer.json()["results"][0]["level"] == 3


def test_unreadable_pictures_are_answered_with_a_reason(client: TestClient, picture: bytes) -> None:
    sent = picture_parts(b"no picture", b"", picture[:300], picture)
    results = client.post("/v1/check", files=sent).json()["results"]
    assert [found["reason"] for found in results] == ["not_an_image", "empty", "truncated", None]
    assert [found["verdict"] for found in results] == ["unreadable"] * 3 + ["replica"]
    assert [found["query"] for found in results] == ["a.png", "a.png (2)", "a.png (3)", "a.png (4)"]


def test_names_lose_folders_and_control_characters(client: TestClient) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="pictures"; filename="C:\\art\\\x1b[31mred.png"\r\n\r\n'
        b"x\r\n--b--\r\n"
    )
    answer = client.post(
        "/v1/check", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert answer.json()["results"][0]["query"] == "[31mred.png"


@pytest.mark.parametrize(
    ("sent", "status", "code", "says"),
    [
        ({}, 415, "wrong_media_type", "multipart/form-data"),
        ({"json": {}}, 415, "wrong_media_type", "multipart/form-data"),
        ({"files": {"image": b"x"}}, 422, "bad_input", "Fields are: pictures"),
        (NO_FILE_CHOSEN, 422, "bad_input", "at least one"),
        ({"files": picture_parts(*[b"x"] * 17)}, 413, "too_large", "more than 16 pictures"),
        ({"files": picture_parts(bytes(20 * MIB + 1))}, 413, "too_large", "20 MiB"),
        ({"content": b"{", "headers": {"Content-Type": "multipart/form-data"}}, 400, "bad_form", "boundary"),
        (
            {"content": b"--b\r\nbroken", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
            400,
            "bad_form",
            "garbled",
        ),
    ],
)
def test_bad_uploads_are_refused_with_what_to_do(
    client: TestClient, sent: dict[str, Any], status: int, code: str, says: str
) -> None:
    answer = client.post("/v1/check", **sent)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == code
    assert says in answer.json()["error"]["message"]


def test_a_broken_off_form_is_refused(client: TestClient, picture: bytes) -> None:
    whole = httpx.Request("POST", HOME, files=picture_parts(picture))
    data = whole.read()
    headers = {"Content-Type": whole.headers["Content-Type"]}
    answer = client.post("/v1/check", content=data[: len(data) // 2], headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_form")


def test_requests_at_once_share_batches(sample_index: Path, picture: bytes) -> None:
    app = create_app(ServerOptions(index=sample_index, workers=1))
    engine = app.state.engine
    sizes: list[int] = []
    engine._batches._on_batch = lambda count, seconds: sizes.append(count)

    async def ask() -> list[Any]:
        await engine.start()
        try:
            return await asyncio.gather(*[engine.check([("a", picture)], previews=False) for _ in range(12)])
        finally:
            await engine.stop()

    reports = [found[0].report for found in asyncio.run(ask())]
    assert {report.level for report in reports} == {3}
    assert sum(sizes) == 12
    assert max(sizes) > 1


def test_one_picture_that_breaks_a_batch_fails_alone(
    sample_index: Path, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Detector.check_pictures

    def breaking(self: Detector, pictures: Any, *, names: Any) -> Any:
        if "bad" in names:
            raise RuntimeError("a descriptor stumbled")
        return whole(self, pictures, names=names)

    monkeypatch.setattr(Detector, "check_pictures", breaking)
    engine = create_app(ServerOptions(index=sample_index, workers=1)).state.engine

    async def ask() -> list[Any]:
        await engine.start()
        try:
            asked = [engine.check([(name, picture)]) for name in ("a", "bad", "b", "c")]
            return await asyncio.gather(*asked, return_exceptions=True)
        finally:
            await engine.stop()

    first, bad, second, third = asyncio.run(ask())
    assert isinstance(bad, RuntimeError)
    assert [found[0].report.query for found in (first, second, third)] == ["a", "b", "c"]
    assert first[0].preview[8:12] == b"WEBP"


def test_a_full_queue_says_when_to_come_back(sample_index: Path, picture: bytes) -> None:
    options = ServerOptions(index=sample_index, queue=4, max_pictures=4, workers=1, rate_per_minute=0)
    with TestClient(create_app(options), base_url=HOME) as made:
        answers: list[httpx.Response] = []

        def ask() -> None:
            answers.append(made.post("/v1/check", files=picture_parts(*[picture] * 4)))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 200
    assert statuses[-1] == 429
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["code"] == "busy"
    assert int(refused.headers["Retry-After"]) >= 1


# References, artists, look-ups, removal


def test_references_come_by_id(client: TestClient, sample_index: Path) -> None:
    answer = client.get("/v1/references/1")
    assert answer.json()["reference"]["id"] == 1
    assert answer.json()["reference"]["occurrences"][0]["path"].startswith("")
    thumbnail = client.get("/v1/references/1/thumbnail")
    assert thumbnail.headers["Content-Type"] == "image/webp"
    assert thumbnail.content[8:12] == b"WEBP"


@pytest.mark.parametrize("path", ["/v1/references/999", "/v1/references/999/thumbnail", "/v1/nothing"])
def test_what_is_not_there_is_404(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/references/0",
        f"/v1/references/{2**63}",
        f"/v1/references/{2**53}",
        "/v1/references/..%2fcatalog",
        "/v1/references/a",
    ],
)
def test_ids_are_numbers_within_bounds(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (404, 422)


def test_look_up_by_name_and_by_picture(client: TestClient, picture: bytes) -> None:
    named = client.post("/v1/lookup", files={"name": (None, "Abara, Lien")})
    assert named.status_code == 200, named.text
    artists = {o["artist"] for work in named.json()["works"] for o in work["reference"]["occurrences"]}
    assert artists == {"Lien Abara"}
    shown = client.post("/v1/lookup", files=picture_parts(picture, b"no picture"))
    works = [work for work in shown.json()["works"] if work["verified"]]
    assert [work["reference"]["occurrences"][0]["title"] for work in works] == ["The Striped Fish"]
    assert shown.json()["unreadable"] == [{"picture": "a.png (2)", "reason": "not_an_image"}]


def test_look_up_for_nothing_or_too_much_is_refused(client: TestClient) -> None:
    nothing = client.post("/v1/lookup", files={"name": (None, " ")})
    assert nothing.status_code == 422
    long = client.post("/v1/lookup", files={"name": (None, "a" * 201)})
    assert (long.status_code, "200 characters" in long.text) == (422, True)


def test_artists_are_suggested(client: TestClient) -> None:
    found = client.get("/v1/artists", params={"q": "atelier"}).json()["artists"]
    assert "Atelier Clair" in [artist["name"] for artist in found]
    assert all(artist["works"] > 0 for artist in found)


def test_a_removal_is_filed_once_and_changes_nothing(own_index: Path) -> None:
    asked = {"reference_ids": [3, 5], "name": "Lien Abara", "contact": "lien@example.org"}
    with TestClient(create_app(ServerOptions(index=own_index)), base_url=HOME) as made:
        first = made.post("/v1/requests", json=asked)
        again = made.post("/v1/requests", json=asked)
        assert first.status_code == 201, first.text
        assert first.json()["references"] == 2
        assert first.json()["state"] == "open"
        assert again.json()["id"] == first.json()["id"]
        unknown = made.post("/v1/requests", json={**asked, "reference_ids": [999]})
        assert unknown.status_code == 404
        empty = made.post("/v1/requests", json={**asked, "reference_ids": []})
        assert (empty.status_code, empty.json()["error"]["code"]) == (422, "bad_input")
        assert made.get("/v1/references/3").status_code == 200


def test_a_server_may_take_no_requests(sample_index: Path) -> None:
    with TestClient(
        create_app(ServerOptions(index=sample_index, allow_requests=False)), base_url=HOME
    ) as made:
        assert made.post("/v1/requests", json={"reference_ids": [1], "name": "a"}).status_code == 404


# Who may ask what


def test_any_address_but_ones_own_needs_a_token(sample_index: Path) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "art.example"):
        with pytest.raises(UsageError, match="--token-file"):
            ServerOptions(index=sample_index, host=host)
        ServerOptions(index=sample_index, host=host, token=TOKEN)
    for host in ("127.0.0.1", "localhost", "::1", "127.8.8.8"):
        ServerOptions(index=sample_index, host=host)
    with pytest.raises(UsageError, match="16 ASCII"):
        ServerOptions(index=sample_index, token="short")


def test_without_the_token_nothing_but_the_login_is_reachable(sample_index: Path, picture: bytes) -> None:
    app = create_app(ServerOptions(index=sample_index, token=TOKEN))
    with TestClient(app, base_url=HOME, follow_redirects=False) as made:
        for path in (
            "/v1/references/1",
            "/v1/references/1/thumbnail",
            "/metrics",
            "/docs",
            "/openapi.json",
            "/",
        ):
            answer = made.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "token_needed"), path
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert made.post("/v1/check", files=picture_parts(picture)).status_code == 401
        for wrong in ("Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer", "Bearer \xe4"):
            refused = made.get("/v1/references/1", headers={"Authorization": wrong.encode("latin-1")})
            assert refused.status_code == 401
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert made.get("/v1/references/1", headers=right).status_code == 200
        assert made.get("/healthz").status_code == 200
        page = made.get("/artists?q=a", headers={"Accept": "text/html"})
        assert (page.status_code, page.headers["Location"]) == (303, "/login?next=/artists%3Fq%3Da")
        cookie = {"Cookie": f"{COOKIE}={app.state.gate._cookie}"}
        assert made.get("/v1/references/1", headers=cookie).status_code == 200
        assert made.get("/v1/references/1", headers={"Cookie": f"{COOKIE}={TOKEN}"}).status_code == 401
        assert made.get("/openapi.json", headers=right).json()["components"]["securitySchemes"]


def test_the_cookie_is_not_the_token_and_ends_with_the_server() -> None:
    from starlette.responses import Response

    one, other = Gate(TOKEN), Gate(TOKEN)
    response = Response()
    one.remember(response, secure=True)
    header = response.headers["set-cookie"]
    assert TOKEN not in header
    for part in ("HttpOnly", "SameSite=strict", "Secure", "Path=/"):
        assert part in header
    value = header.split(";")[0].partition("=")[2]
    assert one.admits("/x", "", {COOKIE: value})
    assert not other.admits("/x", "", {COOKIE: value})
    assert not Gate(TOKEN).fits("")


def test_after_a_login_only_own_pages_are_gone_on_to() -> None:
    assert own_path("/artists?q=a") == "/artists?q=a"
    for foreign in ("//evil.example", "https://evil.example", "/\\evil.example", "", "/a\r\nSet-Cookie: x"):
        assert own_path(foreign) == "/"


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "", "127.0.0.1.evil.example", "[::1"]
)
def test_a_name_that_merely_leads_here_is_refused(client: TestClient, host: str) -> None:
    answer = client.get("/healthz", headers={"Host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unknown_host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8765", "127.0.0.1:1", "[::1]:8765", "192.168.0.7"])
def test_own_names_and_addresses_pass(client: TestClient, host: str) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_further_names_can_be_allowed(sample_index: Path) -> None:
    options = ServerOptions(index=sample_index, allowed_hosts=("Art.Example",))
    with TestClient(create_app(options), base_url=HOME) as made:
        assert made.get("/healthz", headers={"Host": "art.example"}).status_code == 200
        assert made.get("/healthz", headers={"Host": "bad.example"}).status_code == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": HOME}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": HOME}, 200),
        ({"Origin": HOME}, 200),
        ({}, 200),
    ],
)
def test_posts_from_other_sites_are_refused(
    client: TestClient, picture: bytes, headers: dict[str, str], status: int
) -> None:
    answer = client.post("/v1/check", files=picture_parts(picture), headers=headers)
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["error"]["code"] == "cross_site"


@pytest.mark.parametrize(
    "path", ["/healthz", "/nothing", "/v1/references/0", "/docs", "/openapi.json", "/metrics"]
)
def test_every_answer_carries_the_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_a_client_has_a_rate(sample_index: Path) -> None:
    with TestClient(create_app(ServerOptions(index=sample_index, rate_per_minute=20)), base_url=HOME) as made:
        statuses = [made.post("/v1/check").status_code for _ in range(12)]
        assert statuses == [415] * 10 + [429] * 2
        answer = made.post("/v1/check")
        assert answer.headers["Retry-After"] == "3"
        assert "too many requests" in answer.json()["error"]["message"]
        assert made.get("/healthz").status_code == 200


def test_the_rate_refills_and_its_table_stays_small() -> None:
    now = 0.0
    limit = RateLimit(60, clock=lambda: now)

    def passes(client: str) -> bool:
        try:
            limit.charge(client, "POST", "/v1/check")
        except Busy:
            return False
        return True

    assert [passes("10.0.0.1") for _ in range(16)] == [True] * 15 + [False]
    assert passes("10.0.0.2")
    now = 1.0
    assert passes("10.0.0.1")
    assert not passes("10.0.0.1")
    assert sum(passes(f"2001:db8::{number:x}") for number in range(20)) == 15
    for number in range(12_000):
        passes(f"10.1.{number // 256}.{number % 256}")
    assert len(limit._left) <= 10_000


def test_bodies_together_are_bounded(sample_index: Path, picture: bytes) -> None:
    options = ServerOptions(index=sample_index, max_pending_bytes=len(picture) // 2)
    with TestClient(create_app(options), base_url=HOME) as made:
        answer = made.post("/v1/check", files=picture_parts(picture))
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "busy")
        small = made.post("/v1/check", files=picture_parts(b"x"))
        assert small.status_code == 200


def test_a_body_that_trickles_in_is_given_up(sample_index: Path) -> None:
    with served(sample_index, body_timeout_s=0.3) as made:
        address = (made.base_url.host, made.base_url.port)
        with socket.create_connection(address, timeout=20) as raw:
            raw.sendall(
                b"POST /v1/check HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
                b"Content-Length: 1000\r\n\r\nx"
            )
            answer = raw.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"Content-Security-Policy" in answer or b"content-security-policy" in answer


def test_uploads_are_not_written_to_disk(
    client: TestClient, edited: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("an upload was about to be spooled")

    monkeypatch.setattr("starlette.formparsers.SpooledTemporaryFile", refuse)
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    noise = np.random.default_rng(1).integers(0, 256, 3 * MIB, np.uint8).tobytes()
    assert client.post("/v1/check", files=picture_parts(noise)).status_code == 200


def test_the_log_names_no_file_and_no_query(
    client: TestClient, picture: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="detector"):
        client.post("/v1/check", files=picture_parts(picture, name="my-secret-work.png"))
        client.get("/v1/artists", params={"q": "secretname"})
        client.get("/secretpath?secret=1")
    assert "POST /v1/check 200" in caplog.text
    assert "secret" not in caplog.text


def test_an_error_of_the_server_tells_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = "/home/somebody/secret.png"

    def broken(*_: Any) -> None:
        raise RuntimeError(place)

    monkeypatch.setattr(client.app.state.engine, "thumbnail", broken)  # type: ignore[attr-defined]
    answer = client.get("/v1/references/1/thumbnail")
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal"
    assert place not in answer.text
    assert "Content-Security-Policy" in answer.headers
    assert "RuntimeError" in caplog.text
    assert place not in caplog.text


# Decoding


@pytest.fixture
def decoders() -> Iterator[Callable[..., Decoders]]:
    made: list[Decoders] = []

    def make(**chosen: Any) -> Decoders:
        made.append(Decoders(1, **{"max_pixels": 1_000_000, "max_bytes": MIB, "timeout_s": 30.0, **chosen}))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_decoding_apart_gives_the_same_picture(decoders: Callable[..., Decoders], picture: bytes) -> None:
    from index.images import read_image

    found = decoders().decode(picture, preview=True)
    expected = read_image(picture)
    assert found.picture is not None
    assert np.array_equal(found.picture.pixels, expected.pixels)
    facts = ("width", "height", "sha256", "format")
    assert [getattr(found.picture, f) for f in facts] == [getattr(expected, f) for f in facts]
    assert found.preview[8:12] == b"WEBP"


def test_a_decoder_that_hangs_or_dies_is_replaced(decoders: Callable[..., Decoders], picture: bytes) -> None:
    lost: list[int] = []
    made = decoders(on_loss=lambda: lost.append(1))
    assert made.decode(picture).picture is not None
    (first,) = made._alive
    child = psutil.Process(first._child.pid)
    child.suspend()
    made._timeout_s = 0.5
    assert made.decode(picture).reason == "took_too_long"
    made._timeout_s = 30.0
    assert made.decode(picture).picture is not None
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    (second,) = made._alive
    second._child.kill()
    second._child.wait()
    assert made.decode(picture).picture is not None
    (third,) = made._alive
    psutil.Process(third._child.pid).suspend()
    timer = threading.Timer(0.3, third._child.kill)
    timer.start()
    assert made.decode(picture).reason == "decoder_died"
    assert made.decode(picture).picture is not None
    assert len(lost) == 3


def test_what_a_decoder_makes_up_is_not_believed(decoders: Callable[..., Decoders], picture: bytes) -> None:
    made = decoders()
    made.start()
    for head, body in [
        ({}, b""),
        ({"rows": 9999, "columns": 9999, "width": 1, "height": 1, "format": ""}, b""),
        ({"rows": 2, "columns": 2, "width": 1, "height": 1, "format": ""}, b"x"),
        ({"rows": "a", "columns": 2, "width": 1, "height": 1, "format": ""}, b"x"),
    ]:
        made.start()
        (process,) = made._alive
        process.ask = lambda *_, answer=(head, body): answer  # type: ignore[method-assign]
        assert made.decode(picture).reason == "decoder_died"
    assert made.decode(picture).picture is not None


def test_decoders_end_with_their_parent(decoders: Callable[..., Decoders], picture: bytes) -> None:
    made = decoders()
    made.start()
    (process,) = made._alive
    made.close()
    assert process._child.poll() is not None


@pytest.mark.skipif(sys.platform != "linux", reason="address space can be bounded on Linux alone")
def test_a_decoder_has_bounded_memory_and_opens_no_file(decoders: Callable[..., Decoders]) -> None:
    made = decoders()
    made.start()
    (process,) = made._alive
    watched = psutil.Process(process._child.pid)
    soft, hard = watched.rlimit(psutil.RLIMIT_AS)
    assert 0 < soft == hard < 2 * 1024**3
    assert watched.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)


# New generations


def test_a_new_generation_is_served_without_a_failed_request(
    own_index: Path, edited: Path, artworks: Path, tmp_path: Path
) -> None:
    more = tmp_path / "more"
    more.mkdir()
    # Noise is like nothing that is indexed.
    from PIL import Image

    blocks = np.random.default_rng(5).integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(blocks).resize((384, 384), Image.Resampling.BICUBIC).save(more / "new.png")
    new, known = (more / "new.png").read_bytes(), (edited / "0024.png").read_bytes()
    statuses: list[int] = []
    stop = threading.Event()
    with served(own_index, reload_every_s=0.1) as client:

        def keep_asking() -> None:
            while not stop.is_set():
                statuses.append(client.post("/v1/check", files=picture_parts(known)).status_code)

        before = client.get("/healthz").json()["generation"]
        assert client.post("/v1/check", files=picture_parts(new)).json()["results"][0]["level"] < 3
        threads = [threading.Thread(target=keep_asking) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            build_index(more, own_index)
            _wait_for(lambda: client.get("/healthz").json()["generation"] > before)
            _wait_for(
                lambda: client.post("/v1/check", files=picture_parts(new)).json()["results"][0]["level"] == 5
            )
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert len(statuses) > 3
    assert set(statuses) == {200}


def test_an_index_that_cannot_be_opened_anew_stays_served_and_says_so(
    own_index: Path, picture: bytes
) -> None:
    with served(own_index, reload_every_s=0.05) as client:
        manifest = own_index / "manifest.json"
        whole = manifest.read_text()
        manifest.write_text("{")
        _wait_for(lambda: client.get("/healthz").json()["status"] == "degraded")
        assert client.get("/healthz").status_code == 200
        assert client.post("/v1/check", files=picture_parts(picture)).json()["results"][0]["level"] == 3
        assert b"detector_index_reload_failing 1.0" in client.get("/metrics").content
        manifest.write_text(whole)


def test_an_older_state_is_closed_when_its_last_user_is_done(own_index: Path, artworks: Path) -> None:
    made = Generations(own_index, policy=None, device=None)
    made.open()
    with made.use() as old:
        assert not made.refresh()
        with Detector.open(own_index) as _:
            from index.reference_index import ReferenceIndex

            with ReferenceIndex.open(own_index, writable=True) as writer:
                writer.remove(path=old.index.reference(1)[1][0].path)  # type: ignore[index]
        assert made.refresh()
        assert old.index.reference(1) is not None
        with made.use() as new:
            assert new.index.reference(1) is None
    with pytest.raises(Exception, match=r"."):
        old.index.reference(1)
    made.close()


def test_a_server_lets_go_of_what_was_erased(own_index: Path) -> None:
    from index.reference_index import ReferenceIndex
    from index.requests import file_request, find_traces

    with ReferenceIndex.open(own_index) as index:
        record, (place,) = index.reference(7) or pytest.fail("no seventh reference")
        row = index.store("pdq").rows_of(7)[0].tobytes()
    traces = [record.sha256.encode(), place.path.encode(), place.credits.title.encode(), row]

    def left() -> list[bytes]:
        files = [path.read_bytes() for path in own_index.rglob("*") if path.is_file()]
        return [trace for trace in traces if any(trace in data for data in files)]

    assert left() == traces
    with served(own_index, reload_every_s=0.05) as client:
        assert client.get("/v1/references/7").status_code == 200
        asked = file_request(own_index, [record.sha256], name="Who made it")
        with ReferenceIndex.open(own_index, writable=True) as writer:
            writer.accept_request(asked.id)
        assert find_traces(own_index)  # the server has the log open
        _wait_for(lambda: client.get("/v1/references/7").status_code == 404)
        _wait_for(lambda: not find_traces(own_index))
        assert left() == []
        assert client.get("/v1/references/8").status_code == 200


def _wait_for(happened: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)


# The description


def test_the_description_names_every_refusal_in_one_shape(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert "HTTPValidationError" not in json.dumps(described)
    for path, methods in described["paths"].items():
        for operation in methods.values():
            refusals = {s: r for s, r in operation["responses"].items() if s >= "400"}
            if path == "/healthz":
                continue
            assert {"400", "401", "403", "429", "503"} <= refusals.keys()
            for refusal in refusals.values():
                schema = refusal["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Error"}


def test_swagger_comes_from_this_machine(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    for path in ("/static/swagger/swagger-ui-bundle.js", "/static/swagger/swagger-ui.css", "/docs/start.js"):
        assert path in page
        assert client.get(path).status_code == 200


def test_answers_fit_the_description_whatever_is_asked(own_index: Path) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi.checks import negative_data_rejection

    asked = 0

    def check_all(operation: Any, mode: Any) -> None:
        # In a form everything is bytes: it cannot tell a number from a picture that is none.
        form = operation.path in ("/v1/check", "/v1/lookup")
        excluded = [negative_data_rejection] if form else []

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=12,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def check_one(case: Any) -> None:
            nonlocal asked
            asked += 1
            case.call_and_validate(excluded_checks=excluded)

        with contextlib.suppress(Unsatisfiable):  # nothing is wrong to send where there is nothing to send
            check_one()

    with served(own_index) as client:
        schema = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")
        for found in schema.get_all_operations():
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                check_all(found.ok(), mode)
    assert asked > 80


def test_metrics_count_by_pattern(client: TestClient) -> None:
    client.get("/v1/references/2")
    client.get("/v1/references/3")
    text = client.get("/metrics").text
    assert 'route="/v1/references/{reference_id}"' in text
    assert "/v1/references/2" not in text
    assert "detector_index_references 60.0" in text


# The command


SERVE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background inherit it ignored
from detector.cli import main
main()
"""


def serve(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SERVE, "serve", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
def test_serve_says_where_and_stops_at_ctrl_c(sample_index: Path, picture: bytes) -> None:
    process = serve("--index", str(sample_index), "--port", "0")
    assert process.stdout is not None
    line = process.stdout.readline()
    address = line.split()[-1]
    try:
        answer = httpx.post(f"{address}v1/check", files=picture_parts(picture), timeout=60)
        assert answer.json()["results"][0]["level"] == 3
        taken = address.rstrip("/").rsplit(":", 1)[1]
        second = serve("--index", str(sample_index), "--port", taken)
        _, complaint = second.communicate(timeout=60)
        assert second.returncode == 2
        assert f"port {taken}" in complaint
        assert "--port" in complaint
        assert len(complaint.strip().splitlines()) == 1
        children = psutil.Process(process.pid).children()
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "Stop with Ctrl-C" in said
    assert "POST /v1/check 200" in said
    assert said.rstrip().endswith("Stopped.")
    assert children
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--host", "0.0.0.0"], "--token-file"),
        (["--token-file", "missing.txt"], "cannot be read"),
        (["--scans", "missing.jsonl"], "does not exist"),
        (["--host", "203.0.113.7", "--token-file", "TOKEN"], "cannot listen"),
    ],
)
def test_serve_refuses_with_the_next_step(
    sample_index: Path, tmp_path: Path, options: list[str], says: str
) -> None:
    from typer.testing import CliRunner

    from detector.cli import app

    (tmp_path / "token.txt").write_text(TOKEN + "\n")
    words = [str(tmp_path / "token.txt") if word == "TOKEN" else word for word in options]
    result = CliRunner().invoke(app, ["serve", "--index", str(sample_index), *words])
    assert result.exit_code == 2
    assert says in result.stderr
    assert TOKEN not in result.output


def test_findings_that_cannot_be_read_stop_the_start(sample_index: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from detector.cli import app

    (tmp_path / "findings.jsonl").write_text("no findings\n")
    words = ["--scans", str(tmp_path / "findings.jsonl"), "--port", "0"]
    result = CliRunner().invoke(app, ["serve", "--index", str(sample_index), *words])
    assert result.exit_code == 2
    assert "findings.jsonl" in result.stderr
