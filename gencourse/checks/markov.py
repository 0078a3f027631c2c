"""What makes a Markov chain right: on few states it is a matrix, and what it promises can be read off.

A transition matrix is `(S, S)`, rows from and columns to, float64; states are in the order of `every_example`, the last unit
changing fastest.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from gencourse.checks.invariants import every_example
from gencourse.markov.ais import Path
from gencourse.markov.boltzmann import Boltzmann
from gencourse.markov.rbm import RBM
from gencourse.space import Space


def assert_leaves_unchanged(matrix: Tensor, log_prob: Tensor, *, atol: float = 1e-12) -> None:
    """Assert that a chain keeps a distribution: each row of its matrix is a distribution, and `p T = p`.

    Args:
        log_prob: `(S,)` nats.
        atol: the largest departure of a probability.

    Raises:
        AssertionError: if it does not.
    """
    p = log_prob.detach().double().exp()
    rows = float((matrix.sum(1) - 1).abs().max())
    if not rows <= atol or bool((matrix < 0).any()):
        raise AssertionError(f"this is no transition matrix: a row's sum is {rows:.3g} away from 1, or an entry is negative.")
    gap = float((p @ matrix - p).abs().max())
    if not gap <= atol:
        raise AssertionError(f"the chain does not leave the distribution unchanged: a probability moves by {gap:.3g} in a step.")


def assert_detailed_balance(matrix: Tensor, log_prob: Tensor, *, atol: float = 1e-12) -> None:
    """Assert that as much goes from each state to each other as back: `p_i T_ij = p_j T_ji`.

    Raises:
        AssertionError: if it does not.
    """
    flow = log_prob.detach().double().exp().unsqueeze(1) * matrix
    gap = float((flow - flow.T).abs().max())
    if not gap <= atol:
        raise AssertionError(f"there is no detailed balance: between two states the flows differ by {gap:.3g}.")


@torch.no_grad()
def single_site_matrix(model: Boltzmann, unit: int) -> Tensor:
    """The matrix `(2^units, 2^units)` of drawing one unit of a Boltzmann machine anew, given all others."""
    model = copy.deepcopy(model).double()
    states = every_example(Space((model.units,), 2)).double()
    on = torch.sigmoid(model.fields(states)[:, unit])  # (S,)
    number, weight = torch.arange(len(states)), 2 ** (model.units - 1 - unit)
    off_state = number - weight * states[:, unit].long()
    matrix = torch.zeros(len(states), len(states), dtype=torch.float64)
    matrix[number, off_state] = 1 - on
    matrix[number, off_state + weight] = on
    return matrix


def sweep_matrix(model: Boltzmann) -> Tensor:
    """The matrix of one sweep: every unit drawn in turn, the first first."""
    matrix = torch.eye(2**model.units, dtype=torch.float64)
    for unit in range(model.units):
        matrix = matrix @ single_site_matrix(model, unit)
    return matrix


@torch.no_grad()
def gibbs_matrix(model: RBM) -> Tensor:
    """The matrix `(2^D, 2^D)` of one step of an RBM without classes: `T(v' | v) = sum_h p(h | v) p(v' | h)`."""
    model = copy.deepcopy(model).double()
    x = every_example(model.space)
    h = every_example(Space((model.hidden,), 2)).double()
    return _independent(model.hidden_logits(x), h) @ _independent(model.visible_logits(h), x.flatten(1).double())


@torch.no_grad()
def tempered(model: RBM, base: Tensor, beta: float) -> RBM:
    """The RBM, in float64, whose Gibbs steps are those of annealing at `beta` from independent units with logits `base`."""
    model = copy.deepcopy(model).double()
    model.weight.mul_(beta)
    model.hidden_bias.mul_(beta)
    model.visible_bias.copy_((1 - beta) * base.double() + beta * model.visible_bias)
    return model


@torch.no_grad()
def expected_weight(path: Path, states: Tensor, matrices: list[Tensor], betas: Tensor) -> float:
    """The exact mean of annealed importance sampling's weights, over everything that it may draw, by transfer matrices.

    Args:
        path: over the `states` `(S, ...)`, which are all there are.
        matrices: the K - 1 transitions at `betas[1:-1]`; after the last beta nothing is weighed.
        betas: `(K + 1,)`.
    """
    log_f = path.log_density(states, betas)  # (K + 1, S)
    mass = torch.exp(log_f[0] - path.log_start())  # p_0, then what weighted chains have in each state
    for k in range(1, len(betas)):
        mass = mass * torch.exp(log_f[k] - log_f[k - 1])
        if k < len(betas) - 1:
            mass = mass @ matrices[k - 1]
    return float(mass.sum())


@torch.no_grad()
def expected_contrast(model: RBM, x: Tensor, k: int) -> dict[str, Tensor]:
    """The mean over all chains of the update that CD-k makes on the images x, in float64, by name of the parameter.

    Statistics of the data less those of the distribution after k steps from them. As k grows it becomes the gradient of the mean
    log-likelihood, since that distribution becomes the model's.
    """
    double = copy.deepcopy(model).double()
    images = every_example(double.space)
    powers = 2 ** torch.arange(double.space.dim - 1, -1, -1)
    start = torch.bincount((x.flatten(1).long() * powers).sum(1), minlength=len(images)).double() / len(x)
    end = start @ torch.linalg.matrix_power(gibbs_matrix(double), k)
    excess = start - end  # (S,)
    v, h = images.flatten(1).double(), torch.sigmoid(double.hidden_logits(images))
    return {"weight": v.T @ (excess.unsqueeze(1) * h), "visible_bias": excess @ v, "hidden_bias": excess @ h}


def _independent(logits: Tensor, states: Tensor) -> Tensor:
    """The probability of each state `(S, n)` of independent units, for each row of logits `(R, n)`: `(R, S)`."""
    return torch.exp(logits @ states.T - F.softplus(logits).sum(1, keepdim=True))
