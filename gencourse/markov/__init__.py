"""Markov chains: explicit densities whose normalising constant is out of reach, and chains that are learned as such (slide 16).

Its rows of the table of models, in the order in which they are read; `gencourse.catalog` collects them.
"""

from gencourse.entry import Entry

ENTRIES: tuple[Entry, ...] = (
    Entry(
        name="boltzmann",
        title="Boltzmann machine",
        branch=("explicit", "approximate", "markov chain"),
        paper="ackley1985",
        year=1985,
        slides="16",
        chapter="11-boltzmann-machines",
        path="gencourse.markov.boltzmann:Boltzmann",
        options=(("hidden", 2), ("sweeps", 50), ("temperatures", 50)),
    ),
    Entry(
        name="rbm",
        title="Restricted Boltzmann machine",
        branch=("explicit", "approximate", "markov chain"),
        paper="smolensky1986",
        year=1986,
        slides="16",
        chapter="11-boltzmann-machines",
        path="gencourse.markov.rbm:RBM",
        options=(("hidden", 4), ("chains", 8), ("sweeps", 50), ("temperatures", 50)),
    ),
    Entry(
        name="gsn",
        title="Generative stochastic network",
        branch=("implicit", "markov chain"),
        paper="bengio2014",
        year=2014,
        slides="16",
        chapter="12-gsn",
        path="gencourse.markov.gsn:GSN",
        options=(("hidden", (16,)), ("walkback", 1), ("burn_in", 20)),
    ),
)
