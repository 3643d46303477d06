"""What each kind of hostile input is given to: readers, the index, the detector, the command line."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from index.errors import DetectorError, UnreadableImageError
from tests.benchmarks import hostile as pictures
from tests.benchmarks import hostile_files as files
from tests.benchmarks.hostile_indexes import ATTACKS

ANSWERED, REFUSED = "answered", "refused"

CASE, INDEX, SMALL_INDEX, QUERY, TOWER = "case", "full.index", "small.index", "query.png", "tower"


class Altered(Exception):
    """Something on disk is not as it was, and should be."""


@dataclass(frozen=True)
class World:
    """Where the sound things lie that inputs are made from and held against.

    Attributes:
        root: A folder with an index of every descriptor, one of hashes alone, a query and a tower.
        case: The folder in which the input at hand is made.
    """

    root: Path
    case: Path

    @property
    def small_index(self) -> Path:
        """Hashes alone."""
        return self.root / SMALL_INDEX

    @functools.cached_property
    def query(self) -> Any:
        """The query picture, described for the sound index."""
        from index.images import read_image
        from index.reference_index import ReferenceIndex

        with ReferenceIndex.open(self.root / INDEX) as index:
            return index.describe([read_image(self.root / QUERY)])[0]

    @functools.cached_property
    def detector(self) -> Any:
        """The sound index, with models loaded."""
        from detector import Detector

        return Detector.open(self.root / INDEX)


@dataclass(frozen=True)
class Kind:
    """A row of the table.

    Attributes:
        title: As the table has it.
        share: Of all inputs, in relation to the others.
        make: Makes an input in an empty folder and returns what to open.
        use: Opens it; returns `ANSWERED` or `REFUSED`, or raises.
    """

    title: str
    share: float
    make: Callable[[random.Random, Path, World], Path]
    use: Callable[[Path, World], str]


def _file(*makers: Callable[[random.Random], bytes], name: str = "input.png") -> Callable[..., Path]:
    def make(rng: random.Random, folder: Path, world: World) -> Path:
        path = folder / name
        path.write_bytes(rng.choice(makers)(rng))
        return path

    return make


def _files(*makers: Callable[[random.Random, Path], Path]) -> Callable[..., Path]:
    return lambda rng, folder, world: rng.choice(makers)(rng, folder)


def _attacked(attack: Callable[[random.Random, Path], None]) -> Callable[..., Path]:
    def make(rng: random.Random, folder: Path, world: World) -> Path:
        index = Path(shutil.copytree(world.root / INDEX, folder / "art.index"))
        attack(rng, index)
        return index

    return make


def look(path: Path, world: World) -> str:
    """Read what a picture says, then the picture."""
    from detector.metadata import read_generation, read_report_in
    from index.embedded import read_credits
    from index.images import read_image

    data = path.read_bytes()
    read_credits(data)
    said = read_generation(data)
    if said is not None:
        json.dumps(said.to_dict())
    read_report_in(data)
    read_image(path)
    return ANSWERED


def check_picture(path: Path, world: World) -> str:
    """Check a picture against an index."""
    from detector.reports.jsonl import findings_line

    report = world.detector.check(path)
    findings_line(report)
    return REFUSED if report.verdict.value == "unreadable" else ANSWERED


def read_source(path: Path, world: World) -> str:
    """Go through a source of references, and read what it names."""
    from detector.metadata import GenerationLists
    from index.items import SourceItem
    from index.sources import open_source

    folder = path if path.is_dir() else path.parent
    GenerationLists([folder]).about(folder / "a.png")
    source = open_source(path)
    source.describe()
    source.count()
    found = 0
    for item in islice(source, 20_000):
        if isinstance(item, SourceItem):
            found += 1
            if found <= 20:
                with contextlib.suppress(UnreadableImageError):
                    item.read()
    return ANSWERED if found else REFUSED


def build_from(path: Path, world: World) -> str:
    """Build into a sound index: whatever comes of it, what was there is there still."""
    from index.build import build_index
    from index.reference_index import ReferenceIndex

    index = Path(shutil.copytree(world.small_index, path.parent / "own.index"))
    before = _held(index)
    try:
        report = build_index(path, index)
    finally:
        after = _held(index)
        if not before.items() <= after.items():
            raise Altered("references or occurrences are gone after a build")
        with ReferenceIndex.open(index) as opened:
            if problems := opened.check():
                raise Altered("; ".join(problems))
    return ANSWERED if report.added else REFUSED


def _held(folder: Path) -> dict[str, str]:
    """What an index holds: each reference's occurrences and thumbnail."""
    from index.reference_index import ReferenceIndex

    held = {}
    with ReferenceIndex.open(folder) as index:
        for number in index.reference_ids():
            entry = index.reference(number)
            if entry is not None:
                said = repr([(o.path, o.credits) for o in entry[1]])
                held[entry[0].sha256] = hashlib.sha256(
                    said.encode() + (index.thumbnail(number) or b"")
                ).hexdigest()
    return held


