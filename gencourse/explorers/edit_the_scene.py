"""A scene graph that the reader edits, and the network that draws it: boxes, relations, and what becomes of them (slide 127)."""

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from gencourse.adversarial.scene_graph import Generator, SceneGraph
from gencourse.data.graphs import INVERSE, RELATIONS, contradiction, describe, scene_graph, scene_graphs, unpack, without_boxes
from gencourse.data.scenes import BACKGROUND, COLOURS, PALETTE, SHAPES, sample_scenes
from gencourse.explorers import maps
from gencourse.explorers.base import Explorer, pack
from gencourse.explorers.rate_and_distortion import normals
from gencourse.metrics.scenes import relations_right
from gencourse.space import Space
from gencourse.train import cosine, fit
from gencourse.viz.theme import Picture

OFFERED = 4  # the first four relations: left of, right of, above, below
SHOWN = 6  # pictures of one graph, each with its own noise


class EditTheScene(Explorer):
    """Change a relation, a shape or a colour, or swap two objects; the network draws the scene anew, with boxes if one likes.

    A relation is changed with its inverse. What no scene can have is refused, in one sentence, as `gencourse.data.graphs.edit`
    does. Whether each relation is obeyed is read off the picture, by colours, as `gencourse.metrics.scenes.relations_right` does,
    and off the predicted boxes. New noise is another layout of the same graph.

    The network runs in the page, in double precision, with float16 weights: 91 KB with width 32 and 16 channels.

    Args:
        model: a scene-graph network of pictures in colour, trained with relations of place; None takes the one of
            `trained_on_scenes`.
        graph: one graph `(K + T, 7)` to begin with, its colours different; None takes one of a scene
            drawn at random, with different shapes.
        shapes: how many of `SHAPES`, from the first, the model knows.
        seed: of the noise, see `rate_and_distortion.normals`.

    Raises:
        TypeError: if the model is not a scene-graph network.
        ValueError: if the model has no graph convolutions or draws no colours, or the graph does not fit or cannot hold.
    """

    module: ClassVar[Path] = Path(__file__).with_name("edit_the_scene.js")
    helpers: ClassVar[tuple[Path, ...]] = tuple(
        Path(__file__).with_name(f"{name}.js") for name in ("plane", "pixels", "networks", "maps")
    )

    def __init__(self, model: SceneGraph | None = None, graph: Tensor | None = None, *, shapes: int = 3, seed: int = 0) -> None:
        model = trained_on_scenes()[0] if model is None else model
        if not isinstance(model, SceneGraph):
            raise TypeError(f"EditTheScene needs a model of the class SceneGraph, not {type(model).__name__}.")
        if model.space.shape[0] != 3 or model.generator.relation is None:
            raise ValueError(
                f"EditTheScene needs a network of colours with graph convolutions, not one of {model.space} with "
                f"{len(model.generator.convolutions)} of them."
            )
        if not 1 <= shapes <= len(SHAPES):
            raise ValueError(f"EditTheScene: shapes must be in 1..{len(SHAPES)}, not {shapes}.")
        if graph is None:
            some = scene_graph(sample_scenes(50, objects=model.objects, generator=torch.Generator().manual_seed(0)))
            graph = next(one for one in some if len(set(one[: model.objects, 1].tolist())) == min(3, model.objects))
        found = unpack(graph.unsqueeze(0), model.objects)
        colours, relations = found.colour[0].tolist(), found.relation[0].tolist()
        if len(set(colours)) < len(colours) or min(colours) < 0 or max(found.shape[0].tolist()) >= shapes:
            raise ValueError(f"EditTheScene needs objects of different colours and of {shapes} shapes: {describe(graph)}.")
        if not relations or not all(0 <= relation < OFFERED for relation in relations):
            raise ValueError(f"EditTheScene shows the relations {', '.join(RELATIONS[:OFFERED])}: {describe(graph)}.")
        wrong = contradiction(graph)
        if wrong is not None:
            raise ValueError(f"EditTheScene: {wrong}.")
        self.sent = maps.as_sent(model)
        state = {
            "network": _packed(self.sent.generator, model.latent),
            "levels": model.space.levels,
            "names": {
                "shapes": SHAPES[:shapes],
                "colours": COLOURS,
                "relations": RELATIONS[:OFFERED],
                "inverse": INVERSE[:OFFERED],
            },
            "paint": {"palette": PALETTE, "background": BACKGROUND},
            "shown": SHOWN,
            "objects": [list(pair) for pair in zip(found.shape[0].tolist(), colours, strict=True)],
            "triples": [list(t) for t in zip(found.subject[0].tolist(), relations, found.object[0].tolist(), strict=True)],
            "boxes": True,
            "seed": seed % 2**32,
        }
        z = torch.stack([normals(seed + k, model.latent) for k in range(SHOWN)])
        super().__init__(
            state,
            still=_still(self.drawn(graph, z), self.boxes(graph, z))._repr_png_(),
            alt=f"{SHOWN} pictures that a network has drawn of one scene graph, each with other noise, and the boxes that it "
            f"chose: {'; '.join(describe(graph))}.",
        )

    @torch.no_grad()
    def drawn(self, graph: Tensor, z: Tensor) -> Tensor:
        """What the page draws of one graph `(K + T, 7)` at each z `(N, latent)`, in Python: `(N, 3, S, S)` on [-1, 1]."""
        return self.sent.generator(z.double(), without_boxes(graph).expand(len(z), *graph.shape))

    def boxes(self, graph: Tensor, z: Tensor) -> Tensor:
        """The boxes in the page: left, top, right, bottom in [-1, 1], `(N, K, 4)`, float64."""
        return self.sent.boxes(z.double(), without_boxes(graph).expand(len(z), *graph.shape))


