"""The methods that score edges, by name: which path, which derivatives, which edges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from hvp_patching.circuits.edge_run import EdgeRun
from hvp_patching.circuits.method_names import replaces, split_name
from hvp_patching.circuits.path_gradients import (
    Row,
    Shift,
    input_path,
    joint_path,
    reader_gradients,
    rows_of,
    writer_layers,
)
from hvp_patching.circuits.single_edges import (
    edge_jets,
    exact_effects,
    own_estimates,
    reader_curvatures,
)
from hvp_patching.estimators import AP, HVP, IG, MS_HVP, QuadratureRule
from hvp_patching.metrics.reliability import flagging_score
from hvp_patching.paths.rows import Progress

# (run, mask of asked edges, bytes for one pass, progress) -> float64 [n_edges], in the mask's order
Score = Callable[[EdgeRun, torch.Tensor, int, Progress], torch.Tensor]
TAU = 0.5
SCREEN = "eap_ig_inputs_5"  # whose distance from EAP chooses the edges that are replaced


@dataclass(frozen=True)
class Method:
    """A method: what scores the edges of one pair; replaced: so many edges are scored by `fix`.

    Which edges is decided on the means over all pairs, by |EAP-IG − EAP|.
    """

    name: str
    score: Score
    replaced: int = 0
    fix: Score | None = None


def method_by_name(name: str) -> Method:
    """The method called `name` (such as 'eap_ig_inputs_5'); ValueError lists the known ones."""
    family, number = split_name(name)
    return Method(name, SCORES[family](number), replaces(name), FIXES.get(family))


def contracted(run: EdgeRun, gradients: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """δ_u · g_v of the asked edges, float64 [n_edges]; gradients: [n_readers, n_suffix · d]."""
    scores = torch.zeros(mask.shape, dtype=torch.float64)
    for place in run.graph.places:
        into = gradients[place.columns].T
        scores[: place.before, place.columns] = run.flat_delta[: place.before] @ into
    return scores[mask]


def along(path: Callable[[EdgeRun], list[Shift]], rule: QuadratureRule) -> Score:
    """A rule over a path that moves the whole run, contracted with every writer's change."""

    def score(run: EdgeRun, mask: torch.Tensor, memory: int, progress: Progress) -> torch.Tensor:
        found = contracted(run, reader_gradients(run, path(run), rows_of(rule), memory), mask)
        progress(1.0)
        return found

    return score


EAP = along(input_path, AP())


def activations(steps: int) -> Score:
    """EAP-IG (activations): the mean gradient over 2L + 1 places × `steps` shifted runs.

    Each place's last step is the clean run, which is run once and counted as often.
    """

    def score(run: EdgeRun, mask: torch.Tensor, memory: int, progress: Progress) -> torch.Tensor:
        places = writer_layers(run)
        weight = 1 / (steps * len(places))
        rows = [Row(0.0, 1 / steps)]
        rows += [
            Row(k / steps, weight, place=place)
            for place in range(len(places))
            for k in range(1, steps)
        ]
        found = contracted(run, reader_gradients(run, places, rows, memory), mask)
        progress(1.0)
        return found

    return score


def own(rule: QuadratureRule) -> Score:
    """A rule over every edge's own path: passes of one row an edge."""

    def score(run: EdgeRun, mask: torch.Tensor, memory: int, progress: Progress) -> torch.Tensor:
        return own_estimates(run, _edges(mask), rule, memory, progress)

    return score


def exact(run: EdgeRun, mask: torch.Tensor, memory: int, progress: Progress) -> torch.Tensor:
    """f(1) − f(0) of every asked edge."""
    return exact_effects(run, _edges(mask), memory, progress)


