"""Pictures from scene graphs (Johnson, Gupta and Fei-Fei, 2018, https://arxiv.org/abs/1804.01622; slide 127).

    v_i, v_r              a vector for each object, and one for each relation
    graph convolution     for each triple (i, r, j):   s, p, o = g(v_i, v_r, v_j);   v_r <- p
                          for each object:   v_i <- h(mean of all s with i as subject and all o with i as object)
    boxes, masks          from each object's vector, and noise z: where it stands, and which part of its box it fills
    layout                sum over objects of v_i where its mask, put into its box, covers a pixel
    refinement            from coarse to fine, convolutions of what is there already and of the layout at that size

A message goes both ways along a triple: "a left of b" says as much of b as of a. A graph convolution reaches one triple far, so
two of them let each of three objects in a circle know of all. In training the layout is made from the true boxes, where they
are known, and the predicted ones learn to be near them; for sampling they are predicted.

Masks are put into boxes by area: a pixel gets of each cell of the mask what it overlaps with it. So the layout of an object sums
to the sum of its mask times the area of a cell, exactly, wherever the box lies (the paper interpolates between cells). The same
matrices the other way round cut an object out of a picture.

The prediction that is best in mean square is the mean of all layouts with that graph. That obeys the graph too: "left of" is
two linear inequalities (`gencourse.data.graphs`), and a mean of solutions is one. It is a single layout, though, whatever the
noise: with `draws=1`, as in the paper, z moves the boxes by 0.01. Of several draws only the best one learns here (the variety
loss of Gupta et al., 2018, https://arxiv.org/abs/1803.10892): the others may be elsewhere, and one graph has many layouts.

The paper's two discriminators are there, and off: the picture of a drawing is certain once its boxes are known, and the mean
absolute error alone finds it. With weights of 0.02 they do no harm, at twice the cost.
"""

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencourse.adversarial import losses
from gencourse.adversarial.base import Adversarial
from gencourse.arguments import decay_rates, least_integer, non_negative, non_negative_integer, positive_integer
from gencourse.data.graphs import RELATIONS, UNITS, Graph, scene_graph, scene_graphs, unpack
from gencourse.data.scenes import COLOURS, SHAPES, sample_scenes
from gencourse.networks import mlp
from gencourse.recipes import Recipe
from gencourse.space import Space
from gencourse.train import Move, cosine


