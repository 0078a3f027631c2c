"""Interactive pictures: they run in the page with no kernel, and the same object works in JupyterLab and on Colab.

`ChainOfReconstructions` walks: noise, a guess, noise, a guess. `DrawAndTranslate` fills in the outline that one draws.
`EditTheScene` draws a scene graph that one edits. `FollowTheField` sends points along the field of a continuous flow, by a
solver of one's choice. `FromNoiseToData` follows a diffusion model step by step. `GibbsSampling` lets a Boltzmann machine draw,
given the pixels that one holds. `LatentArithmetic` adds and subtracts faces. `Manifold` walks through the latent plane of a
decoder. `OnePixelAtATime` watches a NADE draw an image, and flips its pixels. `ReceptiveField` shows which earlier pixels a
conditional depends on. `TakeTheTest` asks what is real. `TheGame` trains a GAN of points. `TreeOfModels` is the lecture's tree,
whose leaves say what they can do. `TwoLatentDirections` walks in a plane of a latent space of faces, and reads off what changes.
`WarpTheGrid` walks through the layers of a flow. `VAEPanel` retrains a VAE; it needs Python, and says so. `SelfTest` asks a
chapter's questions, for practice.
"""

from gencourse.explorers.base import Explorer
from gencourse.explorers.chain_of_reconstructions import ChainOfReconstructions
from gencourse.explorers.draw_and_translate import DrawAndTranslate
from gencourse.explorers.edit_the_scene import EditTheScene
from gencourse.explorers.follow_the_field import FollowTheField
from gencourse.explorers.from_noise_to_data import FromNoiseToData
from gencourse.explorers.gibbs_sampling import GibbsSampling
from gencourse.explorers.latent_arithmetic import LatentArithmetic
from gencourse.explorers.manifold import Manifold
from gencourse.explorers.one_pixel_at_a_time import OnePixelAtATime
from gencourse.explorers.rate_and_distortion import RateAndDistortion
from gencourse.explorers.receptive_field import ReceptiveField
from gencourse.explorers.self_test import SelfTest
from gencourse.explorers.take_the_test import TakeTheTest
from gencourse.explorers.the_game import TheGame
from gencourse.explorers.tree_of_models import TreeOfModels
from gencourse.explorers.two_latent_directions import TwoLatentDirections
from gencourse.explorers.vae_panel import VAEPanel
from gencourse.explorers.warp_the_grid import WarpTheGrid

__all__ = [
    "ChainOfReconstructions",
    "DrawAndTranslate",
    "EditTheScene",
    "Explorer",
    "FollowTheField",
    "FromNoiseToData",
    "GibbsSampling",
    "LatentArithmetic",
    "Manifold",
    "OnePixelAtATime",
    "RateAndDistortion",
    "ReceptiveField",
    "SelfTest",
    "TakeTheTest",
    "TheGame",
    "TreeOfModels",
    "TwoLatentDirections",
    "VAEPanel",
    "WarpTheGrid",
]
