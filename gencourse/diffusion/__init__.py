"""Beside the lecture: diffusion models, which are hierarchical VAEs with a fixed encoder, and flow matching.

Its rows of the table of models, in the order in which they are read; `gencourse.catalog` collects them.
"""

from gencourse.entry import Entry

ENTRIES = (
    Entry(
        name="ddpm",
        title="Denoising diffusion model",
        branch=("explicit", "approximate", "variational"),
        paper="ho2020",
        year=2020,
        slides="",
        chapter="18-diffusion",
        path="gencourse.diffusion.ddpm:DDPM",
        space=((1, 4, 4), 4),
        options=(("steps", 5), ("hidden", 16), ("blocks", 1)),
    ),
    Entry(
        name="flow_matching",
        title="Flow matching",
        branch=("explicit", "tractable"),
        paper="lipman2023",
        year=2023,
        slides="",
        chapter="18-diffusion",
        path="gencourse.diffusion.flow_matching:FlowMatching",
        space=((2,), None),
        options=(("hidden", 16), ("blocks", 1), ("steps", 1)),
    ),
)
