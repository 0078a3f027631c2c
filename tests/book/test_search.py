"""Search finds what students type, in whichever spelling."""

import re
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser
BOOK = Path(__file__).resolve().parents[2] / "book"

# What students type, and where the first hit must lie.
FIRST = {
    "reparameterization": "book/09-vae.html#the-reparameterisation-trick",
    "reparametrization trick": "book/09-vae.html#the-reparameterisation-trick",
    "reparameterisation": "book/09-vae.html#the-reparameterisation-trick",
    "mode collapse": "book/13-gan.html#training-on-the-ring",
    "mode dropping": "book/13-gan.html#training-on-the-ring",
    "bits per dim": "book/03-chain-rule.html#nats-and-bits",
    "bits/dim": "book/03-chain-rule.html#nats-and-bits",
    "bpd": "book/03-chain-rule.html#nats-and-bits",
    "kl divergence": "book/03-chain-rule.html#maximum-likelihood",
    "Kullback-Leibler": "book/03-chain-rule.html#",
    "elbo": "book/09-vae.html#the-evidence-lower-bound",
    "variational lower bound": "book/09-vae.html#the-evidence-lower-bound",
    "partition function": "book/11-boltzmann-machines.html#an-energy",
    "normalizing constant": "book/11-boltzmann-machines.html#an-energy",
    "normalizing flow": "book/06-flows.html#in-many-dimensions",
    "normalising flows": "book/06-flows.html#in-many-dimensions",
    "change of variables": "book/06-flows.html#a-change-of-variables",
    "wgan gp": "book/15-better-gans.html#a-network-for-a-price",
    "gradient penalty": "book/15-better-gans.html#a-network-for-a-price",
    "earth mover distance": "book/15-better-gans.html#",
    "spectral normalization": "book/15-better-gans.html#a-slope-by-construction",
    "teacher forcing": "book/04-pixelrnn-pixelcnn.html#how-many-steps",
    "blind spot": "book/05-better-pixelcnn.html#the-blind-spot",
    "masked convolution": "book/04-pixelrnn-pixelcnn.html#a-window",
    "fid": "book/17-evaluation.html#fr",
    "frechet inception distance": "book/17-evaluation.html#fr",
    "Fréchet distance": "book/17-evaluation.html#fr",
    "inception score": "book/17-evaluation.html#the-inception-score",
    "precision and recall": "book/17-evaluation.html#two-questions",
    "deconvolution": "book/14-dcgan.html#the-transpose-of-a-convolution",
    "checkerboard artifacts": "book/14-dcgan.html#checkerboards",
    "slerp": "book/14-dcgan.html#walking",
    "batch normalization": "book/14-dcgan.html#the-architecture",
    "posterior collapse": "book/09-vae.html#the-mean-for-the-sum",
    "beta vae": "book/10-latent-space.html#rate-and-distortion",
    "disentangled representations": "book/10-latent-space.html#one-number",
    "gumbel softmax": "book/10-latent-space.html#latent-variables-that-are-categories",
    "importance sampling": "book/09-vae.html#why-the-likelihood",
    "annealed importance sampling": "book/11-boltzmann-machines.html#the-constant-after-all",
    "contrastive divergence": "book/11-boltzmann-machines.html#learning-with-short-dreams",
    "gibbs sampler": "book/11-boltzmann-machines.html#a-chain",
    "non saturating loss": "book/13-gan.html#the-generator",
    "minimax": "book/13-gan.html#the-generator",
    "optimal discriminator": "book/13-gan.html#the-best-discriminator",
    "classifier free guidance": "book/18-diffusion.html#guidance",
    "ddpm": "book/18-diffusion.html",
    "score matching": "book/18-diffusion.html#the-same",
    "langevin": "book/18-diffusion.html#the-same",
    "flow matching": "book/18-diffusion.html#flow-matching",
    "neural ode": "book/07-continuous-flows.html#from-a-block",
    "hutchinson trace estimator": "book/07-continuous-flows.html#hutchinson",
    "log det jacobian": "book/06-flows.html#",
    "dequantization": "book/06-flows.html#a-bound-from-noise",
    "denoising autoencoder": "book/08-autoencoders.html#damage",
    "pca": "book/0",
    "image to image translation": "book/16-gan-applications.html#one-outline",
    "cycle consistency": "book/16-gan-applications.html#without-pairs",
    "super resolution": "book/16-gan-applications.html#larger",
    "what is a vae": "book/09-vae.html#",
    "how to train a gan": "book/1",
    "grading": "book/grading-a-class.html",
    "syllabus": "book/teaching.html",
    "9.10": "book/09-vae.html#",
    "(9.10)": "book/09-vae.html#",
    "Equation 9.10": "book/09-vae.html#",
}


@pytest.fixture
def found(visit, address):
    """The addresses of the first hits of a search."""
    page = visit().page
    page.goto(f"{address}search.html?q=model", wait_until="load")
    return lambda query, n=3: page.evaluate("([q, n]) => find(q).slice(0, n).map((hit) => hit.address)", [query, n])


def test_what_students_type_is_found_first(found):
    missed = {query: found(query) for query, place in FIRST.items() if not (found(query, 1) or [""])[0].startswith(place)}
    assert not missed, "\n".join(f"{query!r}: {hits}, not {FIRST[query]}" for query, hits in missed.items())


def test_every_name_of_a_term_leads_to_where_it_is_introduced(found, book):
    terms = tomllib.loads((BOOK / "glossary.toml").read_text(encoding="utf-8"))
    index = (book / "_static" / "search-index.js").read_text(encoding="utf-8")
    lost = []
    terms = {name: said for name, said in terms.items() if (book / "book" / f"{said['at'].partition('#')[0]}.html").exists()}
    for name, said in terms.items():
        chapter = f"book/{said['at'].partition('#')[0]}.html"
        hits = {other: found(other, 1) for other in (name, *said.get("also", []), *said.get("search", []))}
        places = {(hit or [""])[0] for hit in hits.values()}
        if len(places) != 1 or not next(iter(places)).startswith(chapter):
            lost.append(f"{name}: {hits}")
    assert not lost, "\n".join(lost)
    assert len(re.findall(r"\[\"book/\d\d-", index.split("const TERMS")[1])) == len(terms)


def test_a_word_that_is_no_term_is_found_as_before(found):
    """And a term within a question does not drown the other words."""
    assert found("one logistic regression a pixel", 1) == ["book/03-chain-rule.html#one-logistic-regression-a-pixel"]
    assert found("zzyzx") == []
    assert any("13-gan" in hit or "common-errors" in hit for hit in found("detach generator"))


def test_what_is_searched_is_prose(book, visit, address):
    index = (book / "_static" / "search-index.js").read_text()
    assert "import torch" not in index and "\\\\theta" not in index and "Colab Repository" not in index
    seen = visit()
    seen.page.goto(f"{address}search.html?q=variational+autoencoder", wait_until="load")
    seen.page.locator("#search-results li a").first.wait_for()
    assert seen.page.locator("#search-results mark").count() > 5
    assert not seen.elsewhere and not seen.errors


def test_a_term_is_explained_above_what_is_found(visit, address):
    seen = visit()
    for query in ("elbo", "ELBO", "variational lower bound"):
        seen.page.goto(f"{address}search.html?q={query}", wait_until="load")
        first = seen.page.locator("#search-results > p").first
        assert first.inner_text().startswith("evidence lower bound: Reconstruction less")
    assert not seen.errors
