"""Estimators by name, known before anything heavy is loaded."""

from __future__ import annotations

from hvp_patching.estimators import by_name


def chosen_estimators(text: str) -> tuple[str, ...]:
    """The names in a list with commas; ValueError for an unknown or repeated one, or none."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ValueError("--estimators is empty; name at least one, such as ap,hvp")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"--estimators names {name} twice")
        _check(name)
    return names


def _check(name: str) -> None:
    try:
        by_name(name)
    except ValueError as error:
        from hvp_patching.baselines import BASELINES  # which loads torch

        if name not in BASELINES:
            raise ValueError(f"{error}; baselines: {', '.join(BASELINES)}") from error
