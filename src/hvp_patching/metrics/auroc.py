"""How well the reliability score finds unreliable attribution patching, by quartile."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from hvp_patching.metrics.reliability import flagging_score

Floats = NDArray[np.float64]
LEVEL = 0.95


def auroc_by_quartile(
    probes: pd.DataFrame,
    unreliable: float = 0.5,
    trivial_effect: float = 1e-6,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """The frame ``auroc``: AUROC of rho for AP's relative error > ``unreliable``, by quartile.

    ``probes`` is the frame of that name; rows with |effect| <= trivial_effect are left out. AP = 0
    counts as the largest score where q is not 0 and as the smallest where it is. Quartiles (Q1 to
    Q4, all) are of delta_norm and of |effect|, and held fixed in the intervals' resamples. NaN
    where one class is empty, and intervals also where there is one prompt. Figure 8.
    """
    table = probes[probes["effect"].abs() > trivial_effect]
    effect = table["effect"].to_numpy(dtype=float)
    label = np.abs(table["ap"].to_numpy(dtype=float) - effect) > unreliable * np.abs(effect)
    # ranks: AUROC is a function of the order alone, and scikit-learn takes no infinite score
    score = rankdata(flagging_score(table["ap"], table["q"]))
    prompt = pd.factorize(table["prompt_id"])[0]
    drawn = _resampled_prompts(probes["prompt_id"].nunique(), n_resamples, seed)
    rows = []
    for quantity in ("delta_norm", "effect"):
        size = np.abs(table[quantity].to_numpy(dtype=float))
        for name, low, high, inside in _quartiles(size):
            part = label[inside], score[inside]
            ci_low, ci_high = _interval(*part, prompt[inside], drawn)
            rows.append(
                {
                    "quantity": quantity,
                    "quartile": name,
                    "low": low,
                    "high": high,
                    "n": int(inside.sum()),
                    "n_unreliable": int(part[0].sum()),
                    "auroc": _auroc(*part),
                    "ci_low": ci_low,
                    "ci_high": ci_high,
                }
            )
    return pd.DataFrame(rows)


def _quartiles(size: Floats) -> Iterator[tuple[str, float, float, NDArray[np.bool_]]]:
    """Name, limits and members of the four quartiles and of all; a limit belongs to the lower."""
    edges = np.quantile(size, [0, 0.25, 0.5, 0.75, 1]) if len(size) else np.full(5, np.nan)
    number = np.searchsorted(edges[1:4], size, side="left")
    for i in range(4):
        yield f"Q{i + 1}", float(edges[i]), float(edges[i + 1]), number == i
    yield "all", float(edges[0]), float(edges[4]), np.ones(len(size), dtype=bool)


def _auroc(label: NDArray[np.bool_], score: Floats) -> float:
    both = bool(label.any()) and not bool(label.all())
    return float(roc_auc_score(label, score)) if both else float("nan")


def _resampled_prompts(n_prompts: int, n_resamples: int, seed: int) -> Floats:
    """How often each prompt is drawn, [n_resamples, n_prompts]."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_prompts, np.full(n_prompts, 1 / n_prompts), n_resamples).astype(float)


def _interval(
    label: NDArray[np.bool_], score: Floats, prompt: NDArray[np.intp], drawn: Floats
) -> tuple[float, float]:
    """Percentile interval of the AUROC over resampled prompts, without those of one class."""
    n = drawn.shape[1]
    if n < 2 or label.all() or not label.any():
        return float("nan"), float("nan")
    wins, pairs = _wins(label, score, prompt, n)
    # prompts drawn a and b times count a * b times in each pair of them
    won = np.einsum("rp,pq,rq->r", drawn, wins, drawn, optimize=True)
    possible = np.einsum("rp,pq,rq->r", drawn, pairs, drawn, optimize=True)
    aurocs = won[possible > 0] / possible[possible > 0]
    if not len(aurocs):
        return float("nan"), float("nan")
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(aurocs, [tail, 1 - tail])
    return float(low), float(high)


def _wins(
    label: NDArray[np.bool_], score: Floats, prompt: NDArray[np.intp], n: int
) -> tuple[Floats, Floats]:
    """Pairs of an unreliable and a reliable component by their prompts, [n, n] twice.

    The pairs in which the unreliable one scores higher, ties half, and all pairs. AUROC is the
    ratio of their sums; this makes a resample a product of small matrices.
    """
    wins, pairs = np.zeros((n, n)), np.zeros((n, n))
    bad, owner = score[label], prompt[label]
    for other in range(n):
        good = np.sort(score[~label & (prompt == other)])
        below = np.searchsorted(good, bad, "left") + np.searchsorted(good, bad, "right")
        wins[:, other] = np.bincount(owner, below / 2, minlength=n)
        pairs[:, other] = len(good) * np.bincount(owner, minlength=n)
    return wins, pairs
