"""Pictures for the book: each function returns a matplotlib `Figure` no wider than a page (7.9 inches at 100 dots each).

`style()` sets matplotlib's defaults to what the pictures here assume. It is called explicitly, once a notebook.
"""

from gencourse.viz.adversarial import (
    beside_neighbours,
    game_1d,
    game_curves,
    gradient_histograms,
    trajectories,
    weight_histograms,
)
from gencourse.viz.autoregressive import completions, filters, receptive_fields, samples_beside_means
from gencourse.viz.flows import flow_path, warped_grid
from gencourse.viz.images import image_grid, manifold_grid, mosaic, png_grid, reconstructions
from gencourse.viz.plots import density_2d, points, scatter_latent, training_curves
from gencourse.viz.theme import COLOURS, style

__all__ = [
    "COLOURS",
    "beside_neighbours",
    "completions",
    "density_2d",
    "filters",
    "flow_path",
    "game_1d",
    "game_curves",
    "gradient_histograms",
    "image_grid",
    "manifold_grid",
    "mosaic",
    "png_grid",
    "points",
    "receptive_fields",
    "reconstructions",
    "samples_beside_means",
    "scatter_latent",
    "style",
    "training_curves",
    "trajectories",
    "warped_grid",
    "weight_histograms",
]
