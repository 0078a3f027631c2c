"""Principal components, and the density of which they are the maximum likelihood."""

import math

import pytest
import sklearn.decomposition
import torch
from torch.distributions import MultivariateNormal

from gencourse.classical.pca import PCA, ProbabilisticPCA


def generator(seed):
    return torch.Generator().manual_seed(seed)


def cloud(n=200, D=6, seed=0):
    """Points that vary in some directions more than in others, and not along the axes."""
    g = generator(seed)
    turn = torch.linalg.qr(torch.randn(D, D, generator=g, dtype=torch.float64)).Q
    spread = 2.0 ** -torch.arange(D, dtype=torch.float64)
    return (spread * torch.randn(n, D, generator=g, dtype=torch.float64)) @ turn + torch.arange(D)


@pytest.mark.parametrize("K", [1, 3, 6])
def test_it_is_what_scikit_learn_computes(K):
    x = cloud()
    ours, theirs = PCA.fit(x, K), sklearn.decomposition.PCA(K).fit(x.numpy())
    assert torch.allclose(ours.mean, torch.from_numpy(theirs.mean_), rtol=0, atol=1e-12)
    same = ours.axes.T @ torch.from_numpy(theirs.components_).T  # up to a sign each
    assert torch.allclose(same.abs(), torch.eye(K, dtype=torch.float64), rtol=0, atol=1e-9)
    n = len(x)
    assert torch.allclose(ours.variances[:K] * n / (n - 1), torch.from_numpy(theirs.explained_variance_), rtol=1e-9)
    assert ours.kept == pytest.approx(theirs.explained_variance_ratio_.sum(), rel=1e-10)
    back = torch.from_numpy(theirs.inverse_transform(theirs.transform(x.numpy())))
    assert torch.allclose(ours.reconstruct(ours.project(x)), back, rtol=0, atol=1e-9)


def test_kept_and_lost_are_eigenvalues_of_the_covariance():
    x = cloud()
    S = torch.cov(x.T, correction=0)
    eigenvalues = torch.linalg.eigvalsh(S).flip(0)
    for K in range(1, 7):
        pca = PCA.fit(x, K)
        z = pca.project(x)
        assert torch.allclose(torch.cov(z.T, correction=0).reshape(K, K), eigenvalues[:K].diag(), rtol=0, atol=1e-12)
        lost = (x - pca.reconstruct(z)).square().sum(1).mean()
        assert float(lost) == pytest.approx(float(eigenvalues[K:].sum()), abs=1e-12)
    assert torch.allclose(pca.variances, eigenvalues, rtol=1e-10)
    assert pca.kept == pytest.approx(1)


def test_no_other_directions_keep_more():
    x = cloud()
    best = PCA.fit(x, 2).variances[:2].sum()
    S = torch.cov(x.T, correction=0)
    for seed in range(50):
        Q = torch.linalg.qr(torch.randn(6, 2, generator=generator(seed), dtype=torch.float64)).Q
        assert (Q.T @ S @ Q).trace() < best


def test_fewer_points_than_dimensions():
    x = cloud(n=4, D=6)
    pca = PCA.fit(x, 3)
    assert pca.variances.shape == (6,) and pca.variances[3:].abs().max() < 1e-20
    assert torch.allclose(pca.reconstruct(pca.project(x)), x, rtol=0, atol=1e-10)


def test_the_density_is_the_gaussian_of_its_covariance():
    x = cloud()
    for K in range(1, 6):
        ppca = ProbabilisticPCA.fit(x, K)
        whole = MultivariateNormal(ppca.mean, ppca.covariance)
        assert torch.allclose(ppca.log_prob(x), whole.log_prob(x), rtol=0, atol=1e-9)
    assert torch.allclose(ppca.covariance, torch.cov(x.T, correction=0), rtol=0, atol=1e-12)  # K = D - 1 leaves all free


def test_the_density_is_what_scikit_learn_says():
    x = cloud()
    for K in (1, 3):
        theirs = sklearn.decomposition.PCA(K).fit(x.numpy())
        n = len(x)  # theirs divides by n - 1
        covariance = torch.from_numpy(theirs.get_covariance()) * (n - 1) / n
        assert torch.allclose(ProbabilisticPCA.fit(x, K).covariance, covariance, rtol=0, atol=1e-10)


def test_no_parameters_are_likelier():
    """The gradient vanishes, and whatever is near has a lower likelihood."""
    x = cloud()
    best = ProbabilisticPCA.fit(x, 2)

    def mean_log_prob(mean, W, log_sigma2):
        covariance = W @ W.T + log_sigma2.exp() * torch.eye(6, dtype=torch.float64)
        return MultivariateNormal(mean, covariance).log_prob(x).mean()

    at = [best.mean.clone(), best.W.clone(), torch.tensor(math.log(best.sigma2), dtype=torch.float64)]
    for part in at:
        part.requires_grad_()
    top = mean_log_prob(*at)
    for gradient in torch.autograd.grad(top, at):
        assert gradient.abs().max() < 1e-9
    for seed in range(20):
        moved = [part.detach() + 0.05 * torch.randn(part.shape, generator=generator(seed), dtype=torch.float64) for part in at]
        assert mean_log_prob(*moved) < top


def test_samples_have_its_mean_and_covariance():
    ppca = ProbabilisticPCA.fit(cloud(), 2)
    n = 100_000
    drawn = ppca.sample(n, generator=generator(0))
    sd = ppca.covariance.diagonal().sqrt()
    assert ((drawn.mean(0) - ppca.mean).abs() <= 5 * sd / n**0.5).all()
    error = (torch.cov(drawn.T) - ppca.covariance).abs() / (sd[:, None] * sd)
    assert error.max() < 5 * (2 / n) ** 0.5
    assert torch.equal(drawn, ppca.sample(n, generator=generator(0)))
    assert ppca.sample(0).shape == (0, 6)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda x: PCA.fit(x, 0), ValueError, "K must be a positive integer"),
        (lambda x: PCA.fit(x, 4), ValueError, "4 components were asked for, but 9 points of 3 dimensions have fewer"),
        (lambda x: PCA.fit(x[:1], 1), ValueError, "needs 2 points or more, not 1"),
        (lambda x: PCA.fit(x.int(), 1), TypeError, "tensor of floats"),
        (lambda x: PCA.fit(x, 2).project(x[:, :2]), ValueError, r"points \(N, 3\)"),
        (lambda x: PCA.fit(x, 2).reconstruct(x), ValueError, r"points \(N, 2\)"),
        (lambda x: ProbabilisticPCA.fit(x, 3), ValueError, "beyond 3 components the points do not vary; take fewer"),
        (lambda x: ProbabilisticPCA.fit(x[:3], 2), ValueError, "beyond 2 components the points do not vary"),
        (lambda x: ProbabilisticPCA.fit(x, 1).log_prob(x[0]), ValueError, r"points \(N, 3\)"),
        (lambda x: ProbabilisticPCA.fit(x, 1).sample(-1), ValueError, "0 or more"),
    ],
)
def test_bad_input_is_answered_in_a_sentence(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call(cloud(n=9, D=3))
