"""The examples in docstrings are run: what stands below `>>>` is what it gives."""

import doctest
import importlib
import pkgutil

import pytest
import torch

from gencourse import checks, classical, data, latent, metrics, space, train


def modules():
    """The modules that a reader calls from a notebook."""
    for package in (checks, classical, data, metrics, train):
        yield package.__name__
        yield from (found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))
    yield from (space.__name__, latent.__name__)


def examples(name):
    module = importlib.import_module(name)
    # `torch` is at hand, as in a notebook; what a set of data or an error lists may grow
    return [found for found in doctest.DocTestFinder().find(module, extraglobs={"torch": torch}) if found.examples]


@pytest.mark.parametrize("name", modules())
def test_examples_give_what_they_say(name):
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    said = []
    for example in examples(name):
        runner.run(example, out=said.append)
    assert runner.failures == 0, "".join(said)


def test_what_readers_call_most_has_an_example():
    shown = {example.name.removeprefix("gencourse.") for name in modules() for example in examples(name)}
    assert {"space.Space", "data.load", "train.loop.fit", "metrics.modes.mode_report", "checks.statements.equation"} <= shown
    assert len(shown) >= 20
