"""Writes the network of a tower without its weights, for `index.opencv_tower`: `python -m detector.training.graph`.

Run it when the architecture of the bundled tower has changed; new weights of the same architecture need nothing. It
needs the package `onnx` beside what training needs.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import open_clip
import torch

from index.descriptors import create
from index.neural import BUNDLED
from index.opencv_tower import CONFIG, FACTS, GRAPH

OPSET = 17
"""The newest that the exporter and OpenCV 4.9 both know."""


def write_graph(folder: Path) -> None:
    """Write `GRAPH` and `FACTS` of the tower in a folder of open_clip's, into that folder."""
    import onnx

    (folder / FACTS).unlink(missing_ok=True)  # so that open_clip, not OpenCV, says what the spec is
    spec = create(f"clip:local-dir:{folder}", device="cpu").spec
    model = open_clip.create_model_from_pretrained(f"local-dir:{folder}")[0].eval()
    side = spec.preprocessing["size"][0]
    with warnings.catch_warnings():
        # The other exporter folds normalisation into the weights, whose names are then lost.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        torch.onnx.export(
            model.visual,
            (torch.zeros(1, 3, side, side),),
            folder / GRAPH,
            input_names=["pixels"],
            output_names=["row"],
            dynamic_axes={"pixels": {0: "pictures"}, "row": {0: "pictures"}},
            opset_version=OPSET,
            dynamo=False,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
        )
    graph = onnx.load(folder / GRAPH)
    del graph.graph.initializer[:]
    tensors = model.visual.state_dict()
    facts = {
        "config": json.loads((folder / CONFIG).read_text(encoding="utf-8")),
        "preprocessing": spec.preprocessing,
        "tensors": {name: list(tensor.shape) for name, tensor in sorted(tensors.items())},
    }
    (folder / GRAPH).write_bytes(graph.SerializeToString())
    (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_graph(Path(sys.argv[1]) if len(sys.argv) > 1 else BUNDLED)