class SceneGraph(Adversarial):
    """A generator from scene graphs to pictures, and two discriminators, of pictures and of the objects in them.

    The context is a tensor of graphs, integers `(B, K + T, 7)`, as `gencourse.data.graphs.scene_graph` packs them. Where a graph
    tells an object's box, the object is drawn there, in sampling too.

    Args:
        space: square images whose side can be halved to 4.
        objects: rows of objects in a graph (K), 2 to 4.
        latent: the dimension of z.
        width: of the vectors of objects and relations.
        layers: graph convolutions; 0 leaves the relations out altogether.
        cells: of a mask, along a side.
        channels: of the layout and of the refinement's maps.
        draws: layouts that are predicted for each example in training, of which the best learns.
        l1, box: the weights of the pictures' mean absolute error and of the boxes' mean squared error.
        image_weight, object_weight: what the two discriminators' verdicts count in the generator's loss; 0 leaves one out.
        d_width: channels of the discriminators' first layers.
        betas: Adam's, for all players.

    Raises:
        ValueError: if the space has no such images, or a number is out of its range.
    """

    generator: "Generator"

    def __init__(
        self,
        space: Space,
        *,
        objects: int = 3,
        latent: int = 8,
        width: int = 48,
        layers: int = 2,
        cells: int = 8,
        channels: int = 24,
        draws: int = 6,
        l1: float = 5.0,
        box: float = 5.0,
        image_weight: float = 0.0,
        object_weight: float = 0.0,
        d_width: int = 32,
        betas: tuple[float, float] = (0.5, 0.999),
    ) -> None:
        super().__init__(space, latent=latent)
        name = type(self).__name__
        sides = _sides(space, name)
        self.objects = least_integer(f"{name}: objects", objects, 2)
        width, channels = positive_integer(f"{name}: width", width), positive_integer(f"{name}: channels", channels)
        layers, cells = non_negative_integer(f"{name}: layers", layers), positive_integer(f"{name}: cells", cells)
        self.draws = positive_integer(f"{name}: draws", draws)
        self.l1, self.box = non_negative(f"{name}: l1", l1), non_negative(f"{name}: box", box)
        self.image_weight = non_negative(f"{name}: image_weight", image_weight)
        self.object_weight = non_negative(f"{name}: object_weight", object_weight)
        self.betas = decay_rates(f"{name}: betas", betas)
        d_width = positive_integer(f"{name}: d_width", d_width)
        self.generator = Generator(
            space.shape[0],
            sides,
            objects=self.objects,
            latent=self.latent,
            width=width,
            layers=layers,
            cells=cells,
            channels=channels,
        )
        self.image_judge = ImageDiscriminator(space.shape[0], d_width) if self.image_weight else None
        self.object_judge = ObjectDiscriminator(space.shape[0], d_width) if self.object_weight else None

    # --- what it is conditioned on ------------------------------------------------------------------------------------

    def example_context(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """The graphs of `n` scenes made up, `(n, 2K, 7)`; the boxes are not told."""
        if generator is not None and generator.device.type != "cpu":  # scenes are drawn on the CPU
            seed = torch.randint(2**31, (1,), generator=generator, device=generator.device)
            generator = torch.Generator().manual_seed(int(seed))
        return scene_graph(sample_scenes(max(n, 1), objects=self.objects, generator=generator))[:n].to(self.device)

    def _condition(self, context: Tensor | None, n: int) -> Tensor:
        if context is None or len(context) != n:
            given = "none were given" if context is None else f"there are {len(context)}"
            raise ValueError(f"SceneGraph needs scene graphs as its context, one for each of {n} examples; {given}.")
        unpack(context, self.objects)
        return context.to(self.device)

    def centred(self, x: Tensor) -> Tensor:
        """The images scaled to [-1, 1], `(B, C, S, S)`; there may be no discriminator to ask for its type."""
        return self.space.to_signed(self.space.validate(x, values=False), next(self.generator.parameters()).dtype)

    @torch.no_grad()
    def boxes(self, z: Tensor, context: Tensor) -> Tensor:
        """Where each object would be drawn for z `(B, latent)`: left, top, right, bottom in [-1, 1], `(B, K, 4)`."""
        with self.evaluation():
            graph = unpack(self._condition(context, len(z)), self.objects)
            return 2 * self.generator.boxes(self.generator.vectors(graph), z, graph) - 1

    # --- the game -----------------------------------------------------------------------------------------------------

    def d_image_loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The image discriminator's, `(B,)`: whole pictures, patch by patch."""
        assert self.image_judge is not None
        real, graph = self.centred(x), self._condition(context, len(x))
        with torch.no_grad():
            fake = self.generator(self.draw_latent(len(x)), graph)
        return losses.non_saturating.d_loss(self.image_judge(real), self.image_judge(fake)).mean((1, 2))

    def d_object_loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The object discriminator's, `(B,)`: each object cut out, whether it is real, and of the real ones what they are."""
        assert self.object_judge is not None
        real, graph = self.centred(x), unpack(self._condition(context, len(x)), self.objects)
        with torch.no_grad():
            vectors = self.generator.vectors(graph)
            boxes = self.generator.boxes(vectors, self.draw_latent(len(x)), graph)
            fake = self.generator.painted(vectors, boxes, graph)
        told, made = (self.object_judge(cut_out(y, boxes, 8)) for y in (real, fake))
        loss = losses.non_saturating.d_loss(told.logit, made.logit) + told.kinds_loss(graph)
        return _mean(loss, graph.shape >= 0)

    def g_loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The generator's, `(B,)`: near to the picture, boxes near to the true ones, and passing for real where it is judged."""
        real, graph = self.centred(x), unpack(self._condition(context, len(x)), self.objects)
        vectors = self.generator.vectors(graph)
        known = graph.boxes[..., 0] >= 0
        z = self.draw_latent(len(x))
        if self.box and bool(known.any()):
            more = [z, *(self.draw_latent(len(x)) for _ in range(self.draws - 1))]
            off = [((self.generator.predicted(vectors, one) - graph.boxes / UNITS) ** 2).mean(2) for one in more]
            loss = self.box * torch.stack([_mean(one, known) for one in off]).amin(0)
        else:
            loss = vectors.new_zeros(len(x))
        if not self.l1 and self.image_judge is None and self.object_judge is None:
            return loss
        boxes = self.generator.boxes(vectors, z, graph)
        image = self.generator.painted(vectors, boxes, graph)
        loss = loss + self.l1 * (image - real).abs().mean((1, 2, 3))
        if self.image_judge is not None:
            loss = loss + self.image_weight * losses.non_saturating.g_loss(self.image_judge(image)).mean((1, 2))
        if self.object_judge is not None:
            told = self.object_judge(cut_out(image, boxes, 8))
            verdict = losses.non_saturating.g_loss(told.logit) + told.kinds_loss(graph)
            loss = loss + self.object_weight * _mean(verdict, graph.shape >= 0)
        return loss

    def moves(self) -> list[Move]:
        """The discriminators that there are, then the generator, whose loss is validated if nobody judges it."""
        optimizer = partial(torch.optim.Adam, betas=self.betas, fused=True)
        judges = (("d_image", self.d_image_loss, self.image_judge), ("d_object", self.d_object_loss, self.object_judge))
        game = [
            Move(name, loss, judge.parameters(), optimizer=optimizer, validate=False)
            for name, loss, judge in judges
            if judge is not None
        ]
        return [*game, Move("g", self.g_loss, self.generator.parameters(), optimizer=optimizer, validate=not game)]


def _sides(space: Space, name: str) -> list[int]:
    """The sides of the refinement's maps, smallest first."""
    shape = space.shape
    if not space.is_discrete or len(shape) != 3 or shape[1] != shape[2] or shape[1] % 4 or shape[1] < 8:
        raise ValueError(f"{name} draws square images (C, S, S) with a side of 8, 12, 16, ..., but the space is {space}.")
    sides = [shape[1]]
    while sides[0] % 2 == 0 and sides[0] >= 8:
        sides.insert(0, sides[0] // 2)
    return sides


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over the objects of a mask, `(B, K)` to `(B,)`; 0 where there is none."""
    return (values * mask).sum(1) / mask.sum(1).clamp(min=1)


# --- from the graph to vectors ----------------------------------------------------------------------------------------


class GraphConvolution(nn.Module):
    """Each triple makes a message for its subject, one for its object, and a new vector for itself; objects take the mean."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.triple = mlp(3 * width, (width,), 3 * width, nn.ReLU)  # g
        self.object = mlp(width, (width,), width, nn.ReLU)  # h

    def forward(self, objects: Tensor, relations: Tensor, subject: Tensor, object: Tensor) -> tuple[Tensor, Tensor]:
        """New vectors of objects `(B, K, width)` and relations `(B, T, width)`.

        Args:
            objects, relations: the vectors so far.
            subject, object: one-hot rows `(B, T, K)`, all zero for an absent triple.
        """
        s, p, o = self.triple(torch.cat([subject @ objects, relations, object @ objects], dim=2)).split(self.width, dim=2)
        total = subject.transpose(1, 2) @ s + object.transpose(1, 2) @ o  # (B, K, width): messages both ways
        count = (subject + object).sum(1).unsqueeze(2).clamp(min=1)
        return self.object(total / count), p


# --- from vectors to a layout -----------------------------------------------------------------------------------------


def overlaps(low: Tensor, high: Tensor, side: int, cells: int) -> Tensor:
    """How much of each pixel each cell covers, along one side: `(..., side, cells)`, in pixels.

    Args:
        low, high: where the box begins and ends, `(...)`, in [0, 1]; it is cut into `cells` of one width.
    """
    edges = torch.arange(cells + 1, dtype=low.dtype, device=low.device) / cells
    edges = side * (low.unsqueeze(-1) + (high - low).unsqueeze(-1) * edges)  # (..., cells + 1)
    pixel = torch.arange(side, dtype=low.dtype, device=low.device).unsqueeze(-1)
    begin, end = edges[..., None, :-1], edges[..., None, 1:]
    return (torch.minimum(end, pixel + 1) - torch.maximum(begin, pixel)).clamp(min=0)


def placed(masks: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Masks `(B, K, M, M)` put into their boxes `(B, K, 4)` in [0, 1]: `(B, K, side, side)`.

    Sums to the sum of the mask times the area of a cell in pixels, if the box lies in the picture.
    """
    left, top, right, bottom = boxes.unbind(2)
    across, down = overlaps(left, right, side, masks.shape[-1]), overlaps(top, bottom, side, masks.shape[-1])
    return down @ masks @ across.transpose(2, 3)


def cut_out(image: Tensor, boxes: Tensor, cells: int) -> Tensor:
    """What is in each box of the images `(B, C, S, S)`, averaged over cells: `(B, K, C, cells, cells)`."""
    left, top, right, bottom = boxes.unbind(2)
    side = image.shape[-1]
    across, down = overlaps(left, right, side, cells), overlaps(top, bottom, side, cells)  # (B, K, S, cells)
    share = [part / part.sum(2, keepdim=True).clamp(min=1e-6) for part in (across, down)]
    return share[1].transpose(2, 3).unsqueeze(2) @ image.unsqueeze(1) @ share[0].unsqueeze(2)


# --- networks ---------------------------------------------------------------------------------------------------------


class Generator(nn.Module):
    """Noise and graphs to images in [-1, 1]."""

    def __init__(
        self,
        colours: int,
        sides: list[int],
        *,
        objects: int,
        latent: int,
        width: int,
        layers: int,
        cells: int,
        channels: int,
    ) -> None:
        super().__init__()
        self.objects, self.side, self.cells = objects, sides[-1], cells
        self.shape, self.colour = nn.Embedding(len(SHAPES), width), nn.Embedding(len(COLOURS), width)
        self.relation = nn.Embedding(len(RELATIONS), width) if layers else None
        self.convolutions = nn.ModuleList(GraphConvolution(width) for _ in range(layers))
        self.box_head = mlp(width + latent, (2 * width,), 4, nn.ReLU)
        self.mask_head = mlp(width, (2 * width,), cells**2, nn.ReLU)
        self.appearance = nn.Linear(width, channels)
        self.refinement = nn.ModuleList(
            Refinement(channels + (channels if level else 0), channels) for level in range(len(sides))
        )
        self.last = nn.Conv2d(channels, colours, 1)

    def forward(self, z: Tensor, graph: Tensor) -> Tensor:
        """`(B, latent)` and graphs `(B, K + T, 7)` to `(B, C, S, S)`."""
        parts = unpack(graph, self.objects)
        vectors = self.vectors(parts)
        return self.painted(vectors, self.boxes(vectors, z, parts), parts)

    def vectors(self, graph: Graph) -> Tensor:
        """The vector of each object, after the graph convolutions, `(B, K, width)`."""
        v = self.shape(graph.shape.clamp(min=0)) + self.colour(graph.colour.clamp(min=0))
        if self.relation is None:
            return v
        r = self.relation(graph.relation.clamp(min=0))  # (B, T, width)
        objects = torch.arange(v.shape[1], device=v.device)
        subject, object = ((end.unsqueeze(2) == objects).to(v.dtype) for end in (graph.subject, graph.object))
        for convolution in self.convolutions:
            new, r = convolution(v, r, subject, object)
            v = v + new  # what an object is, it stays
        return v

    def predicted(self, vectors: Tensor, z: Tensor) -> Tensor:
        """The predicted boxes, within the picture: left, top, right, bottom in [0, 1], `(B, K, 4)`."""
        noise = z.unsqueeze(1).expand(-1, vectors.shape[1], -1)
        place, extent = self.box_head(torch.cat([vectors, noise], dim=2)).sigmoid().split(2, dim=2)
        low = place * (1 - extent)
        return torch.cat([low, low + extent], dim=2)

    def boxes(self, vectors: Tensor, z: Tensor, graph: Graph) -> Tensor:
        """The boxes in use, `(B, K, 4)` in [0, 1]: the given ones where they are known."""
        given = (graph.boxes / UNITS).to(vectors.dtype)
        return torch.where(graph.boxes >= 0, given, self.predicted(vectors, z))

    def masks(self, vectors: Tensor) -> Tensor:
        """Which part of its box each object fills, `(B, K, cells, cells)` in [0, 1]."""
        return self.mask_head(vectors).sigmoid().unflatten(2, (self.cells, self.cells))

    def layout(self, vectors: Tensor, boxes: Tensor, graph: Graph) -> Tensor:
        """The sum of the objects' vectors where their masks are, `(B, channels, S, S)`."""
        cover = placed(self.masks(vectors), boxes, self.side) * (graph.shape >= 0)[:, :, None, None]
        return torch.einsum("bkc,bkhw->bchw", self.appearance(vectors), cover)

    def painted(self, vectors: Tensor, boxes: Tensor, graph: Graph) -> Tensor:
        """The picture of a layout, `(B, C, S, S)`: the layout halved as often as there are levels, then refined back up."""
        levels = [self.layout(vectors, boxes, graph)]
        while len(levels) < len(self.refinement):
            levels.insert(0, F.avg_pool2d(levels[0], 2))
        y = self.refinement[0](levels[0])
        for level, refine in zip(levels[1:], list(self.refinement)[1:], strict=True):
            y = refine(torch.cat([F.interpolate(y, scale_factor=2), level], dim=1))
        return self.last(y).tanh()


class Refinement(nn.Sequential):
    """Two convolutions at one size."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__(
            *(nn.Conv2d(inputs, channels, 3, padding=1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(channels, channels, 3, padding=1), nn.LeakyReLU(0.2)),
        )


class ImageDiscriminator(nn.Sequential):
    """Images to a logit for each patch, `(B, S/4, S/4)`."""

    def __init__(self, colours: int, width: int) -> None:
        super().__init__(
            *(nn.Conv2d(colours, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(2 * width, 1, 3, padding=1), nn.Flatten(1, 2)),
        )


class Verdict(NamedTuple):
    """Of each object: a logit `(B, K)` of being real, and logits of its shape and colour `(B, K, ...)`."""

    logit: Tensor
    shape: Tensor
    colour: Tensor

    def kinds_loss(self, graph: Graph) -> Tensor:
        """The negative log-probability of the right shape and colour, `(B, K)`, nats."""
        pairs = ((self.shape, graph.shape), (self.colour, graph.colour))
        return sum(  # type: ignore[return-value]
            F.cross_entropy(logits.transpose(1, 2), kind.clamp(min=0), reduction="none") for logits, kind in pairs
        )


class ObjectDiscriminator(nn.Module):
    """Objects cut out, `(B, K, C, 8, 8)`, to what is said of them."""

    def __init__(self, colours: int, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Conv2d(colours, width, 3, padding=1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)),
            *(nn.Flatten(), nn.Linear(2 * width * 16, 1 + len(SHAPES) + len(COLOURS))),
        )

    def forward(self, objects: Tensor) -> Verdict:
        """The verdict on each object."""
        out = self.net(objects.flatten(0, 1)).unflatten(0, objects.shape[:2])
        logit, shape, colour = out.split([1, len(SHAPES), len(COLOURS)], dim=2)
        return Verdict(logit.squeeze(2), shape, colour)


RECIPES = (
    Recipe(
        "scenes",
        data=scene_graphs,
        fit={"steps": 800, "batch_size": 32, "lr": 2e-3, "schedule": cosine, "conditional": True},
        metric="relations_right",
        samples=500,
        band=0.95,
    ),
    Recipe(
        # without messages an object does not know where the others are: a quarter of the relations, by chance, and no band
        "scenes_without_messages",
        data=scene_graphs,
        options={"layers": 0},
        fit={"steps": 800, "batch_size": 32, "lr": 2e-3, "schedule": cosine, "conditional": True},
        metric="relations_right",
        samples=500,
    ),
    Recipe(
        # four objects, one of them often inside another, and which is larger: judged too, for sharp edges
        "scenes_64",
        data=partial(scene_graphs, 64, objects=4, nested=0.5, sizes=True, n=50_000),
        options={
            "objects": 4,
            "width": 128,
            "layers": 3,
            "cells": 16,
            "channels": 96,
            "draws": 6,
            "image_weight": 0.02,
            "object_weight": 0.02,
            "d_width": 64,
        },
        fit={"steps": 30_000, "batch_size": 64, "lr": 5e-4, "schedule": cosine, "ema": 0.999, "conditional": True},
        metric="relations_right",
        samples=2000,
        needs="a GPU, half an hour",
    ),
)
