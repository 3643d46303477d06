"""One run of an encoder over a folder, ours or imagededup's, as a child process: prints its seconds as JSON.

python -m tests.benchmarks.encoders FOLDER OUT WORKERS NAME [NAME …]   runs these in order, in one process
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import time
from pathlib import Path

HASHES = "hashes"
THUMBNAILS = "hashes, thumbnails"
KEYPOINTS = "hashes, keypoints, thumbnails"
PEER = "imagededup PHash"
OURS = {HASHES: ("pdq", "phash"), THUMBNAILS: ("pdq", "phash"), KEYPOINTS: ("pdq", "phash", "keypoints")}


def encode(name: str, folder: Path, out: Path, workers: int) -> tuple[float, int]:
    """Run one encoder; return seconds without imports, and how many pictures it encoded."""
    if name == PEER:
        from imagededup.methods import PHash

        logging.disable(logging.INFO)
        peer = PHash(verbose=False)
        started = time.perf_counter()
        count = len(peer.encode_images(image_dir=str(folder), num_enc_workers=workers))
        return time.perf_counter() - started, count
    from detector import build_index
    from index.build import BuildOptions

    shutil.rmtree(out, ignore_errors=True)
    options = BuildOptions(thumbnails=name != HASHES, workers=workers)
    started = time.perf_counter()
    report = build_index(folder, out, descriptors=OURS[name], options=options)
    return time.perf_counter() - started, report.occurrences


def main() -> None:
    """Run what is named."""
    folder, out, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    print(json.dumps([[name, *encode(name, folder, out, workers)] for name in sys.argv[4:]]))


if __name__ == "__main__":
    main()