def _packed(generator: Generator, latent: int) -> dict[str, Any]:
    """The generator's networks as JSON; the tables of what objects and relations are have a row for each."""
    assert generator.relation is not None
    width, channels = generator.appearance.in_features, generator.appearance.out_features
    sides = [generator.side // 2**k for k in reversed(range(len(generator.refinement)))]
    inputs = [channels * (1 + bool(k)) for k in range(len(sides))]
    tables = {"shape": generator.shape, "colour": generator.colour, "relation": generator.relation}

    def sequence(network: nn.Module, *shape: int) -> list[dict[str, Any]]:
        return maps.packed(network if isinstance(network, nn.Sequential) else nn.Sequential(network), shape)

    return {
        "width": width,
        "latent": latent,
        "side": generator.side,
        "cells": generator.cells,
        **{name: pack(table.weight, torch.float16) for name, table in tables.items()},
        "convolutions": [
            {"triple": sequence(one.triple, 3 * width), "object": sequence(one.object, width)}  # type: ignore[arg-type]
            for one in generator.convolutions
        ],
        "box_head": sequence(generator.box_head, width + latent),
        "mask_head": sequence(generator.mask_head, width),
        "appearance": sequence(generator.appearance, width),
        "refinement": [
            sequence(one, before, side, side) for one, before, side in zip(generator.refinement, inputs, sides, strict=True)
        ],
        "last": sequence(nn.Sequential(generator.last, nn.Tanh()), channels, generator.side, generator.side),
    }


# --- the model that comes with the package ----------------------------------------------------------------------------


def trained_on_scenes() -> tuple[SceneGraph, dict[str, Any]]:
    """A scene-graph network of three objects, and how it came about; float16 weights that come with the package.

    It is the recipe `scenes` of `gencourse.adversarial.scene_graph` with a smaller network, seed 0. To train it again, for half a
    minute of one core:

        python -m gencourse.explorers.edit_the_scene
    """
    with np.load(_WEIGHTS) as file, torch.random.fork_rng(devices=[]):
        run = json.loads(str(file["run"]))
        model = _model()
        model.load_state_dict({name: torch.from_numpy(file[name]).float() for name in model.state_dict()})
    return model.eval(), run


_WEIGHTS = Path(__file__).with_name("scene_graph.npz")
_OPTIONS: dict[str, Any] = {"width": 32, "channels": 16}
_FIT: dict[str, Any] = {"steps": 800, "batch_size": 32, "lr": 2e-3}


def _model() -> SceneGraph:
    torch.manual_seed(0)
    return SceneGraph(Space((3, 16, 16), 256), **_OPTIONS)


def _train() -> None:
    """Write the file of `trained_on_scenes`."""
    dataset = scene_graphs()
    assert dataset.test_labels is not None
    model = _model()
    fit(model, dataset, **_FIT, schedule=cosine, conditional=True, seed=0, device="cpu", progress=False)
    for value in model.state_dict().values():
        value.copy_(value.half())
    x = model.sample(len(dataset.test), dataset.test_labels, generator=torch.Generator().manual_seed(0))
    run = {
        "data": "scene_graphs()",
        "options": _OPTIONS,
        "fit": _FIT | {"schedule": "cosine", "seed": 0},
        "relations right": round(float(relations_right(x, dataset.test_labels).nanmean()), 4),
        "torch": str(torch.__version__),
    }
    np.savez_compressed(
        _WEIGHTS, run=json.dumps(run), **{name: value.half().numpy() for name, value in model.state_dict().items()}
    )
    print(run)


def _still(pictures: Tensor, boxes: Tensor) -> Picture:
    """Pictures `(N, 3, S, S)` on [-1, 1] in a row, with the boxes of their objects."""
    figure = Picture(6.2, 1.15)
    side = pictures.shape[-1]
    for i, (picture, around) in enumerate(zip((pictures + 1) / 2, (boxes + 1) / 2 * side - 0.5, strict=True)):
        axes = figure.add_subplot(1, len(pictures), i + 1)
        axes.imshow(picture.permute(1, 2, 0).numpy(), interpolation="nearest")
        for left, top, right, bottom in around.tolist():
            axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color="white", linewidth=0.8)
        axes.grid(False)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.subplots_adjust(0.01, 0.02, 0.99, 0.98, 0.06, 0.06)
    return figure


if __name__ == "__main__":
    _train()
