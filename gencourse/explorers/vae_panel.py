"""A panel that retrains a VAE while the reader watches: the size of z and the weight of the KL term, and what they do.

It needs a kernel: it works in JupyterLab and on Colab. In a page it shows the picture of its last result, which says so.
"""

import base64
import contextlib
import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gencourse.data import Dataset, load
from gencourse.train import fit
from gencourse.variational.vae import VAE
from gencourse.viz.images import mosaic
from gencourse.viz.theme import Picture

LATENT = (1, 2, 4, 8, 16)
BETA = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
_CAPTION = "A still picture. In JupyterLab and on Colab this is a panel: choose z and beta, press Train, and it changes."


@dataclass(frozen=True)
class Result:
    """What one training gave, on the test images: means in nats per image.

    Attributes:
        latent, beta: the choices.
        reconstruction: `E_q[log p(x | z)]`.
        kl: `KL(q(z | x) || p(z))`; the bound is `reconstruction - kl`, whatever `beta` was in training.
        seconds: spent in training.
        reconstructed: the decoder's mean images of `images`, each from the mean code.
        samples: images drawn from the model.
    """

    latent: int
    beta: float
    reconstruction: float
    kl: float
    seconds: float
    images: Tensor
    reconstructed: Tensor
    samples: Tensor

    @property
    def elbo(self) -> float:
        """The evidence lower bound, nats per image."""
        return self.reconstruction - self.kl


