"""The server's pages without a browser: what they say, what they refuse, what they keep and for how long."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra: pip install 'replication-detector[server]'")

from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from detector import Detector, Evidence, ImageReport, Match, Occurrence, Reference, Verdict, build_index
from detector.artists.report import FoundWork, IndexFacts, LookupReport
from detector.reports.jsonl import JsonlWriter
from detector.server.app import create_app
from detector.server.engine import CheckedPicture
from detector.server.options import ServerOptions
from detector.server.overlays import alignment, overlay
from detector.server.rendering import STATIC, TEMPLATES, environment
from detector.server.results import BYTES_OF_WORK, Results
from detector.server.scans import ROWS_OF_PAGE, Choice, ScanTable, key_of
from index.requests import requests

HOME = "http://127.0.0.1"
PAGE = {"Accept": "text/html,application/xhtml+xml"}
TOKEN = "kUKz6m2XrTq0-not-a-secret"

RTL = "\u202e"
HOSTILE = {
    "artist": "<script>alert(1)</script>",
    "title": f"\"><img src=x onerror=alert(2)> '{RTL}gpj.exe",
    "licence": "javascript:alert(3)",
    "source": "javascript:alert(4)//<u>",
    "caption": "</bdi></main>{{ 7191 * 7 }}",
}


def opened(index: Path, **chosen: object) -> TestClient:
    app = create_app(ServerOptions(index=index, rate_per_minute=0, **chosen))  # type: ignore[arg-type]
    return TestClient(app, base_url=HOME, headers=PAGE)


@pytest.fixture(scope="module")
def client(sample_index: Path, sample_findings: Path) -> Iterator[TestClient]:
    with opened(sample_index, findings=(sample_findings,)) as made:
        yield made


@pytest.fixture
def fish(edited: Path) -> bytes:
    """A part of “The Striped Fish” by Atelier Clair on another ground."""
    return (edited / "0024.png").read_bytes()


def asked(client: TestClient, *pictures: tuple[str, bytes], **fields: str) -> str:
    """Look something up; return the address of the answer."""
    files = [("pictures", one) for one in pictures]
    answer = client.post("/results", data=fields, files=files or None, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    where = answer.headers["location"]
    assert re.fullmatch(r"/results/[\w-]{22}", where)
    return where


def words(html: str) -> str:
    """The text of a page, without its markup."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


# The answer


def test_a_name_is_answered_in_words_with_a_card_for_each_work(client: TestClient) -> None:
    page = client.get(asked(client, name="abara, lien", licence="CC-BY-NC-4.0"))
    said = words(page.text)
    assert "3 works are in this training set; 1 generated picture replicates 1 of them." in said
    assert "taken to mean “Lien Abara”" in said
    for title in ("Cold Lake", "Pools", "Loose Bouquet"):
        assert title in said
    assert said.count("Differs from the licence you state") == 2  # of the third no licence is recorded
    assert page.headers["cache-control"] == "no-store"


def test_pictures_are_answered_one_by_one_and_none_is_dropped(
    client: TestClient, fish: bytes, edited: Path
) -> None:
    flat = (edited / "0029.jpg").read_bytes()
    where = asked(client, ("fish.png", fish), ("flat.jpg", flat), ("notes.txt", b"no picture"))
    said = words(client.get(where).text)
    assert "1 work is in this training set" in said
    assert "partial copy" in said
    assert "flat.jpg shows too little detail" in said
    assert "notes.txt is not a picture in a format that can be read" in said


def test_a_work_shows_both_pictures_with_regions_and_what_lays_one_over_the_other(
    client: TestClient, fish: bytes
) -> None:
    where = asked(client, ("fish.png", fish))
    page = client.get(f"{where}/works/1")
    assert page.text.count("<svg viewBox") == 2
    assert 'data-matrix="' in page.text
    assert "Partial copy of The Striped Fish by Atelier Clair" in words(page.text)
    assert "matching points agree on one transformation" in page.text
    for address in re.findall(r'<img src="([^"]+)"', page.text):
        assert client.get(address).headers["content-type"] == "image/webp"


def test_generated_replicas_are_shown_by_a_key_and_never_by_path(client: TestClient) -> None:
    where = asked(client, name="Lien Abara")
    page = client.get(f"{where}/works/1")
    (key,) = set(re.findall(r'src="/scans/([0-9a-f]{20})/picture"', page.text))
    assert client.get(f"/scans/{key}/picture").headers["content-type"] == "image/webp"
    assert "Near copy of Cold Lake" in words(client.get(f"/scans/{key}").text)


