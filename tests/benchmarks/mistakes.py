"""The plain mistakes of a newcomer's first hour, the folder they are made in, and what a good answer to one is.

A table of lines as somebody would type them, of exit codes, and of words that the answer holds. The test
`test_first_hour.py` runs them in one process; part `first_hour` of the benchmark runs each as a process of its own.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from index.build import build_index
from index.reference_index import ReferenceIndex

SAMPLES = Path(__file__).resolve().parents[2] / "samples"

# What lies in the folder: A artworks, G a picture that replicates one, N one that does not, I an index of A, S one
# of all samples with hashes alone; the rest has its name from what is wrong with it. LONG is a name that no file system
# takes.
MISTAKES: list[tuple[str, int, str]] = [
    # A command or an option that is not there, or not as it should be
    ("scann G --index I", 2, "Did you mean 'scan'"),
    ("index biuld A --out X", 2, "Did you mean 'build'"),
    ("index requests lst --index I", 2, "list"),
    ("--nope", 2, "No such option"),
    ("version x", 2, "extra argument"),
    ("demo x", 2, "extra argument"),
    ("doctor I", 2, "extra argument"),
    ("doctor --indx I", 2, "--index"),
    ("scan", 2, "PATH"),
    ("scan G", 2, "--index"),
    ("scan G --indx I", 2, "--index"),
    ("scan G --index", 2, "requires an argument"),
    ("check", 2, "IMAGE"),
    ("check G/copy.png", 2, "--index"),
    ("report", 2, "FINDINGS"),
    ("index build", 2, "SRC"),
    ("index build A", 2, "--out"),
    ("index add A", 2, "--index"),
    ("index remove", 2, "--index"),
    ("index info", 2, "--index"),
    ("index check", 2, "--index"),
    ("index compact", 2, "--index"),
    ("index optimize", 2, "--index"),
    ("index import-embeddings", 2, "Missing argument"),
    ("index requests show", 2, "Missing"),
    ("index requests accept", 2, "Missing"),
    ("index requests decline", 2, "Missing"),
    ("duplicates", 2, "--index"),
    ("artist Abara", 2, "--index"),
    ("audit", 2, "PIPELINE"),
    ("serve", 2, "--index"),
    ("calibrate", 2, "needs --index"),
    ("train", 2, "--images"),
    # Wrong values
    ("scan G --index I --fail-on 7", 2, "1, 2, 3, 4 or 5, or never"),
    ("scan G --index I --fail-on high", 2, "--fail-on high"),
    ("check G/copy.png --index I --fail-on 0", 2, "--fail-on 0"),
    ("scan G --index I --limit -1", 2, "--limit"),
    ("scan G --index I --limit many", 2, "--limit"),
    ("scan G --index I --workers -3", 2, "--workers"),
    ("scan G --index I --workers two", 2, "--workers"),
    ("scan G --index I --device gpu", 2, "It has cpu"),
    ("scan G --index I --allow-licence ''", 2, "SPDX"),
    ("scan G --index I --allow-licence artist:", 2, "artist:NAME"),
    ("scan G --index I --allow-licence CC-BUY", 2, "CC-BUY"),
    ("scan G --index I --resume", 2, "--jsonl"),
    ("index build A --out X --descriptors pqd", 2, "Known: pdq, phash"),
    ("index build A --out X --descriptors clip", 2, "clip:bundled"),
    ("index build A --out X --descriptors clip:bundel", 2, "clip:MODEL/TAG"),
    ("index build A --out X --descriptors clip:ViT-B-32/laion2b", 2, "Nearest: laion2b"),
    ("index build A --out X --descriptors clip:ViT-B-33/openai", 2, "Nearest: ViT-B-32"),
    ("index build A --out X --descriptors clip:local-dir:A", 2, "open_clip_config.json"),
    ("index build A --out X --descriptors sscd:file.txt", 2, "TorchScript"),
    ("index build A --out X --descriptors sscd:A", 2, "there is no file A"),
    ("index build A --out X --batch-size 0", 2, "--batch-size"),
    ("index build A --out X --max-pixels 0", 2, "--max-pixels"),
    ("index build A --out X --device tpu", 2, "no device tpu"),
    ("index optimize --index S --target-recall 2", 2, "0.99"),
    ("index optimize --index S --memory lots", 2, "500MB"),
    ("index requests list --index I --state opn", 2, "open, accepted, declined"),
    ("index requests show zz --index I", 2, "detector index requests list"),
    ("index requests accept zz --index I --yes", 2, "detector index requests list"),
    ("index requests decline zz --index I", 2, "--reason TEXT"),
    ("duplicates --index I --keep newest", 2, "'best' or 'first'"),
    ("duplicates --index I --limit -2", 2, "--limit"),
    ("artist --index I", 2, "Give your name"),
    ("artist '' --index I", 2, "Give your name"),
    ("audit A --index S --only nothing", 2, "Parts: txt2img"),
    ("audit A --index S --strengths 3", 2, "at most 1"),
    ("audit A --index S --strengths x", 2, "0.2,0.4"),
    ("audit A --index S --dtype int4", 2, "float32, float16"),
    ("audit A --index S --seeds 0", 2, "--seeds is 0"),
    ("audit A --index S --steps 0", 2, "--steps is 0"),
    ("audit A --index S --size 7", 2, "16 or more"),
    ("serve --index I --port 99999", 2, "--port"),
    ("serve --index I --host 0.0.0.0", 2, "--token-file"),
    ("serve --index I --rate -1", 2, "--rate"),
    ("calibrate --index S --plot x.png", 2, "Add --pairs"),
    ("calibrate --index S --out other.json", 2, "Add --pairs"),
    ("calibrate --pairs list.csv", 2, "need --index"),
    ("train --images A --out X --minutes -1", 2, "above 0"),
    ("train --images A --out X --steps 0", 2, "above 0"),
    ("train --images A --out X --batch 1", 2, "8 or more"),
    # What is not there
    ("scan nothere --index I", 2, "nothere does not exist"),
    ("scan '' --index I", 2, "a dot"),
    ("scan - --index I", 2, "Name a folder"),
    ("scan LONG --index I", 2, "File name too long"),
    ("scan ~nobody/x --index I", 2, "does not exist"),
    ("scan 'G\\copy.png' --index I", 2, "does not exist"),
    ("scan https://example.org/a.jpg --index I", 2, "download it first"),
    ("scan loop --index I", 2, "does not exist"),
    ("scan G --index nothere", 2, "detector index build PICTURES --out nothere"),
    ("scan G --index ''", 2, "is no index"),
    ("scan G --index LONG", 2, "File name too long"),
    ("scan G --index loop", 2, "symbolic links"),
    ("scan G --index nothere.db", 2, "detector index build"),
    ("scan G --index milvus://", 2, "milvus://host:19530/collection"),
    ("scan G --index milvus://127.0.0.1:1/x", 2, "Check the address"),
    ("scan G --index I --policy nothere.toml", 2, "check --policy"),
    ("scan G --index I --scoring nothere.json", 2, "detector calibrate --pairs"),
    ("check nothere.png --index I", 2, "Name a picture file"),
    ("check loop --index I", 2, "Name a picture file"),
    ("report nothere.jsonl", 2, "detector scan … --jsonl FILE"),
    ("report loop", 2, "leads to itself"),
    ("report empty.jsonl --index nothere", 2, "detector index build"),
    ("index build nothere --out X", 2, "does not exist"),
    ("index build '' --out X", 2, "is empty"),
    ("index build - --out X", 2, "does not exist"),
    ("index build loop --out X", 2, "does not exist"),
    ("index build 'shards/*.tar' --out X", 2, "does not exist"),
    ("index build https://example.org --out X", 2, "download it first"),
    ("index build list2.csv --out X", 2, "nothere.jpg"),
    ("index add nothere --index I", 2, "does not exist"),
    ("index add A --index nothere", 2, "detector index build"),
    ("index remove --index nothere --path A --yes", 2, "no such index"),
    ("index info --index nothere", 2, "no such index"),
    ("index check --index nothere", 2, "no such index"),
    ("index compact --index nothere", 2, "no such index"),
    ("index optimize --index nothere", 2, "no such index"),
    ("index requests list --index nothere", 2, "no such index"),
    ("index import-embeddings nothere --model ViT-B-32/openai --out X", 2, "Name a .npy file"),
    ("index import-embeddings rows.npy --model ViT-B-32/openai --out X", 2, "--metadata"),
    ("duplicates --index nothere", 2, "no such index"),
    ("artist Abara --index nothere", 2, "no such index"),
    ("artist --works nothere --index I", 2, "nothere"),
    ("artist Abara --index I --scans nothere.jsonl", 2, "does not exist"),
    ("audit nothere --index S", 2, "no such folder"),
    ("audit TINY --index nothere", 2, "no such index"),
    ("audit TINY --index S --controls nothere", 2, "does not exist"),
    ("audit TINY --index S --works nothere.csv", 2, "is no file"),
    ("audit TINY --index S --lora nothere", 2, "no such file or folder"),
    ("serve --index nothere", 2, "no such index"),
    ("serve --index I --token-file nothere", 2, "cannot be read"),
    ("serve --index I --scans nothere.jsonl", 2, "does not exist"),
    ("calibrate --index nothere", 2, "no such index"),
    ("calibrate --pairs nothere.csv --index I", 2, "Name a CSV"),
    ("train --images nothere --out X", 2, "does not exist"),
    ("train --images A --out X --init nothere", 2, "Name a folder that detector train wrote"),
    # A folder for a file, a file for a folder, a file of another kind
    ("scan file.txt --index I", 2, "not a picture"),
    ("scan pipe --index I", 2, "pipe or device"),
    ("scan /dev/zero --index I", 2, "pipe or device"),
    ("scan G --index file.txt", 2, "not an index folder"),
    ("scan G --index I/manifest.json", 2, "not an index folder"),
    ("scan G --index junk.db", 2, "another kind"),
    ("scan G --index I --html A", 2, "A/report.html"),
    ("scan G --index I --csv A", 2, "A/findings.csv"),
    ("scan G --index I --jsonl A", 2, "A/findings.jsonl"),
    ("scan G --index I --html /dev/null", 2, "device or pipe"),
    ("scan G --index I --html loop", 2, "leads to itself"),
    ("scan G --index I --policy A", 2, "Is a directory"),
    ("scan G --index I --policy broken.toml", 2, "is not TOML"),
    ("scan G --index I --policy typo.toml", 2, "did you mean allow"),
    ("scan G --index I --scoring A", 2, "Is a directory"),
    ("scan G --index I --scoring file.txt", 2, "scoring model"),
    ("check G --index I", 2, "detector scan G"),
    ("check file.txt --index I", 2, "not a picture"),
    ("check pipe --index I", 2, "pipe or device"),
    ("report A", 2, "Is a directory"),
    ("report G/copy.png", 2, "is not JSON"),
    ("report file.txt", 2, "detector scan --jsonl"),
    ("index build file.txt --out X", 2, "a list (.csv"),
    ("index build pipe --out X", 2, "neither a file nor a folder"),
    ("index build list.csv --out X", 2, "--path-column"),
    ("index build broken.tar --out X", 2, "not a tar"),
    ("index build broken.parquet --out X", 2, "Write it anew"),
    ("index build broken.jsonl --out X", 2, "--path-column"),
    ("index build A --out file.txt", 2, "Name a folder for the index"),
    ("index build A --out loop", 2, "leads to itself"),
    ("index add A --index A", 2, "is no index"),
    ("index compact --index junk.db", 2, "index folders"),
    ("index import-embeddings A --model ViT-B-32/openai --out X", 2, "Name a .npy file"),
    ("index import-embeddings rows.npy --metadata list.csv --model ViT-B-32/openai --out X", 2, "np.save"),
    ("duplicates --index I --drop A", 2, "A/drop.txt"),
    ("artist Abara --index I --bundle A", 2, "A/evidence.zip"),
    ("artist Abara --index I --scans A", 2, "detector scan"),
    ("artist Abara --index I --scans file.txt", 2, "is not JSON"),
    ("audit A --index S", 2, "pipeline.save_pretrained"),
    ("audit file.txt --index S", 2, "from_single_file"),
    ("audit TINY --index S --works list.csv", 2, "file_name, caption"),
    ("audit TINY --index S --out file.txt", 2, "Name a folder"),
    ("serve --index A", 2, "is no index"),
    ("serve --index I --token-file A", 2, "cannot be read"),
    ("serve --index I --scans file.txt", 2, "is not JSON"),
    ("calibrate --pairs list.csv --index I", 2, "query, reference, label"),
    ("calibrate --pairs file.txt --index I --out s.json", 2, "label is 1 for a copy"),
    ("calibrate --pairs list.csv --index I --out A", 2, "is a folder"),
    ("train --images A --out file.txt", 2, "Name a folder"),
    # Empty: folders, files, indexes
    ("scan empty --index I", 2, "no picture found"),
    ("report empty.jsonl", 2, "detector scan"),
    ("index build empty --out X", 2, "no picture found"),
    ("index build I --out X", 2, "no picture found"),
    ("index build junk --out X", 2, "nothing to search"),
    ("index add empty --index I", 2, "no picture found"),
    ("index remove --index I --artist '' --yes", 2, "--path, --artist or --source-contains"),
    ("scan G --index hollow", 2, "detector index add PICTURES --index hollow"),
    ("check G/copy.png --index hollow", 2, "detector index add PICTURES --index hollow"),
    ("scan junk --index I", 2, "the file is empty"),
    ("artist --works empty --index I", 2, "no picture found"),
    ("artist --works junk --index I", 2, "the file is empty"),
    ("audit TINY --index S --controls empty", 2, "holds no picture"),
    ("serve --index I --token-file void", 2, "Write one line"),
    ("train --images empty --out X", 2, "32 or more"),
    ("train --images A --out X", 2, "32 or more"),
    # Where nothing can be written
    ("scan G --index I --html nothere/x.html", 2, "Make it first"),
    ("scan G --index I --csv nothere/x.csv", 2, "Make it first"),
    ("scan G --index I --csv I/x.csv", 2, "inside the index"),
    ("scan G --index I --html LONG.html", 2, "File name too long"),
    ("scan G --index I --html x --csv x", 2, "Name another one"),
    ("index build A --out A", 2, "is the folder of pictures itself"),
    ("index build A --out file.txt/X", 2, "cannot be written"),
    ("index build A --out LONG", 2, "File name too long"),
    ("index build A --out X.db/1bad", 2, "letters, digits"),
    # Indexes and files that are damaged, or of a newer format
    *((f"{command} --index newer", 2, "pip install -U") for command in ("scan G", "check G/copy.png", "index info")),
    *((f"index {command} --index newer", 2, "pip install -U") for command in ("add A", "check", "compact", "optimize")),
    *((f"{command} --index newcat", 2, "pip install -U") for command in ("duplicates", "artist Abara", "serve")),
    ("calibrate --index newcat", 2, "pip install -U"),
    ("index build A --out newcat", 2, "pip install -U"),
    ("index requests list --index newcat", 2, "pip install -U"),
    ("scan G --index nocat", 2, "Restore it"),
    ("scan G --index badcat", 2, "build the index anew"),
    ("index check --index badcat", 2, "build the index anew"),
    ("index build A --out badcat", 2, "build the index anew"),
    ("scan G --index badman", 2, "build the index anew"),
    ("index info --index badman", 2, "build the index anew"),
    ("scan G --index noseg", 2, "detector index check --index noseg"),
    ("index check --index noseg", 2, "is missing"),
    ("index compact --index noseg", 2, "detector index check"),
    ("duplicates --index noseg", 2, "detector index check"),
    ("report newer.jsonl", 2, "pip install -U"),
    ("scan G --index I --policy newer.toml", 2, "pip install -U"),
    ("scan G --index I --scoring newer.json", 2, "pip install -U"),
]  # fmt: skip

# What is no mistake, though it may look like one: code, and what the answer holds.
FINE: list[tuple[str, int, str]] = [
    ("scan G N junk --index I --quiet", 1, "1 of 4"),
    ("scan N --index I", 0, "no match in this index"),
    ("scan . --index I --limit 0", 1, "replicate"),
    ("scan G/copy.png G/copy.png --index I", 1, "The generated picture replicates"),
    ("check 'odd names/a copy.png' --index I", 1, "Partial copy"),
    ("scan 'odd names' --index I", 1, "replicate"),
    ("index remove --index S --artist Nobody --yes", 0, "0 occurrences"),
    ("artist 'Nobody Known' --index S", 0, "No work under this name"),
    ("index add junk --index I", 0, "2 files could not be used"),
    ("index info --index I", 0, "references"),
    ("index check --index I", 0, "as it was committed"),
    ("index requests list --index I", 0, "no removal requests"),
    ("version", 0, "detector 0."),
    ("--version", 0, "detector 0."),
]


def make_place(folder: Path) -> None:
    """Fill an empty folder with what the lines speak of."""
    for name in ("A", "G", "N", "empty", "junk", "odd names"):
        (folder / name).mkdir()
    for name in ("stained-glass-3.webp", "poster-2.jpg", "city-3.jpg"):
        shutil.copy(SAMPLES / "artworks" / name, folder / "A")
    shutil.copy(SAMPLES / "edited" / "0024.png", folder / "G" / "copy.png")
    shutil.copy(SAMPLES / "edited" / "0024.png", folder / "odd names" / "a copy.png")
    shutil.copy(SAMPLES / "edited" / "0005.jpg", folder / "N")
    (folder / "junk" / "a.jpg").write_bytes(b"no picture")
    for name in ("junk/b.png", "void", "empty.jsonl"):
        (folder / name).write_bytes(b"")
    for name in ("file.txt", "broken.tar", "broken.parquet", "rows.npy"):
        (folder / name).write_text("my notes\n", encoding="utf-8")
    texts = {
        "broken.jsonl": "{\n",
        "broken.toml": "allow = [\n",
        "junk.db": "no database\n",
        "list.csv": "a,b\n1,2\n",
        "list2.csv": "path\nnothere.jpg\n",
        "newer.json": '{"format_version": 99}',
        "newer.jsonl": '{"format_version": 99}\n',
        "newer.toml": "format_version = 99\n",
        "typo.toml": 'alow = ["CC0-1.0"]\n',
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    build_index(folder / "A", folder / "I")
    build_index(SAMPLES / "artworks", folder / "S", descriptors=["pdq", "phash"])
    for name in ("newer", "newcat", "nocat", "badcat", "badman", "noseg", "hollow"):
        shutil.copytree(folder / "I", folder / name)
    manifest = folder / "newer" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format_version": 99}))
    with closing(sqlite3.connect(folder / "newcat" / "catalog.sqlite")) as catalogue:
        catalogue.execute("PRAGMA user_version = 99")
    (folder / "nocat" / "catalog.sqlite").unlink()
    (folder / "badcat" / "catalog.sqlite").write_bytes(b"garbage" * 100)
    (folder / "badman" / "manifest.json").write_text("{nope")
    (folder / "noseg" / "vectors" / "pdq-000001.npy").unlink()
    with ReferenceIndex.open(folder / "hollow", writable=True) as index:
        index.remove(path=str(folder / "A"), erase=True)
        assert len(index) == 0


def words_of(line: str) -> list[str]:
    """Return the arguments that a line of the tables stands for."""
    tiny = shlex.quote(str(SAMPLES / "tiny-diffusion"))
    return shlex.split(line.replace("LONG", "x" * 300).replace("TINY", tiny))


def complaints(line: str, code: int, words: str, *, ended: int | None, said: str) -> list[str]:
    """Return what is wrong with an answer to a line of `MISTAKES` or `FINE`; nothing for a good one.

    Args:
        line: As in the table, with the `code` and `words` beside it.
        ended: The exit code.
        said: All that was printed, on both streams.
    """
    wrong = plain_complaints(code, words, ended=ended, said=said)
    said = in_one_line(said)
    if (line, code, words) in MISTAKES:
        if "Next: detector scan" in said:
            wrong.append("goes on as if all were well")
        general = ("Missing", "extra argument", "nothing to look up", "x" * 40)
        named = any(word.strip("'").split("/")[0] in said for word in line.split())
        if not named and not any(word in said for word in general):
            wrong.append("names nothing of the line")
    return wrong


def plain_complaints(code: int, words: str, *, ended: int | None, said: str) -> list[str]:
    """Return what is wrong with an answer to any line: a traceback, another exit code, words that are missing."""
    said = in_one_line(said)
    wrong = []
    if "Traceback" in said or "unexpected " in said.replace("unexpected extra argument", ""):
        wrong.append("a traceback")
    if ended != code:
        wrong.append(f"exit code {ended}, not {code}")
    if words not in said:
        wrong.append(f"does not say {words!r}")
    return wrong


def in_one_line(said: str) -> str:
    """Return what was printed without frames and line breaks."""
    return " ".join(said.replace("│", " ").split())
