"""Explicit, tractable: flows, from couplings that keep volumes to an equation in continuous time (slide 16).

Its rows of the table of models, in the order in which they are read; `gencourse.catalog` collects them.
"""

from gencourse.entry import Entry

ENTRIES = (
    Entry(
        name="nice",
        title="NICE",
        branch=("explicit", "tractable"),
        paper="dinh2014",
        year=2015,
        slides="16",
        chapter="06-flows",
        path="gencourse.flows.nice:NICE",
        space=((1, 4, 4), 4),
        options=(("couplings", 3), ("hidden", (16,))),
    ),
    Entry(
        name="realnvp",
        title="RealNVP",
        branch=("explicit", "tractable"),
        paper="dinh2017",
        year=2017,
        slides="16",
        chapter="06-flows",
        path="gencourse.flows.realnvp:RealNVP",
        space=((1, 4, 4), 4),
        options=(("couplings", 3), ("hidden", (16,))),
    ),
    Entry(
        name="glow",
        title="Glow",
        branch=("explicit", "tractable"),
        paper="kingma2018",
        year=2018,
        slides="16",
        chapter="06-flows",
        path="gencourse.flows.glow:Glow",
        space=((1, 4, 4), 4),
        options=(("steps", 2), ("channels", 8)),
    ),
    Entry(
        name="ffjord",
        title="FFJORD",
        branch=("explicit", "tractable"),
        paper="grathwohl2019",
        year=2019,
        slides="16",
        chapter="07-continuous-flows",
        path="gencourse.flows.ffjord:FFJORD",
        space=((1, 4, 4), 4),
        options=(("hidden", (8,)), ("steps", 1), ("finer", 2)),
    ),
)