def test_a_picture_that_changed_since_the_scan_is_not_shown(sample_index: Path, tmp_path: Path) -> None:
    picture = tmp_path / "0033.png"
    shutil.copy("samples/generated/0033.png", picture)
    findings = tmp_path / "findings.jsonl"
    with Detector.open(sample_index) as detector, JsonlWriter(findings) as writer:
        writer.write(detector.check(picture))
    shutil.copy("samples/generated/0012.png", picture)
    with opened(sample_index, findings=(findings,)) as client:
        (key,) = re.findall(r'href="/scans/([0-9a-f]{20})"', client.get("/scans").text)
        assert client.get(f"/scans/{key}/picture").status_code == 404
        assert "not the one that was scanned" in client.get(f"/scans/{key}").text


def test_a_name_that_nobody_has_is_answered_with_names_that_are_like_it(client: TestClient) -> None:
    page = client.get(asked(client, name="Abarra Liem"))
    assert "Did you mean" in page.text
    assert 'name="name" value="Lien Abara"' in page.text


def test_an_empty_question_is_asked_again_with_what_was_typed(client: TestClient) -> None:
    answer = client.post("/results", data={"name": " ", "licence": "CC-BY-4.0"})
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text
    assert 'value="CC-BY-4.0"' in answer.text


def test_the_bundle_is_whole_and_holds_the_pictures(client: TestClient, fish: bytes) -> None:
    answer = client.get(asked(client, ("fish.png", fish)) + "/evidence.zip")
    assert answer.headers["content-disposition"] == 'attachment; filename="evidence.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as bundle:
        names = bundle.namelist()
    assert {"SHA256SUMS", "report.json"} <= set(names)
    assert any("yours" in name for name in names)


def test_an_answer_that_is_gone_says_so_with_the_way_back(client: TestClient) -> None:
    for where in (
        "/results/nope",
        "/results/nope/works/1",
        "/results/nope/removal",
        "/results/nope/evidence.zip",
    ):
        page = client.get(where)
        assert page.status_code == 404
        assert "This answer is gone" in page.text
        assert 'href="/"' in page.text


def test_what_was_recorded_by_somebody_hostile_is_shown_and_does_nothing(
    tmp_path: Path, artworks: Path
) -> None:
    folder = tmp_path / "works"
    folder.mkdir()
    shutil.copy(artworks / "stained-glass-3.webp", folder / "a.webp")
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, ["file_name", *HOSTILE])
        table.writeheader()
        table.writerow({"file_name": "a.webp", **HOSTILE})
    build_index(folder, tmp_path / "own.index", descriptors=["pdq", "keypoints"])
    findings = tmp_path / "findings.jsonl"
    with Detector.open(tmp_path / "own.index") as detector, JsonlWriter(findings) as writer:
        found = detector.check(artworks / "stained-glass-3.webp")
        writer.write(replace(found, query=f"<script>alert(5)</script>{RTL}gnp.png", sha256=""))
    with opened(tmp_path / "own.index", findings=(findings,)) as client:
        name = (HOSTILE["title"], (artworks / "stained-glass-3.webp").read_bytes())
        where = asked(client, name, name=HOSTILE["artist"], licence=HOSTILE["licence"])
        (key,) = re.findall(r'href="/scans/([0-9a-f]{20})"', client.get("/scans").text)
        pages = (where, f"{where}/works/1", f"{where}/removal", "/scans", f"/scans/{key}", f"/?name={RTL}<u>")
        for address in pages:
            html = client.get(address).text
            assert RTL not in html
            assert not re.search(r"<(script>|img src=x|u>)", html), address
            assert not re.search(r'(href|src)="javascript:', html)
            assert "50337" not in html
        assert "\\u202egpj.exe" in client.get(f"{where}/works/1").text


# Requests for removal