def read_embeddings(path: Path, world: World) -> str:
    """Pair embeddings with their tables and read both."""
    from index.embeddings import find_pairs

    for pair in find_pairs([path]):
        pair.embeddings.read(0, min(pair.embeddings.rows, 100))
        list(islice(pair.table.rows(), 100))
    return ANSWERED


def read_index(path: Path, world: World) -> str:
    """Ask an index everything that a reader can ask; it is as it was afterwards, and so is what lies beside it."""
    from index.reference_index import ReferenceIndex

    before, beside = _digests(path), _digests(path.parent / "outside")
    refusals = 0
    try:
        with ReferenceIndex.open(path) as index:
            asked: list[Callable[[], Any]] = [
                lambda: index.info().to_dict(),
                index.check,
                index.calibration,
                index.rejected,
                index.requests,
                index.imported,
                lambda: list(index.named()),
                lambda: index.find_occurrences(path="artworks", artist="x"),
                lambda: _searched(index, world),
            ]
            for ask in asked:
                try:
                    ask()
                except DetectorError:
                    refusals += 1
    finally:
        if _digests(path.parent / "outside") != beside:
            raise Altered("reading an index changed what is not in it")
        if _digests(path) != before:
            raise Altered("reading an index changed it")
    return REFUSED if refusals else ANSWERED


def _searched(index: Any, world: World) -> None:
    if (
        index.specs != world.detector.index.specs
    ):  # rows of other descriptors: they are asked whether they fit
        index.descriptors()
        return
    for candidate in index.search(world.query):
        index.reference(candidate.reference_id)
        index.thumbnail(candidate.reference_id)


def check_against(path: Path, world: World) -> str:
    """Check a picture against a hostile index, report and all."""
    from detector import Detector

    with Detector.open(path) as detector:
        detector.index.share_descriptors(world.detector.index)
        scan = detector.scan([world.root / QUERY])
        reports = list(scan)
        scan.save_html(path.parent / "report.html")
    return ANSWERED if reports else REFUSED


def write_index(path: Path, world: World) -> str:
    """Write to a hostile index; what lies beside it is as it was."""
    from index.reference_index import ReferenceIndex

    beside = _digests(path.parent / "outside")
    try:
        with ReferenceIndex.open(path, writable=True) as index:
            index.remove(path="nowhere")
            index.compact()
    finally:
        after = _digests(path.parent / "outside")
        if beside != {name: after.get(name, "") for name in beside} or len(after) > len(beside):
            raise Altered("writing to an index changed what is not in it")
    return ANSWERED