def reader(run: EdgeRun, mask: torch.Tensor, memory: int, progress: Progress) -> torch.Tensor:
    """δ_u·g_v + ½ δ_u·H_vv δ_v: one Hessian–vector product a reader."""
    columns = mask.any(0).nonzero().flatten().tolist()
    gradients = torch.zeros(mask.shape[1], run.delta[0].numel(), dtype=torch.float64)
    gradients[columns] = reader_curvatures(run, columns, memory, progress) / 2
    return EAP(run, mask, memory, _silent) + contracted(run, gradients, mask)


def selective(screen: Score | None, tau: float) -> Score:
    """EAP where ρ ≤ tau and own HVP elsewhere; ρ = |second-order term| / |EAP| by `screen`.

    None screens by the edges' own curvature, which is the paper's ρ and has the price of own HVP.
    """

    def score(run: EdgeRun, mask: torch.Tensor, memory: int, progress: Progress) -> torch.Tensor:
        if screen is None:
            jets = edge_jets(run, _edges(mask), HVP().request(), memory, progress)
            ap, q = jets.at(0.0, 1), jets.at(0.0, 2)
            return torch.where(_flagged(ap, q, tau), ap + q / 2, ap)
        ap = EAP(run, mask, memory, _silent)
        over = _flagged(ap, 2 * (screen(run, mask, memory, _silent) - ap), tau)
        if bool(over.any()):
            chosen = torch.zeros_like(mask)
            chosen[mask] = over
            ap[over] = own_estimates(run, _edges(chosen), HVP(), memory, progress)
        return ap

    return score


def flagged(path: Callable[[EdgeRun], list[Shift]], tau: float) -> Score:
    """The path's HVP where ρ > tau and EAP elsewhere, ρ by that path: no row an edge.

    The only selection at a threshold that all edges of a model can have.
    """
    second_order = along(path, HVP())

    def score(run: EdgeRun, mask: torch.Tensor, memory: int, progress: Progress) -> torch.Tensor:
        ap = EAP(run, mask, memory, _silent)
        full = second_order(run, mask, memory, _silent)
        progress(1.0)
        return torch.where(_flagged(ap, 2 * (full - ap), tau), full, ap)

    return score


def _flagged(ap: torch.Tensor, q: torch.Tensor, tau: float) -> torch.Tensor:
    return torch.from_numpy(flagging_score(ap.numpy(), q.numpy()) > tau)


def _edges(mask: torch.Tensor) -> list[tuple[int, int]]:
    return [(row, column) for row, column in mask.nonzero().tolist()]


def _silent(fraction: float) -> None:
    """Part of a larger piece of work that reports itself."""


def _tau(number: str) -> float:
    return float(number) if number else TAU


# A family's score by the number behind its name
SCORES: dict[str, Callable[[str], Score]] = {
    "eap": lambda _: EAP,
    "eap_ig_inputs": lambda n: along(input_path, IG(int(n), "right")),
    "eap_ig_activations": lambda n: activations(int(n)),
    "hvp_own": lambda _: own(HVP()),
    "hvp_reader": lambda _: reader,
    "hvp_input": lambda _: along(input_path, HVP()),
    "hvp_joint": lambda _: along(joint_path, HVP()),
    "ms_hvp_own": lambda n: own(MS_HVP(int(n))),
    "ms_hvp_input": lambda n: along(input_path, MS_HVP(int(n))),
    "ms_hvp_joint": lambda n: along(joint_path, MS_HVP(int(n))),
    "ig_own": lambda n: own(IG(int(n))),
    "exact": lambda _: exact,
    "selective": lambda tau: selective(None, _tau(tau)),
    "selective_input": lambda tau: selective(along(input_path, HVP()), _tau(tau)),
    "selective_joint": lambda tau: selective(along(joint_path, HVP()), _tau(tau)),
    "hvp_input_flagged": lambda tau: flagged(input_path, _tau(tau)),
    "hvp_joint_flagged": lambda tau: flagged(joint_path, _tau(tau)),
    "selective_own": lambda _: EAP,
    "selective_exact": lambda _: EAP,
}
FIXES: dict[str, Score] = {"selective_own": own(HVP()), "selective_exact": exact}