def test_a_request_is_filed_and_shown_to_whoever_has_its_number(own_index: Path) -> None:
    with opened(own_index) as client:
        where = asked(client, name="Lien Abara")
        form = {
            "work": ["1", "3"],
            "name": "Lien",
            "contact": "lien@example.org",
            "statement": "Mine.\nAll of it.",
        }
        answer = client.post(f"{where}/removal", data=form, follow_redirects=False)
        assert answer.status_code == 303
        page = client.get(answer.headers["location"])
        (filed,) = requests(own_index)
        assert f"/requests/{filed.id}" in answer.headers["location"]
        assert len(filed.sha256s) == 2
        assert (filed.name, filed.contact) == ("Lien", "lien@example.org")
        assert filed.statement.splitlines() == ["Mine.", "All of it."]
        assert "Your request is filed" in page.text
        assert "2 works" in page.text
        assert "lien@example.org" not in page.text
        assert "Mine." not in page.text
        assert (
            client.get("/requests", params={"id": f" {filed.id.upper()} "}).url.path
            == f"/requests/{filed.id}"
        )
        assert client.get(f"/requests/{filed.id[:8]}").status_code == 404


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"name": "Lien", "statement": "</textarea><b>"}, "No work is ticked"),
        ({"name": " ", "work": "1"}, "Say who asks"),
        ({"name": "x" * 300, "work": "1"}, "limit is 200"),
        ({"name": "Lien", "work": "9999"}, "No work is ticked"),
    ],
)
def test_a_request_that_misses_something_is_asked_again(
    client: TestClient, sample_index: Path, form: dict[str, str], said: str
) -> None:
    answer = client.post(asked(client, name="Lien Abara") + "/removal", data=form)
    assert answer.status_code == 422
    assert said in words(answer.text)
    assert "<b>" not in answer.text.partition("<textarea")[2].partition("</textarea>")[0]
    assert requests(sample_index) == []


def test_a_server_that_takes_no_requests_offers_none(sample_index: Path) -> None:
    with opened(sample_index, allow_requests=False) as client:
        where = asked(client, name="Lien Abara")
        assert "removal" not in client.get(where).text
        assert "No requests are taken here" in client.get(f"{where}/removal").text


# Scans


def test_scans_are_filtered_sorted_and_found_again(client: TestClient) -> None:
    everything = words(client.get("/scans").text)
    assert "6 generated pictures were checked" in everything
    assert "1 No match" in everything
    assert "0012.png" not in client.get("/scans", params={"kind": "replica"}).text
    found = client.get("/scans", params={"q": "ABARA cold"}).text
    assert "0033.png" in found
    assert "0001.png" not in found
    assert "Nothing fits these filters" in client.get("/scans", params={"q": "nobody"}).text
    by_name = re.findall(r"<bdi>(\d{4}\.png)</bdi></a>", client.get("/scans", params={"sort": "name"}).text)
    assert by_name == sorted(by_name)
    assert len(by_name) == 6


def test_scans_answer_to_filters_that_mean_nothing(client: TestClient) -> None:
    for odd in (
        {"kind": "x"},
        {"level": "٣"},
        {"file": "9" * 40},
        {"sort": "; DROP"},
        {"number": "-3"},
        {"q": " \0%_'"},
    ):
        page = client.get("/scans", params=odd)
        assert page.status_code == 200
        assert "6 generated pictures were checked" in page.text
    assert client.get("/scans/00000000000000000000").status_code == 404


def reports(count: int) -> Iterator[ImageReport]:
    for number in range(count):
        work = Occurrence(path=f"works/{number}.jpg", artist=f"Änne-{number % 7}", title=f"Work {number}")
        match = Match(
            5 - number % 4, 1 - number / 1000, Evidence(), Reference(number, f"{number:064x}", 8, 8, (work,))
        )
        name = f"out/{number}.png"
        if number % 5:
            yield ImageReport(name, Verdict.NO_MATCH, sha256=f"{number:064x}")
        else:
            verdict = Verdict.REPLICA if match.level > 2 else Verdict.POSSIBLE
            yield ImageReport(
                name, verdict, match.level, match.score, matches=(match,), sha256=f"{number:064x}"
            )


def test_rows_are_those_that_brute_force_finds_in_its_order(tmp_path: Path) -> None:
    file = tmp_path / "findings.jsonl"
    made = list(reports(400))
    with JsonlWriter(file) as writer:
        for report in made:
            writer.write(report)
    with file.open("ab") as stream:
        stream.write(b"{garbled}\n")
        stream.write(file.read_bytes().splitlines(keepends=True)[0])  # a finding for the second time
    table = ScanTable([file.as_posix()])
    assert len(table) == 401

    wanted = [r for r in made + made[:1] if r.level == 4 and "Änne-5" in _names(r)]
    first = table.select(Choice(level=4, text="ÄNNE-5"))
    assert first.total == len(wanted) > 0

    rows = [
        row
        for page in range(1, 99)
        if (found := table.select(Choice(page=page))).page == page
        for row in found.rows
    ]
    assert len(rows) == 401
    assert len({row.key for row in rows}) == 401
    assert [row.level for row in rows] == sorted((row.level for row in rows), reverse=True)
    assert [row.score for row in rows[:10]] == sorted((row.score for row in rows[:10]), reverse=True)
    assert len(table.select(Choice()).rows) == ROWS_OF_PAGE
    assert [r.query for r in table.select(Choice(sort="name")).rows[:4]] == [
        "out/0.png",
        "out/0.png",
        "out/1.png",
        "out/2.png",
    ]
    for row in rows[:20]:
        report = table.report(row)
        assert report is not None
        assert report.query == row.query
    table.close()


