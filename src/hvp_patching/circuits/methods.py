"""The methods that score edges, by name: which path, which derivatives, which edges."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch

from hvp_patching.circuits.edge_run import EdgeRun
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
SCREEN = "eap_ig_inputs_5"  # whose distance from EAP chooses the edges of selective_own_N


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
    """The method called `name` (such as 'eap_ig_inputs_5'); ValueError lists the known patterns."""
    for pattern, make in NAMES.items():
        match = re.fullmatch(pattern, name) if isinstance(name, str) else None
        if match:
            return make(name, *(group for group in match.groups() if group is not None))
    known = [re.sub(r"\(\\d\+\)", "N", pattern) for pattern in NAMES]
    known = [
        pattern.replace(NUMBER, "TAU").replace(f"(?:_{'TAU'})?", "[_TAU]") for pattern in known
    ]
    raise ValueError(f"unknown method {name!r}; known: {', '.join(known)}")


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
        flagged = _flagged(ap, 2 * (screen(run, mask, memory, _silent) - ap), tau)
        if bool(flagged.any()):
            chosen = torch.zeros_like(mask)
            chosen[mask] = flagged
            ap[flagged] = own_estimates(run, _edges(chosen), HVP(), memory, progress)
        return ap

    return score


def _flagged(ap: torch.Tensor, q: torch.Tensor, tau: float) -> torch.Tensor:
    return torch.from_numpy(flagging_score(ap.numpy(), q.numpy()) > tau)


def _edges(mask: torch.Tensor) -> list[tuple[int, int]]:
    return [(row, column) for row, column in mask.nonzero().tolist()]


def _silent(fraction: float) -> None:
    """Part of a larger piece of work that reports itself."""


def _plain(score: Score) -> Callable[[str], Method]:
    return lambda name: Method(name, score)


def _counted(name: str, count: str, make: Callable[[int], Score]) -> Method:
    if int(count) < 1:
        raise ValueError(f"method '{name}' needs at least 1 step")
    return Method(name, make(int(count)))


def _selective(name: str, *given: str) -> Method:
    screens = {"input": along(input_path, HVP()), "joint": along(joint_path, HVP())}
    screen = screens[given[0]] if given and given[0] in screens else None
    tau = float(given[-1]) if given and given[-1] not in screens else TAU
    return Method(name, selective(screen, tau))


def _replacing(name: str, fix: str, count: str) -> Method:
    if int(count) < 1:
        raise ValueError(f"method '{name}' needs at least 1 edge to replace")
    return Method(name, EAP, int(count), {"own": own(HVP()), "exact": exact}[fix])


NUMBER = r"(\d+(?:\.\d+)?)"
NAMES: dict[str, Callable[..., Method]] = {
    r"eap": _plain(EAP),
    r"eap_ig_inputs_(\d+)": lambda name, n: _counted(
        name, n, lambda steps: along(input_path, IG(steps, "right"))
    ),
    r"eap_ig_activations_(\d+)": lambda name, n: _counted(name, n, activations),
    r"hvp_own": _plain(own(HVP())),
    r"hvp_reader": _plain(reader),
    r"hvp_input": _plain(along(input_path, HVP())),
    r"hvp_joint": _plain(along(joint_path, HVP())),
    r"ms_hvp_own_(\d+)": lambda name, n: _counted(name, n, lambda K: own(MS_HVP(K))),
    r"ms_hvp_input_(\d+)": lambda name, n: _counted(
        name, n, lambda K: along(input_path, MS_HVP(K))
    ),
    r"ms_hvp_joint_(\d+)": lambda name, n: _counted(
        name, n, lambda K: along(joint_path, MS_HVP(K))
    ),
    r"ig_own_(\d+)": lambda name, n: _counted(name, n, lambda steps: own(IG(steps))),
    r"exact": _plain(exact),
    rf"selective(?:_{NUMBER})?": _selective,
    rf"selective_(input|joint)(?:_{NUMBER})?": _selective,
    r"selective_(own|exact)_(\d+)": _replacing,
}
