"""Makes frozen files of a format with the code that first wrote it. Run once a format; what it made is never edited.

    git worktree add --detach /tmp/old COMMIT
    PYTHONPATH=/tmp/old python tests/data/formats/make.py NAME COMMIT

NAME is one of the functions below marked as a recipe. Beside NAME.zip goes NAME.json: the commit, and the answers that
the old code gave. The pictures are made up by `--pictures`. Further frozen files: scoring.json is detector/scoring.json of
commit cc0afac, the first of this form; audit.jsonl is the log of an audit of samples/tiny-diffusion by commit b25d408
(`detector audit tiny-diffusion --index A.index --limit 2 --seeds 1 --steps 2 --only txt2img`, A.index built of
samples/artworks with pdq and phash); ../index-v1 is an index of commit a65bac6, made before this script.
"""

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
QUERIES = ("queries/again.jpg", "queries/part.png", "queries/other.png")
EPOCH = (2026, 11, 21, 0, 0, 0)


def draw(seed, side=192):
    """A picture of overlapping shapes on a gradient."""
    import numpy as np
    from PIL import Image, ImageDraw

    random = np.random.default_rng(seed)
    image = Image.new("RGB", (side, side), tuple(int(v) for v in random.integers(0, 256, 3)))
    pen = ImageDraw.Draw(image)
    for number in range(45):
        x, y = (int(v) for v in random.integers(-20, side, 2))
        w, h = (int(v) for v in random.integers(8, 70, 2))
        colour = tuple(int(v) for v in random.integers(0, 256, 3))
        (pen.ellipse if number % 3 else pen.rectangle)((x, y, x + w, y + h), fill=colour)
    return image


def pictures():
    """Four works with credits, and three queries: one re-encoded, a part of another, one that is none of them."""
    works, queries = HERE / "works", HERE / "queries"
    works.mkdir()
    queries.mkdir()
    lines = ["file_name,artist,title,licence,source,caption"]
    for seed in range(4):
        draw(seed).save(works / f"{seed}.png", optimize=True)
        artist = ("Ann Artist", "Bea Brush")[seed % 2]
        lines.append(f"{seed}.png,{artist},Shapes {seed},CC-BY-4.0,https://example.org/{seed},shapes number {seed}")
    (works / "metadata.csv").write_text("\n".join(lines) + "\n")
    draw(0).resize((160, 160)).save(queries / "again.jpg", quality=60)
    draw(1).crop((20, 30, 170, 180)).save(queries / "part.png", optimize=True)
    draw(99).save(queries / "other.png", optimize=True)


def detector(*words):
    done = subprocess.run([sys.executable, "-m", "detector", *map(str, words)], capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{words}: {done.stderr}")


def build(*more):
    detector("index", "build", "works", "--out", "art.index", *more)
    detector("scan", "queries", "--index", "art.index", "--jsonl", "findings.jsonl")


# Recipes: each leaves art.index and findings.jsonl in the working folder.


def first():
    """Schema 1: hashes and local features, by code that had no command line yet."""
    from detector import Detector, build_index

    build_index("works", "art.index")
    with Detector.open("art.index") as opened:
        opened.scan("queries", jsonl="findings.jsonl")


def squares():
    """Schema 1 with the bundled tower, rows of middle squares and of windows."""
    build("--regions")


def requests():
    """Schema 2: a removal request that waits, and an erased picture that later builds pass over."""
    from index.requests import file_request

    build("--descriptors", "pdq,phash")
    detector("index", "remove", "--index", "art.index", "--path", "works/3.png", "--erase", "--yes")
    detector("scan", "queries", "--index", "art.index", "--jsonl", "findings.jsonl")
    digest = json.loads(Path("findings.jsonl").read_text().splitlines()[0])["matches"][0]["reference"]["sha256"]
    file_request("art.index", [digest], name="Ann Artist", contact="ann@example.org", statement="Please.")


def imported():
    """Embeddings alone, as `import-embeddings` writes them."""
    import numpy as np
    from index.images import read_image
    from index.neural import ClipDescriptor

    paths = [Path("works") / f"{number}.png" for number in range(4)]
    np.save("rows.npy", np.concatenate(ClipDescriptor("bundled").describe([read_image(p) for p in paths])))
    lines = ["image_path,url,caption", *(f"{p},https://example.org/{p.stem},shapes" for p in paths)]
    Path("rows.csv").write_text("\n".join(lines) + "\n")
    detector(
        "index", "import-embeddings", "rows.npy", "--metadata", "rows.csv", "--model", "bundled", "--out", "art.index"
    )
    detector("scan", "queries", "--index", "art.index", "--jsonl", "findings.jsonl")


def sketches():
    """Sketches beside the tower's rows, as `index optimize` keeps them."""
    from index import optimizing
    from index.sketches import Measured

    build("--descriptors", "phash,clip:bundled")
    # Four rows are searched exactly by themselves: say that sketches were faster, so that they are kept.
    optimizing._tuned = lambda sketched, rows, asked, target: (64, Measured(1.0, len(asked), 1.0, 2.0))
    (made,) = optimizing.optimize("art.index", target_recall=0.5, min_rows=1)
    detector("scan", "queries", "--index", "art.index", "--jsonl", "findings.jsonl")


def answers():
    """What the old code found: for each query its verdict, level, and the digest of the work of its best match."""
    found = {}
    for line in Path("findings.jsonl").read_text().splitlines():
        values = json.loads(line)
        best = [[m["reference"]["sha256"], m["level"]] for m in values["matches"][:1]]
        found[values["query"]] = {"verdict": values["verdict"], "level": values["level"], "best": best}
    return found


def freeze(name, commit):
    with tempfile.TemporaryDirectory() as folder:
        for part in ("works", "queries"):
            subprocess.run(["cp", "-r", HERE / part, folder], check=True)
        os.chdir(folder)
        RECIPES[name]()
        with zipfile.ZipFile(HERE / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted([*Path("art.index").rglob("*"), Path("findings.jsonl")]):
                if path.is_file() and not path.name.startswith("writer.lock") and path.suffix != ".lock":
                    entry = zipfile.ZipInfo(path.as_posix(), EPOCH)
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    archive.writestr(entry, path.read_bytes())
        text = json.dumps({"commit": commit, "recipe": RECIPES[name].__doc__, "answers": answers()}, indent=1)
        (HERE / f"{name}.json").write_text(text + "\n")


RECIPES = {f.__name__: f for f in (first, squares, requests, imported, sketches)}

if __name__ == "__main__":
    if sys.argv[1:] == ["--pictures"]:
        pictures()
    else:
        freeze(*sys.argv[1:])
