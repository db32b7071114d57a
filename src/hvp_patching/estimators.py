"""Estimators of the patching effect Δ = f(1) − f(0) as quadrature rules over jets.

Each formula of the paper is a list of (node, order, weight): the estimate is
Σ weight · f^(order)(node). Costs are the paper's nominal ones, in backward passes per component
and prompt (section 4.1).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial import Legendre
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    from hvp_patching.paths.jets import Jets

# node (exact where it is rational), order of the derivative, weight
Term = tuple[Fraction | float, int, float]


@dataclass(frozen=True)
class QuadratureRule:
    """An estimator that is a weighted sum of derivatives at nodes of the path."""

    name: str
    cost: int
    terms: tuple[Term, ...]

    def __call__(self, jets: Jets) -> torch.Tensor:
        """Estimates in nats, float64 [n_components]; ValueError if the jets lack a derivative."""
        parts = [weight * jets.at(float(node), order) for node, order, weight in self.terms]
        return _stack(parts).sum(0)

    def request(self) -> dict[float, int]:
        """The nodes that the rule needs and the highest derivative at each, for path_jets."""
        return _merge((float(node), order) for node, order, _ in self.terms)


@dataclass(frozen=True)
class MedianRule:
    """The per-component median of several rules (section 4.3, 'per-head median over K')."""

    name: str
    cost: int
    rules: tuple[QuadratureRule, ...]

    def __call__(self, jets: Jets) -> torch.Tensor:
        """Estimates in nats, float64 [n_components]; ValueError if the jets lack a derivative."""
        return _stack([rule(jets) for rule in self.rules]).median(0).values

    def request(self) -> dict[float, int]:
        """The nodes that the rules need and the highest derivative at each, for path_jets."""
        return required_jets(self.rules)


def _stack(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """torch.stack, without importing what whoever has tensors has loaded and others never need."""
    stacked = parts[0].new_empty((len(parts), *parts[0].shape))
    for row, part in zip(stacked, parts, strict=True):
        row.copy_(part)
    return stacked


Estimator = QuadratureRule | MedianRule


def required_jets(estimators: Iterable[Estimator]) -> dict[float, int]:
    """Union of several estimators' requests: increasing nodes, the highest order at each."""
    return _merge(item for estimator in estimators for item in estimator.request().items())


def _merge(items: Iterable[tuple[float, int]]) -> dict[float, int]:
    merged: dict[float, int] = {}
    for node, order in items:
        merged[node] = max(order, merged.get(node, 0))
    return dict(sorted(merged.items()))


MOST_STEPS, MOST_ROOTS = 100_000, 200  # roots and products take their square and more


def _count(n: int, symbol: str, name: str, least: int = 1, most: int = MOST_STEPS) -> int:
    if n < least:
        raise ValueError(f"{name} needs {symbol} ≥ {least}, got {n}")
    if n > most:  # its terms would be made before anything is computed
        raise ValueError(f"{name} needs {symbol} ≤ {most}, got {n}")
    return n


def AP() -> QuadratureRule:
    """Attribution patching, f'(0) (equation 1)."""
    return QuadratureRule("ap", 1, ((Fraction(0), 1, 1.0),))


def HVP() -> QuadratureRule:
    """HVP correction, f'(0) + ½f''(0) (definition 2, equation 4)."""
    return QuadratureRule("hvp", 2, ((Fraction(0), 1, 1.0), (Fraction(0), 2, 0.5)))


def MS_HVP(K: int) -> QuadratureRule:
    """Multi-step HVP, Σ_k [f'(k/K)/K + f''(k/K)/(2K²)] (equation 5, algorithm 1)."""
    _count(K, "K", "MS_HVP")
    terms: list[Term] = []
    for k in range(K):
        node = Fraction(k, K)
        terms += [(node, 1, 1 / K), (node, 2, 1 / (2 * K * K))]
    return QuadratureRule(f"ms_hvp_{K}", 2 * K, tuple(terms))


IG_NODES: dict[str, Fraction] = {
    "midpoint": Fraction(1, 2),
    "left": Fraction(0),
    "right": Fraction(1),
}


def IG(N: int, nodes: str = "midpoint") -> QuadratureRule:
    """Integrated gradients per component, (1/N) Σ_j f'((j + s)/N), s = ½, 0 or 1 (section 4.1)."""
    _count(N, "N", "IG")
    if nodes not in IG_NODES:
        raise ValueError(f"unknown IG nodes '{nodes}'; choose one of: {', '.join(IG_NODES)}")
    name = f"ig_{N}" if nodes == "midpoint" else f"ig_{nodes}_{N}"
    terms = tuple(((j + IG_NODES[nodes]) / N, 1, 1 / N) for j in range(N))
    return QuadratureRule(name, N, terms)


def GL(n: int) -> QuadratureRule:
    """Gauss–Legendre integrated gradients, exact for f of degree 2n (not in the paper)."""
    _count(n, "n", "GL", most=MOST_ROOTS)
    return _gauss(f"gl_{n}", *leggauss(n))


def LOBATTO(n: int) -> QuadratureRule:
    """Gauss–Lobatto integrated gradients, exact for f of degree 2n − 2 (not in the paper).

    Both ends are nodes, the others the roots of P'_{n−1}; weights 2 / (n(n−1) P_{n−1}²).
    """
    _count(n, "n", "LOBATTO", least=2, most=MOST_ROOTS)
    legendre = Legendre.basis(n - 1)
    slope = legendre.deriv()
    roots = slope.roots()
    roots = roots - slope(roots) / slope.deriv()(roots)  # one Newton step: exact to rounding
    x = np.concatenate([[-1.0], roots, [1.0]])
    return _gauss(f"lobatto_{n}", x, 2 / (n * (n - 1) * legendre(x) ** 2))


