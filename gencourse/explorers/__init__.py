"""Interactive pictures: they run in the page with no kernel, and the same object works in JupyterLab and on Colab.

`Manifold` walks through the latent plane of a decoder. `VAEPanel` retrains a VAE; it needs Python, and says so.
"""

from gencourse.explorers.base import Explorer
from gencourse.explorers.manifold import Manifold
from gencourse.explorers.vae_panel import VAEPanel

__all__ = ["Explorer", "Manifold", "VAEPanel"]
