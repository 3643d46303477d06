"""The artist's look-up: names, findings, contradictions, the report, its evidence bundle, and the command."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from detector import (
    Detector,
    Evidence,
    ImageReport,
    Match,
    Occurrence,
    Reference,
    SourceError,
    UsageError,
    Verdict,
)
from detector.artists import lookup, lookup_reports
from detector.artists.bundle import SUMS, how_to_verify, portable
from detector.artists.contradictions import contradictions_of
from detector.artists.findings import Findings
from detector.artists.names import ArtistNames
from detector.artists.report import Contradiction, FoundWork, IndexFacts, LookupReport, Replica
from detector.artists.spelling import normal_form, readings_of
from detector.artists.words import memorisation_in_words, summary_in_words
from detector.cli import app
from detector.reports.jsonl import findings_line
from index.build import build_index
from index.reference_index import ReferenceIndex

HOSTILE = '<script>alert("x")</script><img src=x onerror=y>'
FACTS = IndexFacts("art.index", "ab" * 32, 3, 60, 61, ({"name": "pdq", "version": 1, "weights_digest": ""},))


# Names

SAME = [
    ("Vincent van Gogh", "Gogh, Vincent van"),
    ("Vincent van Gogh", "van Gogh, Vincent"),
    ("Vincent van Gogh", "VINCENT VAN GOGH (1853–1890)"),
    ("Vincent van Gogh", "Gogh, Vincent van, 1853-1890"),
    ("Vincent van Gogh", "Vincent van Gogh (Dutch, born 1853)"),
    ("Félix Vallotton", "Vallotton, Felix"),
    ("Paweł Czerwiński", "pawel czerwinski"),
    ("Søren Kierkegård", "Soren Kierkegard"),
    ("Straße", "STRASSE"),
    ("Ægir Œuvre", "Aegir Oeuvre"),
    ("Georgia O’Keeffe", "O'Keeffe, Georgia"),
    ("Jacques-Louis David", "jacques louis  david"),
    ("J. M. W. Turner", "Turner, J.M.W."),
    ("Pieter Bruegel the Elder", "Bruegel, Pieter, the Elder"),
    ("Johann Schleuen (senior)", "Johann Schleuen Senior"),
    ("after Rembrandt", "Rembrandt, after"),
    ("Workshop of Rembrandt", "Rembrandt (workshop of)"),
    ("Gilbert & George", "Gilbert and George"),
    ("Айвазовский, Иван", "Иван Айвазовский"),
    ("@Lien_Abara", "@lien_abara"),
]
DIFFERENT = [
    ("Rembrandt", "Manner of Rembrandt"),
    ("Rembrandt", "after Rembrandt"),
    ("Rembrandt", "Rembrandt?"),
    ("Rembrandt", "Rembrandt and workshop"),
    ("Pieter Bruegel the Elder", "Pieter Bruegel the Younger"),
    ("Thomas James", "James Thomas"),
    ("Raphael", "@raphael"),
    ("が", "か"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_usual_spellings_of_a_name_are_equal(one: str, other: str) -> None:
    assert normal_form(one) == normal_form(other) != ""


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_names_that_are_not_the_same_stay_apart(one: str, other: str) -> None:
    assert normal_form(one) != normal_form(other)


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_normal_form_of_a_normal_form_is_itself(name: str) -> None:
    once = normal_form(name)
    assert normal_form(once) == once


WORD = st.from_regex(r"[a-zåäöéüøł]{3,9}", fullmatch=True).filter(
    lambda word: (
        normal_form(f"Zoe, {word}") == normal_form(f"{word} Zoe")
        and normal_form(f"{word} Zoe").endswith("zoe")
    )
)


@given(st.lists(WORD, min_size=1, max_size=3), st.lists(WORD, min_size=1, max_size=2))
@settings(max_examples=150, deadline=None)
def test_last_comma_first_is_first_last(first: list[str], last: list[str]) -> None:
    given_names, surname = " ".join(first).title(), " ".join(last).title()
    assert normal_form(f"{surname}, {given_names}") == normal_form(f"{given_names} {surname}")


@given(st.text(alphabet="aeiounczAEIO", min_size=3, max_size=12), st.sampled_from("\u0301\u0308\u0327\u0303"))
def test_accents_make_no_difference(name: str, mark: str) -> None:
    accented = unicodedata.normalize("NFC", "".join(letter + mark for letter in name))
    assert normal_form(accented) == normal_form(name)


def names(*artists: str | tuple[str, dict[str, str]]) -> ArtistNames:
    """Return the names of an index whose works, numbered from 1, record these artists."""
    pairs = [(artist, {}) if isinstance(artist, str) else artist for artist in artists]
    return ArtistNames((number, artist, extra) for number, (artist, extra) in enumerate(pairs, start=1))


def test_initials_are_found_where_one_person_fits_and_suggested_where_two_do() -> None:
    one = names("Vincent van Gogh", "Theo van Rysselberghe")
    assert one.find("V. van Gogh") == ("Vincent van Gogh",)
    assert names("V. van Gogh").find("Vincent van Gogh") == ("V. van Gogh",)
    two = names("Vincent van Gogh", "Victor van Gogh", "V. van Gogh")
    assert two.find("V. van Gogh") == ("V. van Gogh",)
    assert {spelling for spelling, _ in two.suggest("V. van Gogh")} == {"Vincent van Gogh", "Victor van Gogh"}
    assert two.find("Vincent van Gogh") == ("Vincent van Gogh",)


def test_a_house_may_be_called_atelier() -> None:
    index = names("Atelier Clair", "Clair", "Studio Ghibli")
    assert index.find("Clair, Atelier") == ("Atelier Clair",)
    assert index.find("Ghibli, Studio") == ("Studio Ghibli",)
    assert index.find("Clair") == ("Clair",)


def test_a_workshop_is_suggested_and_never_taken_for_the_artist() -> None:
    index = names("Rembrandt", "Manner of Rembrandt", "Rembrandt, workshop of", "Rembrandt")
    assert index.find("rembrandt") == ("Rembrandt",)
    assert index.references("Rembrandt") == {1, 4}
    assert {spelling for spelling, _ in index.suggest("Rembrandt")} >= {
        "Manner of Rembrandt",
        "Rembrandt, workshop of",
    }
    assert index.find("Workshop of Rembrandt") == ("Rembrandt, workshop of",)


@pytest.mark.parametrize("asked", ["Hilma af Klint", "Kandinsky, Wassily"])
@pytest.mark.parametrize("between", ["; ", " & ", " and ", " | ", ", ", " / "])
def test_several_artists_in_one_field_are_each_found(asked: str, between: str) -> None:
    field = f"Hilma af Klint{between}Wassily Kandinsky"
    assert names(field, "Somebody Else").find(asked) == (field,)


def test_an_engraver_after_another_is_found_and_the_other_suggested() -> None:
    index = names("Simon Miger after Charles Cochin")
    assert index.find("Simon Miger") == ("Simon Miger after Charles Cochin",)
    assert index.find("Charles Cochin") == ()
    assert index.suggest("Charles Cochin") == [("Simon Miger after Charles Cochin", 1)]


def test_aliases_handles_and_identifiers_in_other_columns_are_found() -> None:
    index = names(
        (
            "Katsushika Hokusai",
            {"Also known as": "葛飾北斎; Iitsu", "ulan": "500060426", "medium": "woodcut"},
        ),
        ("Lien Abara", {"username": "lien_abara", "aliases": '["L. Abara-Voss"]'}),
        "Giovanni Antonio Canal (Canaletto)",
    )
    for asked in ("葛飾北斎", "iitsu", "ULAN 500060426", "500060426"):
        assert {1} == {n for spelling in index.find(asked) for n in index.references(spelling)}, asked
    for asked in ("@lien_abara", "https://example.org/lien_abara", "Abara-Voss, L."):
        assert {2} == {n for spelling in index.find(asked) for n in index.references(spelling)}, asked
    assert index.find("canaletto") == ("Giovanni Antonio Canal (Canaletto)",)
    assert index.find("woodcut") == ()


def test_names_nobody_has_find_nothing_and_slips_get_suggestions() -> None:
    index = names("Vincent van Gogh", "Claude Monet", "Claude Monet", "Jan van Eyck")
    for asked in ("Banksy", "van", "of", "", "   ", "?!", "1853"):
        assert index.find(asked) == (), asked
    assert index.suggest("Vincent van Gough")[0] == ("Vincent van Gogh", 1)
    assert index.suggest("Monet") == [("Claude Monet", 2)]
    assert index.suggest("Mon") == [("Claude Monet", 2)]
    assert index.suggest("Banksy") == []
    assert index.suggest("")[0] == ("Claude Monet", 2)


def test_a_field_of_hostile_length_is_read_quickly_and_once() -> None:
    for field in ("after " * 50_000, "1900" + " " * 50_000 + "x", "(" * 50_000, "a and " * 50_000):
        assert len(readings_of(field)) < 200


# Findings


def match_of(sha256: str, level: int, *, score: float = 0.9, number: int = 7, **facts: Any) -> Match:
    place = Occurrence("art/a.jpg", artist="A", title="T", licence="CC0-1.0")
    return Match(level, score, Evidence(**facts), Reference(number, sha256, 40, 30, (place,)))


def finding(query: str, *matches: Match) -> bytes:
    level = max((match.level for match in matches), default=0)
    verdict = Verdict.REPLICA if level >= 3 else Verdict.NO_MATCH
    return findings_line(
        ImageReport(query, verdict, level=level, matches=matches, sha256=query.encode().hex())
    )


def test_findings_keep_levels_from_two_on_closest_first_and_by_digest(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(
        finding("g/1.png", match_of("aa", 3), match_of("bb", 1))
        + finding("g/2.png", match_of("aa", 5, number=99))
        + finding("g/3.png", match_of("aa", 2))
        + finding("g/4.png")
    )
    found = Findings.read([path, path])
    assert [(replica.query, replica.level) for replica in found.of("aa")] == [
        ("g/2.png", 5),
        ("g/1.png", 3),
        ("g/3.png", 2),
    ]
    assert (found.of("bb"), found.of("")) == ((), ())
    assert (found.generated, found.files, found.skipped) == (4, (path.as_posix(),), ())


def test_a_picture_in_two_scans_is_one_replica(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_bytes(finding("g/1.png", match_of("aa", 4)))
    assert len(Findings.read([tmp_path]).of("aa")) == 1


@pytest.mark.parametrize(
    ("garbled", "reason"),
    [
        (b"no json\n", "is not JSON"),
        (b"\xff\xfe\n", "is not JSON"),
        (b"[1]\n", "is no finding"),
        (b'{"query": "x"}\n', "is no finding"),
        (b'{"query":"x","verdict":"replica","format_version":9}\n', "has format_version 9"),
        (b'{"query":"x","verdict":"replica","format_version":1,"matches":[{}]}\n', "is no finding"),
        (b'{"query":"x","verdict":"replica","format_version":1,"matches":[{"level":4}]}\n', "is no finding"),
        (b'{"query":"x","verdict":"replica","format_version":1,"matches":7}\n', "is no finding"),
        (b'{"query":"x","ver', "is cut off"),
    ],
)
def test_a_garbled_line_is_reported_and_the_others_are_kept(
    tmp_path: Path, garbled: bytes, reason: str
) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(finding("g/1.png", match_of("aa", 4)) + b"\n" + garbled)
    found = Findings.read([path])
    assert len(found.of("aa")) == found.generated == 1
    [(file, line, why)] = found.skipped
    assert (file, line) == (path.as_posix(), 3)
    assert why.startswith(reason)


def test_what_holds_no_findings_is_refused_with_the_next_step(tmp_path: Path) -> None:
    picture = tmp_path / "p.png"
    Image.new("RGB", (4, 4)).save(picture)
    with pytest.raises(SourceError, match="holds no findings"):
        Findings.read([picture])
    with pytest.raises(UsageError, match="does not exist"):
        Findings.read([tmp_path / "none.jsonl"])
    with pytest.raises(UsageError, match="holds no findings"):
        Findings.read([tmp_path])
    (tmp_path / "audit.jsonl").write_text('{"format_version":1,"identity":{}}\n')
    with pytest.raises(UsageError, match="not finished"):
        Findings.read([tmp_path])
    (tmp_path / "findings.jsonl").write_bytes(b"")
    assert Findings.read([tmp_path]).generated == 0


# Licences


@pytest.mark.parametrize(
    ("recorded", "stated", "said"),
    [
        ("CC0-1.0", "CC-BY-NC-4.0", "grants more than"),
        ("CC-BY-4.0", "CC-BY-NC-4.0", "grants more than"),
        ("CC-BY-NC-SA-4.0", "CC BY 4.0", "grants less than"),
        ("CC-BY-NC-4.0", "CC-BY-ND-4.0", "differs from"),
        ("CC-BY-3.0", "CC-BY-4.0", "another version of"),
        ("public domain", "all rights reserved", "grants more than"),
        ("© Jane Doe", "CC-BY-4.0", "grants less than"),
        ("free for all!", "CC-BY-4.0", "cannot be read with certainty"),
        ("CC-BY-4.0", "ask me first", "differs from “ask me first”"),
        ("CC BY", "CC-BY-4.0", None),
        ("https://creativecommons.org/licenses/by/4.0/", "cc-by-4.0", None),
        ("Ask me  first", "ask me first", None),
        ("", "CC-BY-4.0", None),
        ("unknown", "CC-BY-4.0", None),
    ],
)
def test_a_recorded_licence_contradicts_where_it_is_another(
    recorded: str, stated: str, said: str | None
) -> None:
    place = Occurrence("a.jpg", licence=recorded)
    found = contradictions_of(Reference(1, "aa", 1, 1, (place,)), stated)
    if said is None:
        assert found == ()
    else:
        [only] = found
        assert said in only.words
        assert (only.path, only.recorded, only.stated) == ("a.jpg", recorded, stated)


# Words


def work(number: int = 1, *, near: int = 0, replicas: tuple[Replica, ...] = (), level: int = 0) -> FoundWork:
    found = match_of("aa", level, number=number) if level else None
    place = Occurrence(f"art/{number}.jpg", title=f"Work {number}", artist="A", licence="CC0-1.0")
    reference = Reference(number, f"{number:02d}" * 32, 40, 30, (place,))
    reasons = ("picture",) if level else ("name",)
    return FoundWork(
        reference, reasons, near, replicas=replicas, match=found, picture="mine.jpg" if level else ""
    )


def replica(query: str, level: int) -> Replica:
    return Replica(query, level, 0.9, match_of("aa", level), "f.jsonl", sha256="cd" * 32)


def test_the_answer_counts_in_words() -> None:
    works = (
        work(1, near=2, replicas=(replica("g/1.png", 4), replica("g/2.png", 3))),
        work(2),
        work(3, level=2),
    )
    report = LookupReport("A", FACTS, works=works, findings=("f.jsonl",), generated=37)
    assert summary_in_words(report) == (
        "2 works are in this training set, 1 of them more than once; 2 generated pictures replicate 1 of them. "
        "Another work in it strongly resembles a picture of yours, which could not be verified: look at it yourself."
    )
    one = LookupReport("A", FACTS, works=(work(1),), findings=("f.jsonl",), generated=37)
    assert one.summary == (
        "1 work is in this training set. None of the 37 generated pictures in the findings replicates it."
    )
    nothing = LookupReport("A", FACTS, source_contains="x.example")
    assert nothing.summary == (
        "No work under this name or from “x.example” was found in this index. That says nothing about works outside it."
    )


def test_repetition_is_a_risk_and_no_promise_either_way() -> None:
    assert "no assurance" in memorisation_in_words(work())
    assert "more likely" in memorisation_in_words(work(near=3))
    assert "4 times" in memorisation_in_words(work(near=3))


def test_a_report_survives_json() -> None:
    works = (
        FoundWork(
            work(1).reference,
            ("name", "picture"),
            2,
            (Contradiction("art/1.jpg", "CC0-1.0", "CC-BY-4.0", "…"),),
            (replica("g/1.png", 4),),
            match_of("aa", 4, inliers=12),
            "mine.jpg",
        ),
    )
    report = LookupReport(
        "A", FACTS, ("mine.jpg",), "x.example", "CC-BY-4.0", works, ("A",), ("B",), ("n.jpg",),
        (("u.jpg", "empty"),), ("f.jsonl",), 9, (("f.jsonl", 2, "is not JSON"),), "ef" * 32, {"python": "3"}, "x", "c",
    )  # fmt: skip
    again = LookupReport.from_dict(json.loads(json.dumps(report.to_dict())))
    assert again == report
    for broken in ({}, report.to_dict() | {"format_version": 2}, report.to_dict() | {"works": [{}]}):
        with pytest.raises(ValueError, match=r"format_version|misses or garbles"):
            LookupReport.from_dict(broken)


# The look-up


@pytest.fixture(scope="module")
def index(artworks: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReferenceIndex]:
    """An index over some samples, with variants of names, a second place, a near-duplicate and hostile metadata."""
    folder = tmp_path_factory.mktemp("artists")
    pictures = folder / "art"
    pictures.mkdir()
    rows = [
        ("collage-1.jpg", "Saw <b>& Sky", "Lien Ábårå", "CC0-1.0", "https://mysite.example/1"),
        ("collage-2.jpg", "Cut Flowers", "Ábårå, Lien (born 1970)", "", "https://MySite.example/2"),
        ("collage-3.jpg", "Scraps", "workshop of Lien Abara", "CC-BY-4.0", ""),
        ("poster-2.jpg", HOSTILE, HOSTILE, HOSTILE, f"javascript:{HOSTILE}"),
    ]
    for name, *_ in rows:
        (pictures / name).write_bytes((artworks / name).read_bytes())
    (pictures / "again.jpg").write_bytes((artworks / "collage-1.jpg").read_bytes())
    Image.open(artworks / "collage-1.jpg").save(pictures / "near.jpg", quality=60)
    with (pictures / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "title", "artist", "licence", "source", "aka"])
        writer.writerows([*row, "Mx Scissors" if row[0] == "collage-2.jpg" else ""] for row in rows)
        writer.writerow(["again.jpg", "", "", "all rights reserved", "", ""])
    build_index(pictures, folder / "art.index", descriptors=("pdq", "phash", "keypoints"))
    with ReferenceIndex.open(folder / "art.index") as opened:
        yield opened


def stems(report: LookupReport) -> set[str]:
    return {Path(found.reference.occurrences[0].path).stem for found in report.works}


def test_a_name_finds_exactly_its_works_with_all_there_is_to_say(index: ReferenceIndex) -> None:
    report = lookup(index, "ABARA, lien", licence="CC-BY-NC-4.0")
    assert report.artists == ("Lien Ábårå", "Ábårå, Lien (born 1970)")
    assert "workshop of Lien Abara" in report.suggestions
    assert len(report.works) == 2
    first = report.works[0]
    assert {Path(place.path).name for place in first.reference.occurrences} == {"collage-1.jpg", "again.jpg"}
    assert (first.near_duplicates, first.copies, first.reasons) == (1, 3, ("name",))
    assert ["grants more than" in each.words for each in first.contradictions] == [
        place.licence == "CC0-1.0" for place in first.reference.occurrences
    ]
    assert report.works[1].contradictions == ()
    assert report.index.references == 5
    assert (
        report.index.manifest_sha256
        == hashlib.sha256((index.path / "manifest.json").read_bytes()).hexdigest()
    )


def test_names_pictures_and_sources_are_a_union_with_reasons(index: ReferenceIndex, artworks: Path) -> None:
    picture = Image.open(artworks / "collage-2.jpg").crop((20, 20, 480, 600))
    blank = Image.new("RGB", (200, 200), "white")
    steps: list[tuple[int, int]] = []
    report = lookup(
        index,
        "Mx Scissors",
        pictures=[("mine.png", picture), ("blank.png", blank), ("broken.png", b"no picture")],
        source_contains="mysite.example",
        on_progress=lambda done, total: steps.append((done, total)),
    )
    reasons = {Path(found.reference.occurrences[0].path).name: found.reasons for found in report.works}
    assert reasons["collage-2.jpg"] == ("name", "picture")
    assert ("source",) in reasons.values()
    found = next(found for found in report.works if found.picture)
    assert found.picture == "mine.png"
    assert found.match is not None
    assert found.match.level >= 3
    assert report.unmatched == ("blank.png",)
    assert report.unreadable == (("broken.png", "not_an_image"),)
    assert steps == [(3, 3)]


def test_reports_made_already_give_the_same_answer(index: ReferenceIndex, artworks: Path) -> None:
    detector = Detector(index)
    reports = detector.check_many([artworks / "collage-3.jpg"], names=["c.jpg"])
    known = ArtistNames.of(index)
    answer = lookup_reports(detector, reports, name="Mx Scissors", names=known)
    assert {found.reasons for found in answer.works} == {("name",), ("picture",)}
    assert answer.pictures == ("c.jpg",)
    assert answer.picture_files == frozenset()


def test_an_unverified_resemblance_does_not_count_as_a_work_nor_contradict(index: ReferenceIndex) -> None:
    number = index.reference_ids()[0]
    stored = index.reference(number)
    assert stored is not None
    alike = match_of(stored[0].sha256, 2, number=number)
    made = ImageReport("mine.jpg", Verdict.POSSIBLE, level=2, matches=(alike,))
    report = lookup_reports(index, [made], licence="CC-BY-NC-4.0")
    [only] = report.works
    assert not only.verified
    assert only.contradictions == ()
    assert "could not be verified" in report.summary


def test_nothing_asked_is_refused(index: ReferenceIndex, tmp_path: Path) -> None:
    for asked in ({}, {"name": "  "}, {"source_contains": " "}):
        with pytest.raises(UsageError, match="nothing to look up"):
            lookup(index, **asked)
    with pytest.raises(UsageError, match="no picture found"):
        lookup(index, pictures=[tmp_path])
    with pytest.raises(UsageError, match="does not exist"):
        lookup(index, pictures=[tmp_path / "none"])


# The bundle


class Tags(HTMLParser):
    """Collects what a page would run or load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


