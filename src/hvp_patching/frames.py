"""The tables that pass from one room to another: their columns with units, and one check.

Here are those that models are run for; `aggregates.py` has those that are measured on them. What
stands here changes what is computed, so that it is kept apart from what is only read and shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

SMALLEST_SAMPLE = 6  # prompts that differ: 2 * 0.5**6 = 0.031, the first exact test below 0.05
ALPHA = 0.05  # below this p, a comparison is decided

# Operations of a cost table, beside ``derivative``'s and the baselines, which have their own names
FORWARD, BASE_RUN, PATCHING, REVERSE = "forward", "base_run", "patching", "reverse_pass"
# Methods that no score holds; the second is followed by k, as in ap_then_patching_10
EXACT, SCREENED = "activation_patching", "ap_then_patching"
COUNTS = (1, 10)  # of components computed at once, beside all of them
# Roles of heads by their attention, in the order in which ties are decided. A pattern has no sign,
# so a head that moves the target and one that suppresses it look alike: hence "-like".
ROLES = (
    "previous token",
    "duplicate token",
    "induction",
    "S-inhibition-like",
    "name mover-like",
)
NO_ROLE = "other"
# Where truth and estimate may disagree: how the truth is measured, while estimates stay as defined.
# MEAN_FIRST changes neither: it takes the mean over prompts before the error.
AS_DEFINED, MEAN_FIRST = "as_defined", "mean_first"
READINGS = (
    AS_DEFINED,
    "redrawn",
    "other_base",
    "last_position",
    "logit_difference",
    MEAN_FIRST,
    "half_precision",
    "bos",
)
FLOOR_METHODS = ("ap", "hvp", "ms_hvp_5", "ig_10")  # the paper's, with their steps in Table 2


def derivative(node: float, order: int) -> str:
    """Name of the operation that computes f', …, f^(order) of a component at one node."""
    return f"order_{order}_at_zero" if node == 0 else f"order_{order}"


class FrameError(ValueError):
    """A table that lacks what its readers need."""


@dataclass(frozen=True)
class Frame:
    """A table: its columns with what they hold, and how to have it made again."""

    name: str
    columns: Mapping[str, str]
    again: str = "measure it again"

    def check(self, table: pd.DataFrame, what: str = "") -> pd.DataFrame:
        """The table itself; ``FrameError`` where it lacks columns. ``what`` names it, as a path."""
        absent = [column for column in self.columns if column not in table.columns]
        if absent:
            named = what or f"the table '{self.name}'"
            raise FrameError(f"{named} lacks the columns {', '.join(absent)}: {self.again}")
        return table


def holding(what: str, *names: str) -> dict[str, str]:
    """Columns that hold the same."""
    return dict.fromkeys(names, what)


PROMPT = {"prompt_id": "name, unique in a setting"}
COMPONENT = {"layer": "number from 0", "index": "head, neuron or 0 within the layer"}
ROW = PROMPT | COMPONENT
METHOD = {"estimator": "id, with its number of steps"}
COST = {"cost": "nominal backward passes per component and prompt"}
SCORE = ROW | METHOD | {"estimate": "nats", "truth": "f(1) - f(0), nats"} | COST

PROMPTS = Frame("prompts", PROMPT | {"metric": "what m is, in words"}, "build the prompts again")
SCORES = Frame("scores", SCORE, "score them again")
SWEEP = Frame(
    "sweep",
    SCORE | {"truth_range": "max truth - min truth over all components, nats"},
    "run the sweep again",
)
RANKING_SCORES = replace(SCORES, name="ranking_scores")  # of more estimators
TOP = replace(SWEEP, name="top")  # of fewer
HESSIANS = replace(SWEEP, name="hessians")  # of integrated Hessians
FEATURE_SCORES = Frame(  # the index is the number of a feature of the layer's autoencoder
    "feature_scores",
    SCORE
    | {
        "hook": "full name, of the residual stream",
        "uncovered": "share of the norm of δ that no feature covers, of a prompt",
    },
    "compute the features again",
)
FLOOR_SCORES = Frame(  # the truth as the reading has it; estimates as defined
    "floor_scores",
    {
        **SWEEP.columns,
        "reading": "one of READINGS",
        "changed": "true or false: false where the reading is as defined for this task",
    },
    "compute the floors again",
)
SET_EFFECTS = Frame(  # of several heads patched together
    "set_effects",
    PROMPT
    | {
        "metric": "what m is, in words",
        "drawn": "random, or top: the heads of largest |truth|",
        "size": "count of components",
        "number": "of the set, among those of its prompt, metric, size and way of drawing",
        "predictor": "id, with its number of steps",
    }
    | holding("in the metric's units", "predicted", "joint_effect"),
    "compute the sets again",
)
SPECTRA = Frame(
    "spectra",
    PROMPT
    | {
        "layer": "number from 0",
        "rank": "how many eigenpairs of largest |eigenvalue|",
        "eigenvalue": "of the last of them, nats per squared unit of the activation",
        "mass": "fraction of the squared Frobenius norm that they hold",
        "covered": "fraction of neurons whose q they give to a tenth of itself",
        "q_error": "sum |q by them - q| / sum |q| over neurons, a fraction",
        "n_rows": "count, of the Hessian",
    },
    "compute the spectra again",
)
AUTOENCODERS = Frame(
    "autoencoders",
    {
        "layer": "number from 0",
        "hook": "full name, of the residual stream",
        "n_features": "count",
        "activation": "relu, jumprelu or topk",
        "trained": "true or false: our own, on text that the model sampled",
        "n_tokens": "count, held out",
        "explained_variance": "fraction",
        "l0": "mean active features of a token",
        "dead": "fraction of features active on no held-out token",
    }
    | holding("nats, cross-entropy of the next token", "loss", "loss_spliced", "loss_zero")
    | {"loss_recovered": "(zero - spliced) / (zero - loss), a fraction"},
    "assess the autoencoders again",
)
CONVERGENCE_SWEEP = Frame(
    "convergence_sweep", SCORE | {"dtype": "of the model"}, "compute the convergence again"
)
PROBES = Frame(
    "probes",
    ROW
    | holding("nats", "effect", "ap", "q")
    | {"delta_norm": "norm of the patch, in units of the activation"}
    | holding("nats per cubed unit of the activation", "lipschitz", "lipschitz_scalar"),
    "probe again",
)
ROLE_SCORES = Frame(
    "roles",
    COMPONENT | {"role": "one of ROLES", "score": "mean probability of attention, in [0, 1]"},
    "read the attention patterns again",
)
ACCURACY = Frame(
    "accuracy",
    PROMPT
    | {
        "correct": "true or false: the answer to the clean prompt is right",
        "lead": "best right logit - best wrong one, nats",
        "chance": "fraction of draws among the choices that are right",
    },
    "compute the accuracy again",
)
PLACE = {"device": "cpu or cuda", "threads": "count"}
COSTS = Frame(
    "costs",
    {"operation": "name", "rows": "components that a call serves", "seconds": "s"} | PLACE,
)
