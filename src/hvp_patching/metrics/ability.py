"""Whether a model does a task: its accuracy on the clean prompts, above what chance gives."""

from __future__ import annotations

import pandas as pd

from hvp_patching.metrics.resampling import bootstrap_interval


def ability(
    accuracy: pd.DataFrame, able_from: float, n_resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """One row: n_prompts, accuracy with its 95% prompt bootstrap, chance, above_chance, able.

    `accuracy`: prompt_id, correct, chance of every prompt. above_chance is (accuracy − chance) /
    (1 − chance): 0 at chance, 1 where every answer is right. able: it is at least `able_from`.
    ValueError where there are no prompts, or for an `able_from` outside [0, 1].
    """
    if accuracy.empty:
        raise ValueError("no answers given; measure the accuracy of at least one prompt")
    if not 0 <= able_from <= 1:
        raise ValueError(f"able_from is {able_from:g}; give a share in [0, 1]")
    correct = accuracy["correct"].astype("float64")
    value, chance = float(correct.mean()), float(accuracy["chance"].mean())
    low, high = bootstrap_interval(correct.to_numpy(), n_resamples=n_resamples, seed=seed)
    above = (value - chance) / (1 - chance) if chance < 1 else float("nan")
    row = {
        "n_prompts": len(accuracy),
        "accuracy": value,
        "ci_low": low,
        "ci_high": high,
        "chance": chance,
        "above_chance": above,
        "able": above >= able_from,
    }
    return pd.DataFrame([row])