@pytest.fixture(scope="module")
def evidence(
    index: ReferenceIndex, artworks: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[LookupReport, Path]:
    """A look-up of hostile metadata and of an artist, with a finding whose picture is at hand, as a bundle."""
    folder = tmp_path_factory.mktemp("evidence")
    generated = folder / "generated" / "g1.png"
    generated.parent.mkdir()
    Image.open(artworks / "collage-1.jpg").resize((96, 96)).save(generated)
    (folder / "mine.jpg").write_bytes((artworks / "poster-2.jpg").read_bytes())
    with_findings = folder / "findings.jsonl"
    with_findings.write_bytes(findings_line(Detector(index).check(generated)))
    report = lookup(
        index,
        "Lien Abara",
        pictures=[folder / "mine.jpg"],
        licence="CC-BY-NC-4.0",
        findings=[with_findings],
        command=f"detector artist 'Lien Abara' --works {folder}/mine.jpg --index {index.path}",
    )
    report.save_bundle(folder / "evidence.zip", index=index)
    return report, folder / "evidence.zip"


def test_digests_in_a_bundle_are_those_of_its_files(evidence: tuple[LookupReport, Path]) -> None:
    with zipfile.ZipFile(evidence[1]) as archive:
        assert archive.testzip() is None
        listed = dict(reversed(line.split("  ")) for line in archive.read(SUMS).decode().splitlines())
        files = {name for name in archive.namelist() if name != SUMS}
        assert set(listed) == files >= {"dossier.html", "report.json", "HOW-TO-VERIFY.txt"}
        for name, digest in listed.items():
            assert hashlib.sha256(archive.read(name)).hexdigest() == digest
        pictures = [name for name in files if name.startswith("pictures/")]
        assert {name.split("/")[1].split("-")[0] for name in pictures} == {"reference", "yours", "generated"}
        for name in pictures:
            assert max(Image.open(io.BytesIO(archive.read(name))).size) <= 360
        values = json.loads(archive.read("report.json"))
        named = {said["reference_picture"] for said in values["works"]}
        assert named <= files
        assert len(values["works"]) == 3


def test_the_same_report_gives_the_same_bytes(
    evidence: tuple[LookupReport, Path], index: ReferenceIndex
) -> None:
    report, path = evidence
    again = io.BytesIO()
    from detector.artists.bundle import write_bundle

    write_bundle(report, again, index=index)
    assert again.getvalue() == path.read_bytes()


def test_a_bundle_names_no_place_of_this_machine_but_those_in_the_index(
    evidence: tuple[LookupReport, Path],
) -> None:
    report, path = evidence
    in_index = {place.path for found in report.works for place in found.reference.occurrences}
    with zipfile.ZipFile(path) as archive:
        for name in ("dossier.html", "report.json", "HOW-TO-VERIFY.txt"):
            said = archive.read(name).decode()
            for place in sorted(in_index, key=len, reverse=True):
                said = said.replace(place, "")
            assert str(path.parent) not in said, name
            assert str(Path(report.index.path).parent) not in said, name
    assert "--works …/mine.jpg --index …/art.index" in how_to_verify(portable(report))


def test_hostile_metadata_stays_text(evidence: tuple[LookupReport, Path]) -> None:
    with zipfile.ZipFile(evidence[1]) as archive:
        page = archive.read("dossier.html").decode()
    read = Tags()
    read.feed(page)
    assert "script" not in read.tags
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    for name, value in read.attributes:
        if name == "src":
            assert (value or "").startswith("data:image/webp;base64,")
        if name == "href" and value:
            assert value.startswith(("#", "https://", "http://", "data:,"))
    assert "default-src &#x27;none&#x27;" in page
    assert "&lt;script&gt;" in page


def test_how_to_verify_says_what_was_used_and_what_it_is_not(evidence: tuple[LookupReport, Path]) -> None:
    report, _ = evidence
    said = how_to_verify(report)
    for fact in (
        report.made,
        report.index.manifest_sha256,
        report.scoring_sha256,
        "pdq, version",
        "sha256sum -c",
    ):
        assert fact in said
    assert "not a legal finding" in said


def test_uploads_are_never_read_from_files_of_their_name(
    index: ReferenceIndex, artworks: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (64, 64), "red").save(secret)
    upload = (artworks / "collage-2.jpg").read_bytes()
    report = lookup(index, pictures=[(str(secret), upload)])
    target = tmp_path / "e.zip"
    report.save_bundle(target, index=index)
    with zipfile.ZipFile(target) as archive:
        assert not [name for name in archive.namelist() if "yours" in name]
    report.save_bundle(target, index=index, pictures={str(secret): upload})
    with zipfile.ZipFile(target) as archive:
        [shown] = [name for name in archive.namelist() if "yours" in name]
        assert Image.open(io.BytesIO(archive.read(shown))).convert("RGB").getpixel((5, 5)) != (255, 0, 0)


def test_a_generated_picture_that_changed_since_is_not_shown(
    evidence: tuple[LookupReport, Path], index: ReferenceIndex, tmp_path: Path
) -> None:
    from dataclasses import replace

    report, path = evidence
    target = tmp_path / "e.zip"
    works = tuple(
        replace(found, replicas=tuple(replace(each, sha256="00" * 32) for each in found.replicas))
        for found in report.works
    )
    replace(report, works=works).save_bundle(target, index=index)
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(target) as after:
        assert [name for name in before.namelist() if "generated-" in name]
        assert not [name for name in after.namelist() if "generated-" in name]
        assert "the file has changed since the scan" in after.read("dossier.html").decode()


# The command

Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `detector artist` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def invoke(*words: str | Path) -> Any:
        arguments = ["artist", *(str(word) for word in words)]
        monkeypatch.setattr(sys, "argv", ["detector", *arguments])
        result = CliRunner().invoke(app, arguments)
        assert isinstance(result.exception, SystemExit | None), result.exception
        assert "Traceback" not in result.output
        return result

    return invoke


def test_the_command_answers_in_words_writes_the_evidence_and_exits_with_1(
    run: Run, index: ReferenceIndex
) -> None:
    done = run(
        "abara, lien",
        "--index",
        index.path,
        "--licence",
        "CC-BY-NC-4.0",
        "--bundle",
        "e.zip",
        "--html",
        "d.html",
    )
    assert done.exit_code == 1
    assert done.stdout.splitlines()[0] == "2 works are in this training set, 1 of them more than once."
    assert "grants more than CC BY-NC 4.0" in done.stdout
    assert "Like it, and not counted: workshop of Lien Abara" in done.stdout
    assert "not a legal finding" in done.stdout
    assert "--bundle e.zip" in zipfile.ZipFile("e.zip").read("HOW-TO-VERIFY.txt").decode()
    assert Path("d.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_command_suggests_where_nothing_fits_and_exits_with_0(run: Run, index: ReferenceIndex) -> None:
    done = run("Lien Abarra", "--index", index.path)
    assert done.exit_code == 0
    assert "No work under this name" in done.stdout
    assert "Lien Ábårå" in done.stdout
    assert "detector artist 'Lien Ábårå' --index" in done.stdout


def test_the_command_gives_json_that_reads_back(run: Run, index: ReferenceIndex) -> None:
    done = run("Lien Abara", "--index", index.path, "--json")
    assert LookupReport.from_dict(json.loads(done.stdout)).artists == (
        "Lien Ábårå",
        "Ábårå, Lien (born 1970)",
    )


def test_the_command_names_what_it_left_out(run: Run, index: ReferenceIndex) -> None:
    Path("f.jsonl").write_bytes(b"garbage\n" + finding("g/1.png"))
    Path("no.jpg").write_bytes(b"no picture")
    done = run("Lien Abara", "--index", index.path, "--scans", "f.jsonl", "--works", "no.jpg", "-q")
    assert done.exit_code == 1
    assert "f.jsonl: line 1 is not JSON" in done.stderr
    assert "no.jpg: is not a picture" in done.stderr
    assert run("--index", index.path, "--works", "no.jpg").exit_code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing to look up"),
        (("A", "--bundle", "."), "is a folder"),
        (("A", "--bundle", "x/e.zip"), "does not exist"),
        (("A", "--bundle", "e", "--html", "e"), "is the file of --bundle too"),
        (("A", "--scans", "none"), "does not exist"),
        (("--works", "none"), "does not exist"),
    ],
)
def test_wrong_input_is_one_line_with_the_next_step(
    run: Run, index: ReferenceIndex, words: tuple[str, ...], said: str
) -> None:
    done = run(*words, "--index", index.path)
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_unknown_licence_is_said_to_be_compared_as_text(run: Run, index: ReferenceIndex) -> None:
    done = run("Lien Abara", "--index", index.path, "--licence", "CC-BYY")
    assert "is no licence known here" in done.stderr
