"""Adversarial models: a generator that samples, and a discriminator that says what looks real.

Its rows of the table of models, in the order in which they are read; `gencourse.catalog` collects them.
"""

from gencourse.entry import Entry

ENTRIES = (
    Entry(
        name="gan",
        title="Generative adversarial network",
        branch=("implicit", "direct"),
        paper="goodfellow2014",
        year=2014,
        slides="91-115",
        chapter="13-gan",
        path="gencourse.adversarial.gan:GAN",
        space=((2,), None),
    ),
    Entry(
        name="dcgan",
        title="Deep convolutional GAN",
        branch=("implicit", "direct"),
        paper="radford2016",
        year=2016,
        slides="116-122",
        chapter="14-dcgan",
        path="gencourse.adversarial.dcgan:DCGAN",
        space=((1, 8, 8), 17),
        options=(("latent", 4), ("width", 4)),
    ),
    Entry(
        name="wgan",
        title="Wasserstein GAN",
        branch=("implicit", "direct"),
        paper="arjovsky2017",
        year=2017,
        slides="112, 124",
        chapter="15-better-gans",
        path="gencourse.adversarial.wgan:WGAN",
        space=((2,), None),
    ),
    Entry(
        name="began",
        title="Boundary equilibrium GAN",
        branch=("implicit", "direct"),
        paper="berthelot2017",
        year=2017,
        slides="112",
        chapter="15-better-gans",
        path="gencourse.adversarial.began:BEGAN",
        space=((2,), None),
    ),
    Entry(
        name="progressive",
        title="Progressive growing of GANs",
        branch=("implicit", "direct"),
        paper="karras2018",
        year=2018,
        slides="124",
        chapter="15-better-gans",
        path="gencourse.adversarial.progressive:Progressive",
        space=((1, 8, 8), 17),
        options=(("latent", 4), ("width", 4), ("schedule", (0, 10))),
    ),
    Entry(
        name="biggan",
        title="BigGAN",
        branch=("implicit", "direct"),
        paper="brock2019",
        year=2019,
        slides="126",
        chapter="15-better-gans",
        path="gencourse.adversarial.biggan:BigGAN",
        space=((1, 8, 8), 17),
        options=(("latent", 4), ("width", 4), ("d_width", 4), ("classes", 3)),
    ),
)
