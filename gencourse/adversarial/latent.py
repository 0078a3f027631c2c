"""What stands in `gencourse.latent` and `gencourse.metrics.neighbours`, under the name by which chapter 14 knows it."""

from gencourse.latent import analogy, interpolate, lerp, slerp, to_shell
from gencourse.metrics.neighbours import Neighbours, nearest_neighbours

__all__ = ["Neighbours", "analogy", "interpolate", "lerp", "nearest_neighbours", "slerp", "to_shell"]