def _names(report: ImageReport) -> list[str]:
    return [place.artist for match in report.matches for place in match.reference.occurrences]


def test_a_finding_whose_file_changed_is_not_taken_for_another(tmp_path: Path) -> None:
    file = tmp_path / "findings.jsonl"
    with JsonlWriter(file) as writer:
        for report in reports(2):
            writer.write(report)
    table = ScanTable([str(file)])
    row = table.row(key_of(str(file), "out/1.png", f"{1:064x}"))
    assert row is not None
    file.write_bytes(b"12345" + file.read_bytes())
    assert table.report(row) is None
    file.unlink()
    assert table.report(row) is None
    table.close()


# What is kept


def kept_report(name: str = "", works: int = 0) -> LookupReport:
    found = tuple(FoundWork(Reference(n, f"{n:064x}", 1, 1, ())) for n in range(works))
    return LookupReport(name=name, index=IndexFacts("art.index", "", 1, 1), works=found)


def test_answers_are_kept_within_their_time_and_bytes() -> None:
    now = [0.0]
    results = Results(max_bytes=10 * BYTES_OF_WORK, max_age_s=100, clock=lambda: now[0])
    first, second = results.keep(kept_report()), results.keep(kept_report())
    now[0] = 60
    assert results.get(first.id) is first  # looked at: it is kept for as long again
    now[0] = 140
    assert results.get(second.id) is None
    assert results.get(first.id) is first
    third = results.keep(kept_report(works=9))
    assert results.get(first.id) is None
    assert results.get(third.id) is third
    huge = results.keep(kept_report(works=1000))
    assert results.get(huge.id) is huge  # the newest one is always there
    assert len(results) == 1


def test_previews_are_found_by_the_uploads_name() -> None:
    checked = [
        CheckedPicture(ImageReport(name, Verdict.NO_MATCH), data) for name, data in (("a", b""), ("b", b"2"))
    ]
    result = Results().keep(kept_report(), checked)
    assert (result.number_of("a"), result.number_of("b"), result.number_of("c")) == (0, 2, 0)
    assert (result.preview(1), result.preview(2), result.preview(3), result.preview(0)) == (
        b"",
        b"2",
        b"",
        b"",
    )


# Regions laid over each other

corner = st.floats(-0.06, 0.06)


@given(st.tuples(*[corner] * 8), st.floats(0.2, 3), st.booleans())
def test_regions_coincide_after_the_alignment(bends: tuple[float, ...], scale: float, mirrored: bool) -> None:
    square = np.array([[0.1, 0.1], [0.5, 0.08], [0.9, 0.1], [0.92, 0.5], [0.9, 0.9], [0.5, 0.93], [0.1, 0.9]])
    shift = np.array(bends).reshape(4, 2)
    matrix = np.array([[scale, shift[0, 0], shift[1, 0]], [shift[0, 1], scale, shift[1, 1]], [*shift[2], 1]])
    if mirrored:
        matrix = matrix @ np.array([[-1, 0, 1], [0, 1, 0], [0, 0, 1]])
    ends = np.hstack([square, np.ones((7, 1))]) @ matrix.T
    query = ends[:, :2] / ends[:, 2:]
    match = _match(query, square)
    found = alignment(match)
    assert found is not None
    back = np.hstack([square, np.ones((7, 1))]) @ np.array(found).reshape(3, 3).T
    assert np.abs(back[:, :2] / back[:, 2:] - query).max() < 0.012 * max(scale, 1)


def _match(query: np.ndarray, reference: np.ndarray) -> Match:
    regions = (tuple((float(x), float(y)) for x, y in region) for region in (query, reference))
    here, there = regions
    return Match(4, 1.0, Evidence(), Reference(1, "", 1, 1, ()), query_region=here, reference_region=there)