class VAEPanel:
    """Choose the size of z and the weight of the KL term (beta), press Train, and see what changes.

    Args:
        data: small images on which training takes seconds; a data set or its name.
        latent, beta: the first choice, one of `LATENT` and one of `BETA`; it is trained when the panel is made.
        steps: of each training.
        hidden: the network's hidden widths.
        seed: of the weights, the training and the samples, so that only the choices differ.

    Raises:
        ValueError: if `latent` or `beta` is not among the choices.
    """

    def __init__(
        self,
        data: Dataset | str = "binary_digits",
        *,
        latent: int = 2,
        beta: float = 1.0,
        steps: int = 800,
        hidden: tuple[int, ...] = (100,),
        seed: int = 0,
    ) -> None:
        for name, value, choices in (("latent", latent, LATENT), ("beta", beta, BETA)):
            if value not in choices:
                raise ValueError(f"VAEPanel: {name} must be one of {', '.join(map(str, choices))}, not {value!r}.")
        self.data = load(data) if isinstance(data, str) else data
        self.steps, self.hidden, self.seed = steps, hidden, seed
        self.results = [self.train(latent, beta)]
        self._view: Any = None

    def train(self, latent: int, beta: float, progress: Callable[[float], None] = lambda share: None) -> Result:
        """Train a fresh VAE and measure it; `progress` is told the share that is done, up to 1."""
        space, test = self.data.space, self.data.test
        torch_state = torch.get_rng_state()  # the panel leaves the notebook's random numbers alone
        torch.manual_seed(self.seed)
        model = VAE(space, latent=latent, hidden=self.hidden, beta=float(beta))
        torch.set_rng_state(torch_state)
        tell_every = max(1, self.steps // 50)

        def tell(step: int, _: Any) -> None:
            if step % tell_every == 0:
                progress(step / self.steps)

        batch = min(100, len(self.data.train))
        history = fit(
            model,
            self.data,
            steps=self.steps,
            batch_size=batch,
            lr=3e-3,
            seed=self.seed,
            device="cpu",
            callback=tell,
            progress=False,
        )
        generator = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            reconstruction, kl = model.elbo_terms(test, samples=5, generator=generator)
            shown = test[:12]
            reconstructed = model.decode_mean(model.encode(shown).mean)
        return Result(
            latent, beta, reconstruction.mean().item(), kl.mean().item(), history.seconds,
            shown, reconstructed, model.sample(24, generator=generator),
        )  # fmt: skip

    def figure(self, *, caption: bool = False) -> Picture:
        """The last result: test images, their reconstructions, and samples; with a caption for the page if asked."""
        result, space = self.results[-1], self.data.space
        # rows: the images; their reconstructions; two rows of samples
        pixels = mosaic(torch.cat([x.double() for x in (result.images, result.reconstructed, result.samples)]), space, ncols=12)
        height = 2.15 + 0.3 * caption
        figure = Picture(6.4, height)
        axes = figure.add_axes((0.16, 1 - 2.05 / height, 0.83, 1.75 / height))
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
        axes.grid(False)
        axes.set_xticks([])
        row = pixels.shape[0] / 4
        axes.set_yticks([row * 0.5, row * 1.5, row * 3], ["test images", "reconstructed", "samples"], fontsize=9)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(summary(result), fontsize=9)
        if caption:
            figure.text(0.5, 0.05, _CAPTION, ha="center", fontsize=8, style="italic")
        return figure

    def view(self) -> Any:
        """The panel's widgets, made once.

        Raises:
            ImportError: if ipywidgets is not installed.
        """
        if self._view is None:
            self._view = _Controls(self)
        return self._view.box

    @property
    def controls(self) -> "_Controls":
        """The widgets one by one: `latent`, `beta`, `button`, `progress`, `picture`, `table`."""
        self.view()
        return self._view

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle: dict[str, Any] = {
            "text/plain": repr(self),
            "image/png": base64.b64encode(self.figure(caption=True)._repr_png_()).decode(),
        }
        with contextlib.suppress(ImportError):  # without widgets, or stored without them, the still picture is left
            bundle |= _widget(self.view())
        return bundle

    def __repr__(self) -> str:
        return f"VAEPanel({summary(self.results[-1])})"


def _widget(box: Any) -> dict[str, Any]:
    """What a notebook needs to show a widget, besides text and picture."""
    if hasattr(box, "_repr_mimebundle_"):
        return {k: v for k, v in box._repr_mimebundle_().items() if "widget-view" in k}
    # ipywidgets 7, which Colab has, only displays itself; this is what it would send
    view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    return {"application/vnd.jupyter.widget-view+json": view}


class _Controls:
    """The widgets and what they do."""

    def __init__(self, panel: VAEPanel) -> None:
        try:
            import ipywidgets as widgets
        except ImportError:
            raise ImportError("VAEPanel's controls need the package ipywidgets: pip install ipywidgets.") from None
        self.panel = panel
        first = panel.results[-1]
        self.latent = widgets.ToggleButtons(options=LATENT, value=first.latent, style={"button_width": "3.5em"})
        self.beta = widgets.SelectionSlider(options=BETA, value=first.beta, continuous_update=False)
        self.button = widgets.Button(description="Train", button_style="primary", icon="play")
        self.progress = widgets.FloatProgress(value=0.0, min=0.0, max=1.0, layout={"width": "12em"})
        self.picture = widgets.Image(format="png", layout={"width": "640px", "max_width": "100%", "height": "auto"})
        self.table = widgets.HTML()
        self.button.on_click(self._train)
        self._show()
        label = {"layout": {"width": "14em"}}
        rows = [
            widgets.HBox([widgets.Label("size of z", **label), self.latent]),
            widgets.HBox([widgets.Label("weight of the KL term (beta)", **label), self.beta]),
            widgets.HBox([self.button, self.progress]),
        ]
        self.box = widgets.VBox([*rows, self.picture, self.table])

    def _train(self, _: Any) -> None:
        self.button.disabled = True
        self.progress.bar_style, self.progress.value = "", 0.0
        try:
            result = self.panel.train(self.latent.value, self.beta.value, lambda share: setattr(self.progress, "value", share))
            self.panel.results.append(result)
            self.progress.value, self.progress.bar_style = 1.0, "success"
            self._show()
        finally:
            self.button.disabled = False

    def _show(self) -> None:
        self.picture.value = self.panel.figure()._repr_png_()
        heads = ("size of z", "beta", "reconstruction", "KL", "bound (ELBO)", "seconds")
        rows = [
            (r.latent, f"{r.beta:g}", f"{r.reconstruction:.2f}", f"{r.kl:.2f}", f"{r.elbo:.2f}", f"{r.seconds:.1f}")
            for r in reversed(self.panel.results)
        ]
        cells = "".join("<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in row) + "</tr>" for row in rows)
        head = "".join(f"<th>{h}</th>" for h in heads)
        caption = "<caption>Nats per test image, the latest first</caption>"
        look = "text-align: right; border-spacing: 1.2em 0; border-collapse: separate"
        self.table.value = f'<table style="{look}">{caption}<tr>{head}</tr>{cells}</table>'


def summary(result: Result) -> str:
    """The result in one line."""
    return (
        f"z of size {result.latent}, beta = {result.beta:g}: reconstruction {result.reconstruction:.1f}, "
        f"KL {result.kl:.1f}, bound {result.elbo:.1f} nats per image"
    )