def _gauss(name: str, x: NDArray[np.float64], weights: NDArray[np.float64]) -> QuadratureRule:
    """Integrate f' by nodes and weights on [−1, 1], one backward pass per node."""
    nodes, halves = ((1 + x) / 2).tolist(), (weights / 2).tolist()
    terms = tuple((node, 1, half) for node, half in zip(nodes, halves, strict=True))
    return QuadratureRule(name, len(terms), terms)


def IH_PI(K: int) -> QuadratureRule:
    """Path-integrated Hessian, f'(0) + Σ_k f''(k/K) ∫ −γ ln γ dγ over step k (appendix D.2).

    The weights sum to ¼ where a second-order Taylor expansion needs ½: it under-corrects.
    """
    _count(K, "K", "IH_PI")

    def primitive(g: float) -> float:
        return 0.0 if g == 0.0 else g * g * (0.25 - 0.5 * math.log(g))

    terms: list[Term] = [(Fraction(0), 1, 1.0)]
    for k in range(K):
        weight = primitive((k + 1) / K) - primitive(k / K)
        terms.append((Fraction(k, K), 2, weight))
    return QuadratureRule(f"ih_pi_{K}", 2 * K, tuple(terms))


def IH_DR(n: int) -> QuadratureRule:
    """Double Riemann sum of the integrated Hessian, f'(0) + n⁻² Σ_αβ αβ f''(αβ) (appendix D.2)."""
    shares = _products(_count(n, "n", "IH_DR", most=MOST_ROOTS))
    terms: list[Term] = [(Fraction(0), 1, 1.0)]
    terms += [(node, 2, float(node) * share) for node, share in shares.items()]
    return QuadratureRule(f"ih_dr_{n}", 2 * n * n, tuple(terms))


def IH_FULL(n: int) -> QuadratureRule:
    """Integrated Hessians as published, n⁻² Σ_αβ [f'(αβ) + αβ f''(αβ)] at midpoints.

    Janizek et al. 2021 (arXiv 2002.04138), for one component: the double integral is f(1) − f(0),
    where the paper's integrated Hessians keep f'(0) and the second term alone (not in the paper).
    """
    terms: list[Term] = []
    for node, share in _products(_count(n, "n", "IH_FULL", most=MOST_ROOTS)).items():
        terms += [(node, 1, share), (node, 2, float(node) * share)]
    return QuadratureRule(f"ih_full_{n}", 2 * n * n, tuple(terms))


def _products(n: int) -> dict[Fraction, float]:
    """Products αβ of n midpoints each, increasing, and the share of the unit square of each."""
    midpoints = [Fraction(2 * i + 1, 2 * n) for i in range(n)]
    shares: defaultdict[Fraction, float] = defaultdict(float)
    for alpha in midpoints:
        for beta in midpoints:
            shares[alpha * beta] += 1 / n**2
    return dict(sorted(shares.items()))


def THIRD_ORDER() -> QuadratureRule:
    """Third-order Taylor expansion, f'(0) + ½f''(0) + f'''(0)/6 (section 4.2, figure 6a)."""
    zero = Fraction(0)
    return QuadratureRule("third_order", 3, ((zero, 1, 1.0), (zero, 2, 0.5), (zero, 3, 1 / 6)))


def FD_HVP(h: Fraction = Fraction(1, 100)) -> QuadratureRule:
    """Finite-difference HVP, f'(0) + (f'(h) − f'(0))/(2h) (section 4.2, figure 6a)."""
    if not 0 < h <= 1:
        raise ValueError(f"FD_HVP needs a step 0 < h ≤ 1, got {float(h):g}")
    slope = 1 / (2 * float(h))
    return QuadratureRule("fd_hvp", 2, ((Fraction(0), 1, 1.0 - slope), (Fraction(h), 1, slope)))


def K_MEDIAN(steps: tuple[int, ...] = (5, 10, 20)) -> MedianRule:
    """Per-component median of MS_HVP over several K (section 4.3).

    Each different node costs 2; those of K = 5 and 10 lie among those of 20.
    """
    if not steps:
        raise ValueError("K_MEDIAN needs at least one K")
    rules = tuple(MS_HVP(K) for K in steps)
    return MedianRule("k_median", 2 * len(required_jets(rules)), rules)


# Names as they stand in the config and in every table; (\d+) is the rule's number of steps.
NAMES: dict[str, Callable[..., Estimator]] = {
    r"ap": AP,
    r"hvp": HVP,
    r"ms_hvp_(\d+)": MS_HVP,
    r"ig_(\d+)": IG,
    r"ig_left_(\d+)": lambda n: IG(n, "left"),
    r"ig_right_(\d+)": lambda n: IG(n, "right"),
    r"gl_(\d+)": GL,
    r"lobatto_(\d+)": LOBATTO,
    r"ih_pi_(\d+)": IH_PI,
    r"ih_dr_(\d+)": IH_DR,
    r"ih_full_(\d+)": IH_FULL,
    r"third_order": THIRD_ORDER,
    r"fd_hvp": FD_HVP,
    r"k_median": K_MEDIAN,
}


def by_name(name: str) -> Estimator:
    """The estimator called `name` (such as 'ms_hvp_5'); ValueError lists the known patterns."""
    for pattern, make in NAMES.items():
        if match := re.fullmatch(pattern, name, re.ASCII):
            if any(len(group) > 9 for group in match.groups()):
                raise ValueError(
                    f"estimator '{name[:40]}…' has too many steps: give {MOST_STEPS} at most"
                )
            return make(*(int(group) for group in match.groups()))
    known = ", ".join(pattern.replace(r"(\d+)", "N") for pattern in NAMES)
    raise ValueError(f"unknown estimator '{name}'; known: {known}")