def _digests(folder: Path) -> dict[str, str]:
    """Each file of a folder by its digest; SQLite's own files beside a database come and go."""
    found = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.name.endswith(("-wal", "-shm", "-journal")):
            continue
        if path.is_symlink() or not path.is_file():
            found[path.as_posix()] = str(path.lstat().st_mode)
        else:
            found[path.as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def read_found(path: Path, world: World) -> str:
    """Read findings, and write them in every form."""
    from detector.reports.jsonl import findings_line, read_findings

    reports = list(read_findings(path, on_torn=lambda number: None))
    for report in reports:
        findings_line(report)
    pages = ("--html", path.with_suffix(".html"), "--csv", path.with_suffix(".csv"))
    return command("report", path, *pages, *(("--index", world.small_index) if len(reports) % 2 else ()))


def read_settings(path: Path, world: World) -> str:
    """Read what commands are given beside pictures."""
    from detector.audit.log import Log
    from detector.calibrate import read_pairs
    from detector.duplicates import read_drop_list
    from detector.rights import Policy
    from detector.scoring import load_model
    from detector.server.running import read_token

    if path.name == "scoring.json":
        load_model(path)
    elif path.name == "policy.toml":
        Policy.from_file(path)
    elif path.name == "pairs.jsonl":
        list(read_pairs(path))
    elif path.name == "drop.txt":
        read_drop_list(path)
        read_token(path)
    else:
        with Log(path.parent, {"model": {"class": "x"}, "seeds": [1, 2]}):
            pass
    return ANSWERED


def _tower(rng: random.Random, folder: Path, world: World) -> Path:
    tower = Path(shutil.copytree(world.root / TOWER, folder / "tower"))
    weights, config = tower / "open_clip_model.safetensors", tower / "open_clip_config.json"
    if rng.random() < 0.5:
        weights.write_bytes(files.safetensors(rng, weights.read_bytes()))
    else:
        config.write_text(pictures.hostile_json(rng, json.loads(config.read_text())), "utf-8", "replace")
    return tower


def load_tower(path: Path, world: World) -> str:
    """Load a tower as a descriptor."""
    from index import descriptors

    _ = descriptors.create(f"clip:local-dir:{path}", device="cpu").spec
    return ANSWERED


def command(*words: object) -> str:
    """Run the command line in this process.

    Raises:
        AssertionError: It ended in another way than its documentation says.
    """
    from typer.testing import CliRunner

    from detector.cli import app

    ran = CliRunner().invoke(app, [str(word) for word in words])
    if ran.exit_code not in (0, 1, 2) or "error: unexpected" in ran.output or "Traceback" in ran.output:
        raise AssertionError(f"exit code {ran.exit_code}: {ran.output[-2000:]}") from ran.exception
    return REFUSED if ran.exit_code == 2 else ANSWERED


def _any_attack(rng: random.Random, index: Path) -> None:
    rng.choice(list(ATTACKS.values()))(rng, index)


def _any_attack_or_place(rng: random.Random, index: Path) -> None:
    rng.choice([_any_attack, ATTACKS["places"]])(rng, index)


def _any_input(rng: random.Random, folder: Path, world: World) -> Path:
    """Something for the command line: the name of the file says what is done with it."""
    makers = [
        _file(pictures.broken, pictures.told, pictures.two_in_one),
        _files(files.picture_folder),
        _files(files.comma_list, files.json_list, files.tar_shard),
        _files(files.findings),
        _files(files.scoring, files.policy, files.pairs),
        _attacked(rng.choice(list(ATTACKS.values()))),
    ]
    return rng.choice(makers)(rng, folder, world)


def commands_on(path: Path, world: World) -> str:
    """Give an input to the commands that take such."""
    quiet = "--quiet"
    sound, query = world.small_index, world.root / QUERY
    if path.name == "art.index":
        outcomes = [command("index", "info", "--index", path), command("index", "check", "--index", path)]
        return REFUSED if REFUSED in outcomes else ANSWERED
    if path.name == "scoring.json":
        return command("check", query, "--index", sound, "--scoring", path, quiet)
    if path.name == "policy.toml":
        return command("check", query, "--index", sound, "--policy", path, quiet)
    if path.name == "pairs.jsonl":
        return command("calibrate", "--pairs", path, "--out", path.with_suffix(".json"), quiet)
    if path.name == "findings.jsonl":
        return command("artist", "Ann", "--index", sound, "--scans", path, quiet)
    if path.is_dir():
        return command("scan", path, "--index", sound, "--jsonl", path.parent / "found.jsonl", quiet)
    if path.suffix == ".png":
        return command("check", path, "--index", sound)
    return command(
        "index", "build", path, "--out", path.parent / "new.index", "--descriptors", "phash", quiet
    )


def _source(rng: random.Random, folder: Path, world: World) -> Path:
    place = folder / "source"
    place.mkdir()
    files.sample_folder(rng, place)
    makers = [
        files.comma_list,
        files.json_list,
        files.parquet_list,
        files.tar_shard,
    ]
    path = rng.choice(makers)(rng, place)
    return rng.choice([path, place])


KINDS: dict[str, Kind] = {
    "broken": Kind("pictures: bytes flipped, cut, spliced; 12 formats", 30, _file(pictures.broken), look),
    "lying": Kind(
        "pictures: sizes and offsets that lie",
        8,
        _file(pictures.lying_head, pictures.huge_dimensions, pictures.tiff_loop),
        look,
    ),
    "bombs": Kind(
        "pictures: bombs of pixels, text and scans",
        0.15,
        _file(pictures.pixel_bomb, pictures.pixel_bomb, pictures.deflate_bomb, pictures.many_scans),
        look,
    ),
    "frames": Kind("pictures: up to 100,000 frames", 1, _file(pictures.animation), look),
    "blocks": Kind(
        "pictures: EXIF, ICC, XMP, IPTC, C2PA of garbage", 6, _file(pictures.garbage_blocks), look
    ),
    "polyglots": Kind(
        "pictures: two formats in one, other formats, noise",
        5,
        _file(pictures.two_in_one, pictures.random_bytes),
        look,
    ),
    "told": Kind("pictures: what generators write, garbled", 8, _file(pictures.told), look),
    "checked": Kind(
        "all of these, through `Detector.check`",
        3,
        _file(
            pictures.broken,
            pictures.broken,
            pictures.told,
            pictures.two_in_one,
            pictures.lying_head,
            pictures.garbage_blocks,
        ),
        check_picture,
    ),
    "csv": Kind("lists: CSV", 5, _files(files.comma_list), read_source),
    "jsonl": Kind("lists: JSON lines", 5, _files(files.json_list), read_source),
    "parquet": Kind("lists: Parquet", 5, _files(files.parquet_list), read_source),
    "tar": Kind("shards: tar", 6, _files(files.tar_shard), read_source),
    "folders": Kind(
        "folders with links, lists, sidecars and shards", 3, _files(files.picture_folder), read_source
    ),
    "builds": Kind("lists and shards, built into an index that is there", 2, _source, build_from),
    "embeddings": Kind(
        "embeddings of others, with tables", 4, _files(files.embedding_folder), read_embeddings
    ),
    **{
        f"index-{number}": Kind(f"index: {name}", 3, _attacked(attack), read_index)
        for number, (name, attack) in enumerate(ATTACKS.items())
    },
    "index-checked": Kind(
        "index: any part, through a scan and its page", 1, _attacked(_any_attack), check_against
    ),
    "index-written": Kind(
        "index: any part, then written to", 3, _attacked(_any_attack_or_place), write_index
    ),
    "findings": Kind("findings, read and reported", 4, _files(files.findings), read_found),
    "settings": Kind(
        "scoring models, policies, pairs, audit logs, drop lists",
        6,
        _files(files.scoring, files.policy, files.pairs, files.audit_log, files.drop_list),
        read_settings,
    ),
    "towers": Kind("towers: safetensors and configurations", 1, _tower, load_tower),
    "commands": Kind("any of these, through the command line", 2, _any_input, commands_on),
}
"""By a short name."""
