"""Explicit, approximate, variational: autoencoders and their descendants (slides 33-88).

Its rows of the table of models, in the order in which they are read; `gencourse.catalog` collects them.
"""

from gencourse.entry import Entry

ENTRIES = (
    Entry(
        name="vae",
        title="Variational autoencoder",
        branch=("explicit", "approximate", "variational"),
        paper="kingma2014",
        year=2014,
        slides="44-87",
        chapter="09-vae",
        path="gencourse.variational.vae:VAE",
        options=(("latent", 2), ("hidden", (16,))),
    ),
    Entry(
        name="conv_vae",
        title="Convolutional VAE",
        branch=("explicit", "approximate", "variational"),
        paper="kulkarni2015",
        year=2015,
        slides="84-87",
        chapter="10-latent-space",
        path="gencourse.variational.conv_vae:ConvVAE",
        space=((1, 4, 4), 2),
        options=(("latent", 2), ("width", 4)),
    ),
    Entry(
        name="iwae",
        title="Importance-weighted autoencoder",
        branch=("explicit", "approximate", "variational"),
        paper="burda2016",
        year=2016,
        slides="88",
        chapter="10-latent-space",
        path="gencourse.variational.iwae:IWAE",
        options=(("latent", 2), ("hidden", (16,))),
    ),
    Entry(
        name="categorical_vae",
        title="VAE with categorical latents",
        branch=("explicit", "approximate", "variational"),
        paper="jang2017",
        year=2017,
        slides="88",
        chapter="10-latent-space",
        path="gencourse.variational.categorical:CategoricalVAE",
        options=(("variables", 2), ("states", 3), ("hidden", (16,))),
    ),
)
