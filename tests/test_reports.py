"""Findings written for people and programs, and read back."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from detector.generation import Generation
from detector.report import (
    Evidence,
    ImageReport,
    Match,
    Occurrence,
    Reference,
    ScanSummary,
    Verdict,
)
from detector.reports import page, wording
from detector.reports.jsonl import JsonlWriter, findings_line, read_findings
from detector.reports.markup import element, link
from detector.reports.page import write_html
from detector.reports.spreadsheet import COLUMNS, guarded, write_csv
from detector.reports.terminal import findings_table, summary_text
from index.errors import SourceError, UsageError

FULL = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))

HOSTILE = [
    "<script>alert(1)</script>",
    "</style></script><img src=x onerror=alert(1)>",
    "\"' onmouseover='alert(1)' x=\"",
    "gnp\u202eexe.png",
    "line\nbreak\ttab\r",
    "undecodable-\udcff\udc80.png",
    "<!--slot:script--><!-- ]]> &lt;",
    "=cmd|' /C calc'!A1",
    "[bold red]rich[/] \x1b[31mred\x07",
    "nul\0byte",
]


def reference(number: int = 1, **fields: str) -> Reference:
    place = {"path": f"artworks/{number}.jpg", "artist": "Ada Brush", "title": f"Work {number}"} | fields
    place.setdefault("licence", "CC-BY-4.0")
    place.setdefault("source", "https://example.org/work")
    return Reference(number, "", 640, 480, (Occurrence(**place),))  # type: ignore[arg-type]


def match(level: int = 4, score: float = 0.98, **fields: object) -> Match:
    evidence = Evidence(
        pdq_distance=18,
        cosines={"clip:bundled": 0.93},
        inliers=210,
        coverage=0.97,
        reference_coverage=0.88,
        verification="keypoints",
    )
    values: dict[str, object] = {
        "evidence": evidence,
        "reference": reference(),
        "query_region": FULL,
        "reference_region": ((0.1, 0.0), (1.0, 0.0), (1.0, 1.0), (0.1, 1.0)),
    }
    return Match(level, score, **(values | fields))  # type: ignore[arg-type]


def report(name: str = "generated/001.png", *matches: Match, reason: str | None = None) -> ImageReport:
    level = max((m.level for m in matches if not m.cleared), default=0)
    verdict = Verdict.REPLICA if level >= 3 else Verdict.POSSIBLE if level == 2 else Verdict.NO_MATCH
    return ImageReport(name, verdict, level, max((m.score for m in matches), default=0.0), reason, matches)


def generated(prompt: str = "a cat", seed: int = 7, **fields: object) -> Generation:
    values: dict[str, object] = {"tool": "ComfyUI", "model": "tiny", "sampler": "DDIM", "steps": 30}
    return Generation(prompt=prompt, seed=seed, guidance=5.0, **(values | fields))  # type: ignore[arg-type]


def attempt(source: str = "1.jpg", **fields: object) -> Generation:
    """A picture that was made from another one."""
    return generated(strength=0.4, source=source, **fields)


def unreadable(name: str, reason: str = "truncated") -> ImageReport:
    return ImageReport(name, Verdict.UNREADABLE, reason=reason)


def picture(path: Path, size: tuple[int, int] = (600, 400)) -> str:
    Image.linear_gradient("L").resize(size).convert("RGB").save(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def encoded(colour: str = "teal", size: tuple[int, int] = (320, 200)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "WEBP")
    return buffer.getvalue()


def written(tmp_path: Path, *reports: ImageReport, thumbnail: object = None, **options: object) -> str:
    out = tmp_path / "page.html"
    summary = options.pop("summary", ScanSummary(queries=len(reports)))
    get = thumbnail or (lambda number: None)
    write_html(iter(reports), out, summary=summary, thumbnail=get, **options)  # type: ignore[arg-type]
    return out.read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Every tag with its attributes, and the text outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._inside = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


# ---------------------------------------------------------------- JSONL


def every_kind() -> list[ImageReport]:
    return [
        report("a.png", match(), match(2, 0.4)),
        report("b.png", reason="too_little_detail"),
        unreadable("c.png"),
        replace(report("d.png"), generation=attempt("x/\u202e.png", extra={"Size": "8x8"})),
        *(
            report(name, match(reference=reference(2, title=name, artist=name, source=name)))
            for name in HOSTILE
        ),
    ]


def test_findings_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    with JsonlWriter(path) as writer:
        for one in every_kind():
            writer.write(one)
    assert list(read_findings(path)) == every_kind()


def test_a_line_is_valid_utf8_in_a_fixed_key_order_and_not_escaped_needlessly() -> None:
    line = findings_line(report("Gemälde-\udcff.png", match()))
    assert "Gemälde-\\udcff.png" in line.decode("utf-8")
    assert line.startswith(b'{"format_version":1,"query":')
    assert line.count(b"\n") == 1
    assert line == findings_line(report("Gemälde-\udcff.png", match()))


def test_measurements_that_are_no_numbers_become_null_and_such_a_score_is_refused() -> None:
    odd = match(
        evidence=Evidence(aligned_similarity=float("nan"), cosines={"x": float("inf")}), p_value=float("nan")
    )
    line = findings_line(report("a.png", odd))
    assert b"NaN" not in line
    assert b"Infinity" not in line
    back = ImageReport.from_dict(json.loads(line)).matches[0]
    assert back.evidence.aligned_similarity is None
    assert back.p_value is None
    with pytest.raises(ValueError, match=r"a\.png"):
        findings_line(report("a.png", match(score=float("nan"))))
    line = findings_line(replace(report("a.png"), generation=Generation(guidance=float("inf"), seed=1)))
    assert ImageReport.from_dict(json.loads(line)).generation == Generation(seed=1)


@pytest.mark.parametrize("keep", [1, 20, -2, -1])
def test_resume_goes_on_after_a_line_cut_off_anywhere(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "f.jsonl"
    whole = findings_line(report("a.png", match()))
    torn = findings_line(report("ü.png", match()))[:keep]
    path.write_bytes(whole + torn)
    with JsonlWriter(path, resume=True) as writer:
        complete = keep == -1  # only the newline is missing
        assert writer.done == ({"a.png", "ü.png"} if complete else {"a.png"})
        assert writer.torn is not complete
        writer.write(report("c.png"))
    names = [r.query for r in read_findings(path)]
    assert names == (["a.png", "ü.png", "c.png"] if complete else ["a.png", "c.png"])


def test_resume_without_a_file_starts_one_and_without_resume_the_file_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    with JsonlWriter(path, resume=True) as writer:
        assert writer.done == set()
        writer.write(report("a.png"))
    with JsonlWriter(path) as writer:
        writer.write(report("b.png"))
    assert [r.query for r in read_findings(path)] == ["b.png"]


def test_every_line_is_in_the_file_before_the_next_is_written(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    with JsonlWriter(path) as writer:
        writer.write(report("a.png"))
        assert [r.query for r in read_findings(path)] == ["a.png"]


def test_a_torn_last_line_is_reported_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(findings_line(report("a.png")) + findings_line(report("b.png"))[:30])
    seen: list[int] = []
    assert [r.query for r in read_findings(path, on_torn=seen.append)] == ["a.png"]
    assert seen == [2]
    with caplog.at_level(logging.WARNING, logger="detector"):
        assert len(list(read_findings(path))) == 1
    assert "line 2 is cut off" in caplog.text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"garbage\n", "line 2 is not JSON"),
        (b"\xff\xfe\n", "line 2 is not JSON"),
        (b"[1]\n", "line 2 is JSON, but no finding"),
        (b'{"query":"a"}\n', "line 2 has format_version None"),
        (b'{"format_version":2}\n', r"line 2 has format_version 2.*pip install -U"),
        (b'{"format_version":1,"query":"a"}\n', "line 2 is no finding"),
        (b'{"format_version":1,"query":"a","verdict":"guilty"}', "line 2 is no finding"),
        (b'{"format_version":1,"query":"a","verdict":"no_match","score":NaN}\n', "line 2 is not JSON"),
        (b"[" * 100_000 + b"\n", "line 2"),
    ],
)
def test_garbage_names_file_line_and_way_out(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(findings_line(report("a.png")) + content)
    with pytest.raises(SourceError, match=says) as caught:
        list(read_findings(path))
    assert str(path) in str(caught.value)
    with pytest.raises(SourceError), JsonlWriter(path, resume=True):
        pass
    assert path.read_bytes().endswith(content)  # resuming over another file leaves it as it is


def test_evidence_of_another_type_is_garbage(tmp_path: Path) -> None:
    values = report("a.png", match()).to_dict()
    values["matches"][0]["evidence"]["coverage"] = "<script>"
    (tmp_path / "f.jsonl").write_text(json.dumps(values) + "\n", encoding="utf-8")
    with pytest.raises(SourceError, match="coverage is '<script>', not a number"):
        list(read_findings(tmp_path / "f.jsonl"))


def test_some_other_file_without_a_line_end_is_no_interrupted_scan(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"my notes")
    with pytest.raises(SourceError, match="line 1 is not JSON"), JsonlWriter(path, resume=True):
        pass
    assert path.read_bytes() == b"my notes"


def test_a_missing_findings_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="detector scan"):
        list(read_findings(tmp_path / "none.jsonl"))


def test_findings_without_a_folder_to_go_to_are_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"), JsonlWriter(tmp_path / "no" / "f.jsonl"):
        pass
    with pytest.raises(UsageError, match="cannot be written"):
        write_csv([], tmp_path / "no" / "f.csv")
    with pytest.raises(UsageError, match="is a folder"):
        write_csv([], tmp_path)


# ---------------------------------------------------------------- CSV


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_csv_holds_a_row_a_match_and_one_for_a_query_without(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    two = report("a.png", match(), match(2, 0.4, cleared=True))
    assert write_csv([two, report("b.png", reason="too_little_detail"), unreadable("c.png")], path) == 4
    rows = rows_of(path)
    assert tuple(rows[0]) == COLUMNS
    assert [(r["query"], r["rank"], r["match_level"]) for r in rows] == [
        ("a.png", "1", "4"),
        ("a.png", "2", "2"),
        ("b.png", "", ""),
        ("c.png", "", ""),
    ]
    assert rows[0]["match_level_words"] == "near copy"
    assert (rows[0]["coverage"], rows[0]["phash_distance"], rows[1]["cleared"]) == ("0.97", "", "yes")
    assert rows[3]["reason"] == "the file breaks off in the middle"
    assert path.read_bytes().startswith(b"\xef\xbb\xbfquery,")


def test_csv_says_how_each_picture_was_generated(tmp_path: Path) -> None:
    made = attempt(prompt="=1+1")
    reports = [
        replace(report("a.png", match(), match(2, 0.4)), generation=made),
        replace(report("b.png"), generation=generated(seed=2**63)),
        report("c.png"),
    ]
    assert write_csv(reports, tmp_path / "f.csv") == 4
    rows = rows_of(tmp_path / "f.csv")
    names = (
        "generator",
        "prompt",
        "model",
        "seed",
        "sampler",
        "steps",
        "guidance",
        "strength",
        "source_picture",
    )
    assert COLUMNS[-len(names) :] == names
    first = ["ComfyUI", "'=1+1", "tiny", "7", "DDIM", "30", "5.0", "0.4", "1.jpg"]
    assert [[row[name] for name in names] for row in rows[:2]] == [first, first]
    assert (rows[2]["seed"], rows[2]["strength"], rows[2]["rank"]) == (str(2**63), "", "")
    assert not any(rows[3][name] for name in names)


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        " \t=1",
        "\u200b=1",
        "\uff1d1",
        "\ttab",
        "\r=1",
        "\n",
        "a;=1+1;b",
        "a\n=1",
    ],
)
def test_no_text_starts_a_formula(text: str) -> None:
    cells = re.split("[;\t\r\n]", guarded(text))
    assert not any(re.match(r"[\s\u200b]*[=+\-@\uff1d]", cell) for cell in cells)
    assert guarded(text)[0] not in "\t\r\n"


def test_harmless_text_and_numbers_stay_as_they_are(tmp_path: Path) -> None:
    for text in ("Mona Lisa", "a-b", "1 + 1", "https://example.org/?a=b&c=-1", "", "O'Keeffe"):
        assert guarded(text) == text
    negative = match(evidence=Evidence(aligned_similarity=-0.25))
    write_csv([report("a.png", negative)], tmp_path / "f.csv")
    assert rows_of(tmp_path / "f.csv")[0]["aligned_similarity"] == "-0.25"


def test_hostile_names_survive_csv_as_one_guarded_cell_each(tmp_path: Path) -> None:
    reports = [report(name, match(reference=reference(1, artist=name))) for name in HOSTILE]
    assert write_csv(reports, tmp_path / "f.csv") == len(HOSTILE)
    rows = rows_of(tmp_path / "f.csv")
    assert len(rows) == len(HOSTILE)
    assert all(row["template"] == "no" for row in rows)
    assert rows[HOSTILE.index("=cmd|' /C calc'!A1")]["artist"].startswith("'=")


# ---------------------------------------------------------------- page


def test_page_shows_a_finding_with_both_pictures_and_its_facts(tmp_path: Path) -> None:
    digest = picture(tmp_path / "q.png")
    found = ImageReport(
        str(tmp_path / "q.png"), Verdict.REPLICA, 4, 0.98, None, (match(near_duplicates=3),), digest
    )
    summary = ScanSummary(queries=44, replica=3, no_match=41)
    html = written(tmp_path, found, thumbnail=lambda n: encoded(), summary=summary, index_name="art.index")
    outline = Outline(html)
    for words in (
        "3 of 44 generated pictures replicate a training image in this index.",
        "Near copy of",
        "Ada Brush",
        "CC-BY-4.0",
        "210 matching points agree on one transformation; "
        "the shared region covers 97 % of the generated picture and 88 % of the work.",
        "PDQ distance 18 of 256",
        "3 near-duplicates of this work are in the index too.",
        "No match in this index",
        "Not a legal finding",
    ):
        assert words in outline.text
    images = outline.all("img")
    assert len(images) == 2
    for image in images:
        assert str(image["src"]).startswith("data:image/webp;base64,")
        assert image["alt"]
    assert (images[0]["width"], images[0]["height"]) == ("360", "240")
    assert [s["viewbox"] for s in outline.all("svg")] == ["0 0 360 240", "0 0 320 200"]
    assert "M32.0 0.0L320.0 0.0L320.0 200.0L32.0 200.0Z" in html


def test_page_loads_nothing_and_its_policy_names_its_own_script_and_style(tmp_path: Path) -> None:
    html = written(tmp_path, report("a.png", match()))
    outline = Outline(html)
    policy = next(m for m in outline.all("meta") if m.get("http-equiv"))["content"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        content = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert len(content) == 1
        assert f"{rule} 'sha256-{page._digest(content[0])}'" in policy
    assert not [a for _, attributes in outline.tags for a in attributes if a == "style" or a.startswith("on")]
    loaded = [
        a.get("src") or a.get("href") for t, a in outline.tags if t in ("img", "link", "script", "iframe")
    ]
    assert all(address is None or address.startswith("data:") for address in loaded)
    assert "<!--slot" not in html


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_and_metadata_stay_text(tmp_path: Path, name: str) -> None:
    works = Reference(1, "", 1, 1, tuple(Occurrence(name, name, name, name, name, name) for _ in range(2)))
    reports = [
        report(name, match(reference=works), match(2, 0.3, reference=works)),
        report(name, match(2, 0.2, reference=works)),
        report(name, match(1, 0.1, reference=works)),
        ImageReport(name, Verdict.UNREADABLE, reason=name),
    ]
    texts = {"negative_prompt": name, "model": name, "sampler": name, "tool": name, "extra": {"Size": name}}
    made = [attempt(name, prompt=name, **texts), attempt(name, prompt=name), attempt(name, **texts), None]
    reports = [replace(each, generation=how) for each, how in zip(reports, made, strict=True)]
    harmless = [
        report("folder/n", match(), match(2, 0.3)),
        report("n", match(2, 0.2)),
        report("n", match(1, 0.1)),
        unreadable("n"),
    ]
    plainly = [attempt(prompt="p", negative_prompt="n"), attempt(), attempt(model="m"), None]
    harmless = [replace(each, generation=how) for each, how in zip(harmless, plainly, strict=True)]
    options = {"title": name, "index_name": name, "command": name, "max_shown": 1}
    html = written(tmp_path, *reports, **options)
    hostile, plain = (
        Outline(html),
        Outline(written(tmp_path, *harmless, command="c", index_name="i", max_shown=1)),
    )
    assert {t for t, _ in hostile.tags} <= {t for t, _ in plain.tags} | {"ul"}
    assert len(hostile.all("script")) == len(hostile.all("style")) == 1
    assert not hostile.all("img")
    assert {a for _, attributes in hostile.tags for a in attributes} <= {
        a for _, attributes in plain.tags for a in attributes
    }
    shown = re.sub(r"(?s)<(script|style)>.*?</\1>", "", html)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]", shown)


@pytest.mark.parametrize(
    ("url", "linked"),
    [
        ("https://example.org/a?b=c&d", True),
        ("HTTP://example.org", True),
        ("javascript:alert(1)", False),
        (" java\nscript:alert(1)", False),
        ("data:text/html,x", False),
        ("//example.org", False),
        ("https://", False),
        ("http://[broken", False),
        ("https://example.org/a b", False),
        ("https://example.org/\u202egnp", False),
        ("file:///etc/passwd", False),
    ],
)
def test_only_web_addresses_become_links(url: str, linked: bool) -> None:
    links = Outline(link(url)).all("a")
    assert bool(links) is linked
    assert all(a["rel"] == "noopener noreferrer nofollow" and a["href"] == url for a in links)


def test_markup_escapes_everything_that_is_not_markup() -> None:
    made = element("p", "<b>", element("i", "&"), None, title='"x"', hidden=True, lang=None, data_a_b=1)
    assert made == '<p title="&quot;x&quot;" hidden data-a-b="1">&lt;b&gt;<i>&amp;</i></p>'


def test_a_picture_that_is_gone_changed_or_broken_is_named_and_nothing_fails(tmp_path: Path) -> None:
    picture(tmp_path / "changed.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n garbage")
    changed = ImageReport(str(tmp_path / "changed.png"), Verdict.REPLICA, 4, 0.9, None, (match(),), "0" * 64)
    html = written(
        tmp_path,
        changed,
        report(str(tmp_path / "broken.png"), match()),
        report("gone.png", match()),
        report(str(tmp_path), match()),
        thumbnail=lambda n: b"no picture",
    )
    text = Outline(html).text
    assert "No picture to show: the file has changed since the scan" in text
    assert "No picture to show: the file is not there" in text
    assert "No picture to show: is a folder, not a picture" in text
    assert "the index keeps no thumbnail, and the file is not at its place" in text
    assert not Outline(html).all("img")


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes are files on POSIX only")
def test_a_pipe_in_the_place_of_a_query_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert "socket, pipe or device" in written(tmp_path, report(str(tmp_path / "pipe.png"), match()))


def test_reference_without_thumbnail_is_shown_from_its_file(tmp_path: Path) -> None:
    picture(tmp_path / "work.png")
    html = written(tmp_path, report("gone.png", match(reference=reference(path=str(tmp_path / "work.png")))))
    assert [i["alt"] for i in Outline(html).all("img")] == ["Training image: Work 1 by Ada Brush"]


def test_the_highest_findings_get_pictures_and_the_others_a_line(tmp_path: Path) -> None:
    reports = [report(f"{n:02}.png", match(3, n / 100)) for n in range(10)]
    reports += [report("top.png", match(5, 0.5)), report("cleared.png", match(5, 1.0, cleared=True))]
    outline = Outline(written(tmp_path, *reports, max_shown=3))
    assert [c["data-name"] for c in outline.all("li") if c.get("class") == "card"] == [
        "top.png",
        "09.png",
        "08.png",
    ]
    assert "Further findings, without pictures 9" in outline.text
    assert "cleared.png" in outline.text


def test_cleared_findings_are_shown_as_such_and_led_by_what_counts(tmp_path: Path) -> None:
    cleared = report("c.png", match(5, 0.99, cleared=True))
    mixed = report("m.png", match(5, 0.99, cleared=True), match(3, 0.7, reference=reference(2)))
    outline = Outline(written(tmp_path, cleared, mixed))
    cards = [c for c in outline.all("li") if c.get("data-name")]
    assert [(c["data-name"], c["data-kind"], c["data-level"]) for c in cards] == [
        ("m.png", "replica", "3"),
        ("c.png", "cleared", "5"),
    ]
    assert outline.text.count("cleared by your policy") == 2  # the badge, and the other match


def test_unreadable_files_are_listed_with_their_reasons(tmp_path: Path) -> None:
    text = Outline(written(tmp_path, unreadable("a.png", "empty"), unreadable("b.png", "something_new"))).text
    assert "a.png the file is empty" in text
    assert "b.png something new" in text


def test_a_page_of_nothing_is_a_page(tmp_path: Path) -> None:
    text = Outline(written(tmp_path)).text
    assert "No generated pictures were looked at." in text


def test_long_lists_are_cut_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MAX_ROWS", 5)
    outline = Outline(written(tmp_path, *(report(f"{n}.png") for n in range(12))))
    assert "… and 7 more" in outline.text
    assert "No match in this index 12" in outline.text


def test_a_failed_write_leaves_the_old_page_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("old", encoding="utf-8")

    def broken() -> Iterator[ImageReport]:
        yield report("a.png", match())
        raise SourceError("f.jsonl", "line 2 is not JSON")

    with pytest.raises(SourceError):
        write_html(broken(), tmp_path / "page.html", summary=ScanSummary(), thumbnail=lambda n: None)
    with pytest.raises(SourceError):
        write_csv(broken(), tmp_path / "page.html")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "old"


def test_the_same_findings_make_the_same_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    reports = [report(f"{n}.png", match(3, 0.5)) for n in range(30)]
    first = written(tmp_path, *reports, thumbnail=lambda n: encoded())
    assert first == written(tmp_path, *reports, thumbnail=lambda n: encoded())
    assert "Written on 2 January 1970" in first


def test_regions_that_are_no_polygon_are_not_drawn(tmp_path: Path) -> None:
    odd = match(query_region=FULL[:2], reference_region=((float("nan"), 0.0), (1.0, 0.0), (1.0, 1.0)))
    picture(tmp_path / "q.png")
    finding = page.Finding.of(report(str(tmp_path / "q.png"), odd))
    assert finding is not None
    shown = page.shown_file(str(tmp_path / "q.png"), sha256="", max_side=100)
    assert "<svg" not in page.card(finding, shown, shown, number=1, licences={}, models={})


# ---------------------------------------------------------------- how pictures were generated


def cards_of(outline: Outline) -> list[dict[str, str | None]]:
    return [each for each in outline.all("li") if each.get("class") == "card"]


def choices_of(outline: Outline) -> dict[str, list[str]]:
    """The options of each filter, by its name."""
    found: dict[str, list[str]] = {}
    for tag, attributes in outline.tags:
        if tag == "select":
            found[str(attributes["name"])] = []
        elif tag == "option":
            found[list(found)[-1]].append(str(attributes["value"]))
    return found


def test_a_card_says_how_its_picture_was_generated_and_how_to_make_it_again(tmp_path: Path) -> None:
    made = generated("a cat\nin ink <b>", negative_prompt="text", extra={"Size": "512x768"})
    html = written(tmp_path, replace(report("a.png", match()), generation=made))
    outline = Outline(html)
    assert [each.get("class") for each in outline.all("details")][:1] == ["how"]
    assert "open" not in outline.all("details")[0]
    for words in ("How it was generated", "“a cat in ink <b>”, seed 7", "Guidance 5", "Recorded by ComfyUI"):
        assert words in outline.text
    again = re.search(r"<pre>(.*?)</pre>", html, re.DOTALL)
    assert again is not None
    assert again.group(1) == (
        "a cat\nin ink &lt;b&gt;\nNegative prompt: text\n"
        "Steps: 30, Sampler: DDIM, CFG scale: 5, Seed: 7, Size: 512x768, Model: tiny"
    )
    assert "econstruction attempt" not in outline.text
    assert cards_of(outline)[0]["data-way"] == "txt2img"


def test_a_picture_made_from_another_is_shown_as_a_reconstruction_attempt(tmp_path: Path) -> None:
    same = replace(report("a.png", match()), generation=attempt("in/1.JPG"))
    other = replace(report("b.png", match(score=0.5)), generation=attempt("holiday.png"))
    unnamed = replace(report("c.png", match(score=0.4)), generation=generated(strength=1.0))
    outline = Outline(written(tmp_path, same, other, unnamed))
    for words in (
        "reconstruction attempt at strength 0.4 from 1.JPG",
        "The picture that went in has the file name of this training image.",
        "reconstruction attempt at strength 0.4 from holiday.png",
        "What went in, holiday.png, has another file name than this training image: unless it shows the same, the "
        "model brought this in by itself.",
        "A picture went in. At low strength, what goes in comes out again from any model: closeness to it is no "
        "evidence by itself that the model memorised it.",
        "reconstruction attempt at strength 1",
        "Went in holiday.png",
    ):
        assert words in outline.text
    assert {card["data-way"] for card in cards_of(outline)} == {"img2img"}


def test_a_reconstruction_attempt_without_a_strength_is_one_too(tmp_path: Path) -> None:
    found = replace(report("a.png", match()), generation=Generation(source="in/cat.png"))
    assert "reconstruction attempt from cat.png" in Outline(written(tmp_path, found)).text


def test_filters_go_by_what_is_recorded_and_by_that_alone(tmp_path: Path) -> None:
    plain = [report("a.png", match()), report("b.png", match(2, 0.4)), report("c.png")]
    outline = Outline(written(tmp_path, *plain))
    assert set(choices_of(outline)) == {"level", "licence", "sort"}
    assert not [name for each in outline.all("li") for name in each if name in ("data-model", "data-way")]
    assert "prompt" not in "".join(str(each.get("placeholder")) for each in outline.all("input"))

    alike = [replace(each, generation=generated()) for each in plain]
    outline = Outline(written(tmp_path, *alike))
    assert set(choices_of(outline)) == {"level", "licence", "sort"}  # nothing to choose between
    assert "or prompt" in str([each.get("placeholder") for each in outline.all("input")])
    assert "a cat" in str(cards_of(outline)[0]["data-find"])

    mixed = [
        replace(plain[0], generation=generated(model="other")),
        replace(plain[1], generation=attempt()),
        replace(plain[2], generation=generated()),
        report("d.png"),
    ]
    outline = Outline(written(tmp_path, *mixed))
    choices = choices_of(outline)
    assert choices["model"] == ["", "1", "0", "-"]  # the most frequent first; the last is “not recorded”
    assert choices["way"] == ["", "txt2img", "img2img", "-"]
    assert choices["group"] == ["", "model"]
    assert [card["data-model"] for card in cards_of(outline)] == ["0", "1"]
    listed = [each for each in outline.all("li") if each.get("data-find") == "a cat tiny"]
    assert [(each["data-model"], each["data-way"]) for each in listed] == [("1", "txt2img")]


def test_findings_of_the_same_prompt_can_be_grouped(tmp_path: Path) -> None:
    prompts = ["a cat", "a dog", "a cat"]
    reports = [
        replace(report(f"{n}.png", match()), generation=generated(prompt, seed=n))
        for n, prompt in enumerate(prompts)
    ]
    outline = Outline(written(tmp_path, *reports))
    assert choices_of(outline)["group"] == ["", "prompt"]
    keys = [card["data-prompt"] for card in cards_of(outline)]
    assert keys[0] == keys[2] != keys[1]
    assert "group" not in choices_of(Outline(written(tmp_path, *reports[:2])))  # no prompt is shared


def test_findings_beyond_the_cards_say_that_a_picture_went_in(tmp_path: Path) -> None:
    reports = [
        replace(report(f"{n}.png", match(score=0.9 - n / 10)), generation=attempt("cat.png"))
        for n in range(2)
    ]
    text = Outline(written(tmp_path, *reports, max_shown=1)).text
    assert "Work 1 by Ada Brush, reconstruction attempt at strength 0.4 from cat.png" in text


def test_generation_in_one_line() -> None:
    assert wording.generation_in_words(attempt(prompt="a cat\n in ink", steps=1)) == (
        "“a cat in ink”, model tiny, seed 7, 1 step of DDIM, guidance 5 (ComfyUI)"
    )
    assert wording.generation_in_words(Generation(tool="ComfyUI")) == "ComfyUI"
    assert wording.generation_in_words(Generation(steps=20)) == "20 steps"
    assert wording.generation_in_words(Generation()) == ""


def test_the_table_marks_what_was_made_from_a_picture() -> None:
    reports = [replace(report("a.png", match()), generation=attempt()), report("b.png", match())]
    assert rendered(findings_table(reports), 120).count("img2img, strength 0.4") == 1


# ---------------------------------------------------------------- words and terminal


def test_no_text_of_ours_uses_the_words_that_promise_or_accuse(tmp_path: Path) -> None:
    reports = [report(f"{n}.png", match(n, 0.5, mirrored=True, p_value=0.01)) for n in range(6)]
    reports += [unreadable("u.png", code) for code in wording.REASONS]
    summaries = [ScanSummary(9, r, p, 2, 1, c) for r in (0, 1, 3) for p in (0, 1, 2) for c in (0, 1)]
    texts = [Outline(written(tmp_path, *reports)).text]
    texts += [wording.summary_in_words(s) + wording.counts_in_words(s) for s in summaries]
    assert not re.search(r"\b(original\w*|safe\w*|infring\w*)\b", " ".join(texts), re.IGNORECASE)


@pytest.mark.parametrize(
    ("summary", "says"),
    [
        (ScanSummary(44, 3, 0, 41), "3 of 44 generated pictures replicate a training image in this index."),
        (ScanSummary(44, 1, 0, 43), "1 of 44 generated pictures replicates a training image in this index."),
        (ScanSummary(1, 1), "The generated picture replicates a training image in this index."),
        (ScanSummary(2, 2), "All 2 generated pictures replicate a training image in this index."),
        (
            ScanSummary(44, 0, 2, 42),
            "2 of 44 generated pictures strongly resemble a training image in this index.",
        ),
        (ScanSummary(44, 0, 0, 44), "None of the 44 generated pictures has a match in this index."),
        (ScanSummary(1, 0, 0, 1), "The generated picture has no match in this index."),
        (ScanSummary(2, 0, 0, 0, 2), "None of the 2 generated pictures could be read."),
    ],
)
def test_the_outcome_is_one_sentence(summary: ScanSummary, says: str) -> None:
    assert wording.summary_in_words(summary) == says


def test_the_other_counts_follow() -> None:
    said = wording.counts_in_words(ScanSummary(46, 6, 2, 36, 2, cleared=1))
    assert said == (
        "2 more strongly resemble one, not verified. 1 matches cleared works only. "
        "35 have no match in this index. 2 could not be read."
    )


def test_regions_and_shares_in_words() -> None:
    def words(coverage: float, of_work: float) -> str:
        return wording.region_in_words(
            match(evidence=Evidence(coverage=coverage, reference_coverage=of_work))
        )

    assert words(0.38, 0.2).replace("\u00a0", " ") == "part: 38 % of the picture"
    assert words(1.0, 0.42).replace("\u00a0", " ") == "shows 42 % of the work"
    assert words(0.99, 0.95) == "whole picture"
    assert wording.percent(0.001).replace("\u00a0", " ") == "less than 1 %"


@pytest.mark.parametrize(
    ("p_value", "says"), [(1e-7, "one in 10,000,000"), (0.02, "one in 50"), (0.9, "often"), (0, "Fewer")]
)
def test_chance_in_words(p_value: float, says: str) -> None:
    assert says in wording.evidence_in_words(match(p_value=p_value))[-1]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/b.png", "b.png"),
        ("C:\\art\\b.png", "b.png"),
        ("shards/0.tar::x/b.jpg", "b.jpg"),
        ("b.png", "b.png"),
        ("", ""),
    ],
)
def test_file_names_of_any_system(path: str, name: str) -> None:
    assert wording.file_name(path) == name


def rendered(renderable: object, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False, legacy_windows=False)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [30, 60, 80, 200])
def test_the_table_fits_the_terminal_and_hostile_names_neither_style_nor_move_it(width: int) -> None:
    reports = [
        report(name, match(reference=reference(1, title=name, artist=name, licence=name))) for name in HOSTILE
    ]
    shown = rendered(findings_table(reports), width)
    assert max(len(line) for line in shown.splitlines()) <= width
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e\udc80-\udcff]", shown)
    if width == 200:
        assert "[bold red]rich[/] \\x1b[31mred" in shown


def test_the_table_is_limited_and_says_how_many_more() -> None:
    reports = [report(f"{n}.png", match(3, n / 20)) for n in range(15)] + [report("none.png")]
    shown = rendered(findings_table(reports, limit=3), 100)
    assert "… and 12 more" in shown
    assert [w for w in shown.split() if w.endswith(".png")] == ["14.png", "13.png", "12.png"]
    assert "3 partial copy" in shown
    assert "Work 1 — Ada Brush" in shown
    assert "No match in this index." in rendered(findings_table([report("none.png")]), 80)


def test_the_summary_is_text_for_the_terminal() -> None:
    assert summary_text(ScanSummary(44, 3, 0, 41)).plain.startswith("3 of 44 generated pictures replicate")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("score",), "1e999"),
        (("score",), "-0.5"),
        (("level",), "77"),
        (("width",), "1e999"),
        (("matches", 0, "score"), "1e999"),
        (("matches", 0, "query_region"), "[[1e999, 0], [1, 0], [1, 1]]"),
        (("matches", 0, "reference", "id"), "1" + "0" * 400),
        (("matches", 0, "evidence"), '{"inliers": 1' + "0" * 400 + "}"),
        (("matches", 0, "evidence"), '{"cosines": {"a": 1e999}}'),
    ],
)
def test_numbers_that_nothing_measures_are_no_finding(
    place: tuple[Any, ...], value: str, sample_findings: Path, tmp_path: Path
) -> None:
    lines = map(json.loads, sample_findings.read_text(encoding="utf-8").splitlines())
    values = next(line for line in lines if line["matches"])
    inner = values
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = "@"
    path = tmp_path / "findings.jsonl"
    path.write_text(json.dumps(values).replace('"@"', value) + "\n")
    with pytest.raises(SourceError, match="line 1 is no finding"):
        list(read_findings(path))