@pytest.mark.parametrize(
    ("query", "reference"),
    [
        ([], []),
        ([[0, 0], [1, 1]], [[0, 0], [1, 1]]),
        ([[0, 0], [0.5, 0.5], [1, 1]], [[0, 0], [0.5, 0.5], [1, 1]]),  # a line
        ([[0, 0], [1, 0], [1, 1], [0, 1]], [[0, 0], [1, 1], [1, 0], [0, 1]]),  # another order of corners
        ([[0, 0], [1, 0], [1, 1]], [[0, 0], [1, 0], [1, float("nan")]]),
        ([[0, 0], [1e-4, 0], [1e-4, 1e-4]], [[0, 0], [1, 0], [1, 1]]),  # nothing to be seen
        ([[0, 0], [1, 0], [1, 1]], [[0, 0], [1, 0]]),
    ],
)
def test_regions_that_fit_nothing_lay_nothing_over_anything(
    query: list[list[float]], reference: list[list[float]]
) -> None:
    assert alignment(_match(np.array(query).reshape(-1, 2), np.array(reference).reshape(-1, 2))) is None


def test_overlays_stay_near_their_picture() -> None:
    drawn = overlay([(-50.0, 0.0), (1.0, 0.0), (1.0, 99.0)], 200, 100)
    assert drawn is not None
    assert drawn.view == "0 0 1000 500.0"
    assert max(abs(float(n)) for n in re.findall(r"-?[\d.]+", drawn.outline)) <= 2000
    assert overlay([(0.0, 0.0), (1.0, float("nan")), (1.0, 1.0)], 10, 10) is None
    assert overlay([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)], 0, 10) is None


# Who may see it


def test_without_the_token_only_the_login_is_shown(sample_index: Path) -> None:
    with opened(sample_index, token=TOKEN) as client:
        answer = client.get("/scans?q=a", follow_redirects=False)
        assert answer.headers["location"] == "/login?next=/scans%3Fq%3Da"
        assert client.get("/").url.path == "/login"
        for name in ("look.css", "page.css"):
            answered = client.get(f"/static/{name}")
            assert answered.status_code == 200
            assert answered.headers["content-type"].startswith("text/css")
        wrong = client.post("/login", data={"token": "guess", "next": "/scans"})
        assert wrong.status_code == 401
        assert 'role="alert"' in wrong.text
        entered = client.post(
            "/login", data={"token": f" {TOKEN} ", "next": "//evil.example/"}, follow_redirects=False
        )
        assert entered.headers["location"] == "/"
        assert "Sign out" in client.get("/").text
        client.post("/logout")
        assert client.get("/").url.path == "/login"


def test_refusals_are_pages_for_people_and_json_for_programs(client: TestClient) -> None:
    page = client.get("/nothing")
    assert page.status_code == 404
    assert 'href="/"' in page.text
    foreign = client.post("/results", data={"name": "x"}, headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 403
    assert "Sent from another site" in foreign.text
    program = client.get("/nothing", headers={"Accept": "application/json"})
    assert program.json()["error"]["code"] == "not_found"
    many = [("pictures", (f"{n}.png", b"x")) for n in range(17)]
    assert "Too much at once" in client.post("/results", files=many).text


# The files


def test_pages_hold_nothing_that_the_policy_forbids_and_load_nothing_from_elsewhere() -> None:
    for path in sorted(TEMPLATES.glob("*.html")):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\bstyle=|<style|\son[a-z]+=|javascript:", text), path.name
        assert not re.search(r"<script(?! src=\"\{\{ script \}\}\" defer>)", text), path.name
        assert not re.search(r"(src|href|action)=\"(https?:)?//", text), path.name
        assert "|safe" not in text, path.name
        environment().get_template(path.name)
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|url\(", text), path.name


def test_styles_and_script_are_small() -> None:
    assert len((STATIC / "page.css").read_bytes()) < 20_000
    assert len((STATIC / "page.js").read_bytes()) < 12_000


def test_findings_of_other_formats_are_left_out_and_counted(sample_index: Path, tmp_path: Path) -> None:
    file = tmp_path / "findings.jsonl"
    with JsonlWriter(file) as writer:
        for report in reports(3):
            writer.write(report)
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"format_version": 99, "query": "x", "verdict": "replica"}) + "\n")
    with opened(sample_index, findings=(file,)) as client:
        said = words(client.get("/scans").text)
    assert "3 generated pictures were checked" in said
    assert "1 line could not be read" in said
