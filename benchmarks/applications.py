"""What each part of a translator is for: its variants, trained on drawn scenes and read by readers. The data of chapter 16.

    python benchmarks/applications.py                                        one seed, seven minutes on one core
    python benchmarks/applications.py --seeds 3 --out gencourse/records/16-applications.json      twenty minutes on one core
    python benchmarks/applications.py --only text,scene                      some of the applications

Every variant is trained by the recipe of its model, one thing changed, from `--seeds` seeds: the seed draws the weights and the
batches; the data are the same. Each record is one run: application, variant, seed, and what the readers say of the test set.
Runs that are there already are not made again. All variants of one seed come before the next seed.

- pix2pix, colours, enlarge: `inside` is the share of the inner pixels that are near the best right answer, `whole` that of the
  pictures whose inside is right, `used` the number of answers used over the test set, `modes` and `movement` what the noise does
  to one source, `l1` the mean absolute error on [-1, 1].
- cyclegan: errors on [-1, 1] against the known partners and after both cycles, and how often the shape is kept.
- text: which facts are right, for captions of the test set and for held-out pairs, and what is read between two captions.
- scene: relations right, objects seen, how far z moves the boxes, and what becomes of graphs with one relation changed.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gencourse import records
from gencourse.adversarial import cyclegan, pix2pix, scene_graph, text_to_image
from gencourse.adversarial.cyclegan import CycleGAN
from gencourse.adversarial.pix2pix import Pix2Pix
from gencourse.adversarial.scene_graph import SceneGraph
from gencourse.adversarial.text_to_image import TextToImage, read_between
from gencourse.data.captions import caption, facts, held_out_scenes
from gencourse.data.graphs import RELATIONS, contradiction, edit, unpack
from gencourse.data.scenes import SceneDataset, Scenes, draw_outlines, draw_scenes, outlines_to_filled
from gencourse.metrics.scenes import Fills, facts_right, fills, objects_seen, relations_right, striped
from gencourse.space import Space
from gencourse.train import fit

ENDS = (("square", "green", "large", "top left"), ("triangle", "yellow", "small", "bottom right"))  # of the way between captions
BETAS = torch.linspace(0, 1, 9)

#: What is changed in the recipe: the model's options, and under "fit" those of its training.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "pix2pix": {
        "L1 and game": {},
        "L1 alone": {"gan": 0.0},
        "game alone": {"l1": 0.0},
        "patch 1": {"patch": ((1, 1), (1, 1), (1, 1))},
        "patch 4": {"patch": ((4, 2), (1, 1), (1, 1))},
    },
    "cyclegan": {
        "full": {},
        "no identity": {"identity": 0.0},
        "games alone": {"cycle": 0.0, "identity": 0.0},
        "cycle alone": {"gan": 0.0, "identity": 0.0},
    },
    "scene": {"two convolutions": {}, "none": {"layers": 0}},
    "text": {
        "wrong captions, 750 steps": {"fit": {"steps": 750}},
        "no wrong captions, 750 steps": {"cls": False, "fit": {"steps": 750}},
        "wrong captions": {},
    },
    "colours": {"L1 and game": {}, "L1 alone": {"gan": 0.0}},
    "enlarge": {"L1 and game": {}, "L1 alone": {"gan": 0.0}},
}


# --- data of the two small cases --------------------------------------------------------------------------------------


def with_sources(data: SceneDataset, make: Callable[[Tensor], Tensor]) -> SceneDataset:
    """The same pictures, with what `make` leaves of each of them as its source."""
    return dataclasses.replace(data, **{f"{part}_labels": make(getattr(data, part)) for part in ("train", "valid", "test")})


def grey(x: Tensor) -> Tensor:
    """Pictures in colour `(N, 3, S, S)` as a grey film sees them, uint8 `(N, 1, S, S)`: the usual weights of luminance."""
    return (x.float() * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True).round().to(torch.uint8)


def small(x: Tensor) -> Tensor:
    """Pictures at a quarter of their sides: the mean of every four by four pixels."""
    return F.avg_pool2d(x.float(), 4).round().to(torch.uint8)


def coloured(n: int = 8000) -> SceneDataset:
    """Shapes in four colours, to be told from their grey pictures."""
    return with_sources(outlines_to_filled(16, fill="four colours", n=n), grey)


def enlarged(n: int = 8000) -> SceneDataset:
    """Striped shapes of 16 pixels, to be told from their pictures of 4 pixels: four phases look alike there."""
    return with_sources(outlines_to_filled(16, fill="stripes", n=n), small)


# --- what the readers say ---------------------------------------------------------------------------------------------


def error(y: Tensor, x: Tensor) -> float:
    """The mean absolute difference of pictures on 256 levels, on [-1, 1]."""
    return float((y.float() - x.float()).abs().mean()) / 127.5


def judge_fills(model: Pix2Pix, data: SceneDataset, read: Callable[[Tensor, Scenes], Fills]) -> dict[str, Any]:
    assert data.test_labels is not None
    y = model.sample(len(data.test), data.test_labels, generator=torch.Generator().manual_seed(0))
    found = read(y, data.test_scenes)
    variety = model.variety(data.test_labels[:50], generator=torch.Generator().manual_seed(0))
    return {
        "inside": float(found.inside.mean()),
        "whole": float(found.whole.double().mean()),
        "ground": float(found.ground.mean()),
        "used": found.modes,
        "modes": float(variety.modes.double().mean()),
        "movement": float(variety.movement.mean()),
        "l1": error(y, data.test),
    }


def judge_pix2pix(model: Pix2Pix, data: SceneDataset) -> dict[str, Any]:
    return judge_fills(model, data, striped)


def judge_colours(model: Pix2Pix, data: SceneDataset) -> dict[str, Any]:
    """By true colour, too: red and blue have the same grey."""
    assert data.test_labels is not None
    y = model.sample(len(data.test), data.test_labels, generator=torch.Generator().manual_seed(0))
    found, colour = fills(y, data.test_scenes), data.test_scenes.colour[:, 0]
    right, alike = found.whole & (found.choice == colour), (colour == 0) | (colour == 2)
    more = {
        "told, right": float(right[~alike].double().mean()),
        "alike, a colour": float((found.whole & ((found.choice == 0) | (found.choice == 2)))[alike].double().mean()),
        "alike, red": float((found.whole & (found.choice == 0))[alike].double().mean()),
        "grey": error(grey(y), grey(data.test)),
    }
    return judge_fills(model, data, fills) | more


def judge_enlarge(model: Pix2Pix, data: SceneDataset) -> dict[str, Any]:
    """And how far the enlarged pictures, made small again, are from what was given."""
    assert data.test_labels is not None
    y = model.sample(len(data.test), data.test_labels, generator=torch.Generator().manual_seed(0))
    return judge_fills(model, data, striped) | {"small again": error(small(y), data.test_labels)}


def kept(y: Tensor, scenes: Scenes, draw: Callable[[Scenes], Tensor]) -> float:
    """How often the nearest of the three shapes, at the known place and size, is the true one."""
    drawn = [draw(dataclasses.replace(scenes, shape=torch.full_like(scenes.shape, k))).float() for k in range(3)]
    away = torch.stack([(y.float() - one).abs().mean((1, 2, 3)) for one in drawn], 1)
    return float((away.argmin(1) == scenes.shape[:, 0]).double().mean())


def judge_cyclegan(model: CycleGAN, data: SceneDataset) -> dict[str, Any]:
    x, y, scenes = data.test, data.test_labels, data.test_scenes
    assert y is not None
    to_b, to_a = model.translate(x), model.back(y)
    return {
        "to outlines": error(to_b, y),
        "to filled": error(to_a, x),
        "cycle of filled": error(model.back(to_b), x),
        "cycle of outlines": error(model.translate(to_a), y),
        "left as it is": error(x, y),
        "kept, to outlines": kept(to_b, scenes, draw_outlines),
        "kept, to filled": kept(to_a, scenes, lambda some: draw_scenes(some, grey=True)),
    }


def judge_text(model: TextToImage, data: SceneDataset) -> dict[str, Any]:
    assert data.test_labels is not None
    _, unseen = held_out_scenes(500, generator=torch.Generator().manual_seed(1))
    found: dict[str, Any] = {}
    for name, tokens in (("seen", data.test_labels), ("unseen", unseen)):
        right = facts_right(model.sample(len(tokens), tokens, generator=torch.Generator().manual_seed(0)), facts(tokens))
        found[name] = [round(value, 4) for value in right.double().mean(0).tolist()]
        found[f"{name}, all"] = float(right.all(1).double().mean())
    first, second = (caption(*ends) for ends in ENDS)
    between = read_between(model, first, second, BETAS, generator=torch.Generator().manual_seed(0))
    return found | {"between": [[[round(v, 3) for v in fact] for fact in row] for row in between.tolist()]}


def judge_scene(model: SceneGraph, data: SceneDataset, n: int = 100) -> dict[str, Any]:
    """A change that can be made is made in each of `n` graphs, triple by triple, and those that contradict are drawn too."""
    graphs = data.test_labels
    assert graphs is not None

    def draw(some: Tensor) -> Tensor:
        return model.sample(len(some), some, generator=torch.Generator().manual_seed(0))

    y = draw(graphs)
    z = model.draw_latent(16, generator=torch.Generator().manual_seed(0))
    boxes = torch.stack([model.boxes(one.expand(n, -1), graphs[:n]) for one in z])
    edited, which, refused, triple = [], [], [], []
    objects = model.objects
    for graph in graphs[:n]:
        for i in range(objects):
            now = RELATIONS[int(unpack(graph[None]).relation[0, i])]
            for relation in RELATIONS[:4]:
                changed = graph.clone()
                changed[objects + i, 2] = RELATIONS.index(relation)
                if relation != now and contradiction(changed) is None:
                    edited.append(edit(graph, i, relation))
                    which.append(i)
                elif relation != now:
                    refused.append(changed)
                    triple.append(i)
    obeyed, against = (relations_right(draw(torch.stack(some)), torch.stack(some)) for some in (edited, refused))
    return {
        "relations": float(relations_right(y, graphs).nanmean()),
        "objects": float(objects_seen(y, graphs).nanmean()),
        "boxes move": float(boxes.std(0).mean()),
        "edits": len(edited),
        "edited relation": float(obeyed[torch.arange(len(which)), torch.tensor(which)].mean()),
        "all relations after": float(obeyed.mean()),
        "contradictions": len(refused),
        "contradictory relation": float(against[torch.arange(len(triple)), torch.tensor(triple)].mean()),
        "all relations of those": float(against.mean()),
    }


# --- what is trained --------------------------------------------------------------------------------------------------

#: Model, the recipe's list and name, data in place of the recipe's, options beside the recipe's, and the judge.
APPLICATIONS: dict[
    str, tuple[Any, Any, str, Callable[[], SceneDataset] | None, dict[str, Any], Callable[..., dict[str, Any]]]
] = {
    "pix2pix": (Pix2Pix, pix2pix.RECIPES, "stripes", None, {}, judge_pix2pix),
    "cyclegan": (CycleGAN, cyclegan.RECIPES, "styles", None, {}, judge_cyclegan),
    "scene": (SceneGraph, scene_graph.RECIPES, "scenes", None, {}, judge_scene),
    "text": (TextToImage, text_to_image.RECIPES, "scenes", None, {}, judge_text),
    "colours": (Pix2Pix, pix2pix.RECIPES, "two_colours", coloured, {}, judge_colours),
    "enlarge": (Pix2Pix, pix2pix.RECIPES, "stripes", enlarged, {"source": Space((1, 4, 4), 256)}, judge_enlarge),
}


def run(application: str, variant: str, seed: int, steps: int | None = None) -> dict[str, Any]:
    """One run: trained by the recipe but for what the variant changes, and judged."""
    kind, recipes, name, make, options, judge = APPLICATIONS[application]
    recipe = next(recipe for recipe in recipes if recipe.name == name)
    changed = dict(VARIANTS[application][variant])
    trained = {**recipe.fit, **changed.pop("fit", {}), **({} if steps is None else {"steps": steps})}
    data = make() if make else recipe.load()
    torch.manual_seed(seed)
    model = kind(data.space, **{**recipe.options, **options, **changed})
    start = time.process_time()
    fit(model, data, seed=seed, device="cpu", progress=False, **trained)
    seconds = round(time.process_time() - start, 1)
    scores = {key: round(value, 4) if isinstance(value, float) else value for key, value in judge(model, data).items()}
    return {"steps": trained["steps"], "cpu_seconds": seconds, **scores}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default=",".join(VARIANTS), help="applications, with commas between them")
    parser.add_argument("--steps", type=int, help="of training, in place of the recipes'")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    record = records.begin(chosen.out, threads=torch.get_num_threads())
    for seed in range(chosen.seeds):
        for application in chosen.only.split(","):
            for variant in VARIANTS[application]:
                known = {"application": application, "variant": variant, "seed": seed}
                if any(known.items() <= made.items() for made in record["runs"]):
                    continue
                record["runs"].append({**known, **run(application, variant, seed, chosen.steps)})
                print(", ".join(f"{key} {value}" for key, value in record["runs"][-1].items()), flush=True)
                records.write(chosen.out, record)


if __name__ == "__main__":
    main()
