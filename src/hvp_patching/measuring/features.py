"""Features of sparse autoencoders as patches: the estimators beside the truth.

Rule compute_features.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

import pandas as pd

from hvp_patching.cache import Store
from hvp_patching.checking import Subject, check_patches
from hvp_patching.estimators import by_name
from hvp_patching.features.autoencoder import SparseAutoencoder
from hvp_patching.features.patching import feature_moves, feature_patches
from hvp_patching.features.stored import stored_feature_jets
from hvp_patching.frames import FEATURE_SCORES
from hvp_patching.measuring.jets import needed_nodes
from hvp_patching.measuring.measurement import Measurement
from hvp_patching.measuring.scores import score_estimators
from hvp_patching.paths.patches import Patch


def measure_features(
    measurement: Measurement,
    store: Store,
    autoencoders: Sequence[SparseAutoencoder],
    estimators: Sequence[str],
) -> pd.DataFrame:
    """The frame `feature_scores`: every feature that moves, by every estimator, in nats.

    ValueError where two autoencoders read the same layer, no feature moves on any prompt, or as
    in stored_feature_jets; CheckFailed.
    """
    m, rules, nodes = measurement, [by_name(name) for name in estimators], needed_nodes(estimators)
    layers = [autoencoder.kind.layer for autoencoder in autoencoders]
    if len(set(layers)) < len(layers):
        raise ValueError(f"autoencoders of layers {layers}; one of each layer can be measured")

    def advance(fraction: float) -> None:
        m.advance(fraction / len(autoencoders))

    def measure(subject: Subject) -> pd.DataFrame:
        frames = []
        for autoencoder in autoencoders:
            jets, uncovered, computed = stored_feature_jets(
                *(store, m.model, subject.tokens, autoencoder, nodes, m.backend, m.direction),
                *(m.memory, advance),
            )
            hook, n = autoencoder.kind.hook, len(jets.components)
            logging.info("%s: %d features move, %d nodes computed", hook, n, computed)
            if n:
                made = partial(_patches, m, subject, autoencoder)
                check_patches(m.check, subject, made, jets)
                scores = score_estimators(jets.to_frame(subject.tokens.prompt_id), rules)
                frames.append(scores.assign(hook=hook, uncovered=uncovered))
        nothing = pd.DataFrame(columns=list(FEATURE_SCORES.columns))
        return pd.concat(frames, ignore_index=True) if frames else nothing

    table = m.table(measure)
    if table.empty:
        raise ValueError(
            "no feature moves on any prompt; give autoencoders with more active features"
        )
    return FEATURE_SCORES.check(table)


def _patches(m: Measurement, subject: Subject, autoencoder: SparseAutoencoder) -> list[Patch]:
    moves = feature_moves(m.model, subject.tokens, autoencoder, m.direction)
    return feature_patches(moves, autoencoder)
