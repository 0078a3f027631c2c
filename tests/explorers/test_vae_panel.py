"""The panel's controls retrain, and the numbers move as the theory says."""

import base64

import pytest
import torch

from gencourse import data
from gencourse.explorers import VAEPanel
from gencourse.explorers.vae_panel import Result, summary

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def panel():
    return VAEPanel(steps=250, hidden=(32,))


def press(panel, latent, beta) -> Result:
    controls = panel.controls
    controls.latent.value, controls.beta.value = latent, beta
    controls.button.click()
    return panel.results[-1]


def test_the_kl_term_is_free_without_weight_and_collapses_under_a_large_one(panel):
    free, strict = press(panel, 2, 0.0), press(panel, 2, 10.0)
    assert free.kl > 10 > 0.1 > strict.kl
    assert free.reconstruction > strict.reconstruction
    assert (free.latent, free.beta) == (2, 0.0)
    # collapsed: every image is reconstructed as the same one
    assert strict.reconstructed.std(0).max() < 0.05 < free.reconstructed.std(0).max()


def test_more_latent_variables_reconstruct_better(panel):
    assert press(panel, 8, 1.0).reconstruction > press(panel, 1, 1.0).reconstruction + 1


def test_a_click_shows_the_new_result_in_every_place(panel):
    controls = panel.controls
    old = controls.picture.value
    result = press(panel, 4, 0.5)
    assert controls.picture.value != old
    assert controls.picture.value == panel.figure()._repr_png_()
    assert f"<td>{result.kl:.2f}</td>" in controls.table.value and f"<td>{result.reconstruction:.2f}</td>" in controls.table.value
    assert controls.table.value.count("<tr>") == 1 + len(panel.results)
    assert controls.progress.value == 1 and not controls.button.disabled
    assert summary(result) in repr(panel)


def test_progress_rises_while_training(panel):
    shares = []
    panel.train(2, 1.0, shares.append)
    assert len(shares) >= 40 and shares == sorted(shares) and shares[-1] == 1


def test_the_same_choice_gives_the_same_result_and_leaves_the_notebooks_randomness_alone(panel):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = panel.train(2, 1.0), panel.train(2, 1.0)
    assert torch.rand(1) == expected
    assert (first.reconstruction, first.kl) == (second.reconstruction, second.kl)
    assert torch.equal(first.samples, second.samples)


def test_after_a_failed_training_the_button_works_again(panel, monkeypatch):
    def fail(*args):
        raise FloatingPointError("the loss is not finite")

    monkeypatch.setattr(panel, "train", fail)
    with pytest.raises(FloatingPointError):
        panel.controls._train(None)
    assert not panel.controls.button.disabled


def test_the_notebook_gets_the_panel_and_the_page_a_still_picture(panel):
    bundle = panel._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/png", "application/vnd.jupyter.widget-view+json"}
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == panel.view().model_id
    still = panel.figure(caption=True)
    assert base64.b64decode(bundle["image/png"]) == still._repr_png_()
    (caption,) = still.texts
    assert "JupyterLab" in caption.get_text() and "Colab" in caption.get_text()


def test_ipywidgets_7_which_colab_has_shows_the_panel_too(panel, monkeypatch):
    class Box:  # as in 7.7: it displays itself and makes no bundle
        model_id = "abc"

        def _ipython_display_(self):
            raise AssertionError("only when it is displayed itself")

    monkeypatch.setattr(panel, "view", Box)
    bundle = panel._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"] == {"version_major": 2, "version_minor": 0, "model_id": "abc"}
    assert "image/png" in bundle


def test_the_picture_shows_images_reconstructions_and_samples(panel):
    result, space = panel.results[-1], panel.data.space
    drawn = panel.figure().axes[0].images[0].get_array()
    for row, images in ((0, result.images), (1, result.reconstructed), (2, result.samples)):
        expected = images[0, 0].double() / (space.levels - 1)
        assert abs(torch.as_tensor(drawn[9 * row + 1 : 9 * row + 9, 1:9].data) - expected).max() < 1e-6
    assert torch.equal(result.images, data.load("binary_digits").test[:12])


@pytest.mark.parametrize(
    ("options", "message"), [({"latent": 3}, "latent must be one of 1, 2, 4, 8, 16, not 3"), ({"beta": -1}, "beta must")]
)
def test_mistakes_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        VAEPanel(steps=1, **options)
