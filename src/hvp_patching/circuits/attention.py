"""Attention patterns of the clean run, and what they say about the role of each head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import torch

from hvp_patching.frames import ROLES
from hvp_patching.isolation import isolated
from hvp_patching.paths.base_run import check_eval_mode
from hvp_patching.paths.precision import keep_precision
from hvp_patching.prompts.pair import TokenPair
from hvp_patching.sites import n_layers, run_model

PATTERN = "blocks.{layer}.attn.hook_pattern"
ROW_SUM_TOLERANCE = 1e-4  # float32 softmax rows add up to 1 within about 1e-6
HEAD = ["layer", "index"]


@isolated()
def attention_patterns(model: Any, tokens: TokenPair) -> torch.Tensor:
    """Attention probabilities of the clean run, [n_layers, n_heads, n_pos, n_pos], on the CPU.

    The last two axes are destination and source; every row sums to 1 (figure 12). ValueError for a
    model in train mode, or whose hook_pattern does not hold probabilities.
    """
    check_eval_mode(model)
    captured: dict[str, torch.Tensor] = {}

    def capture(pattern: torch.Tensor, hook: Any) -> None:
        captured[hook.name] = pattern[0].detach().cpu()

    names = [PATTERN.format(layer=layer) for layer in range(n_layers(model))]
    ids = torch.tensor([tokens.clean_ids], device=next(model.parameters()).device)
    with torch.no_grad(), keep_precision(model.cfg.dtype):
        run_model(model, ids, [(name, capture) for name in names], use_cache=False)
    silent = [name for name in names if name not in captured]
    if silent:
        raise ValueError(f"{silent[0]} never runs in this model: load it with eager attention")
    patterns = torch.stack([captured[name] for name in names])
    _check_rows(patterns)
    return patterns


def _check_rows(patterns: torch.Tensor) -> None:
    off = (patterns.double().sum(-1) - 1).abs()
    if not bool((off <= ROW_SUM_TOLERANCE).all()):  # NaN fails too
        raise ValueError(
            f"attention rows sum to 1 ± {float(off.max()):g}, not to 1: hook_pattern holds no "
            "probabilities in this model; load it with hvp_patching.load_model"
        )


def patterns_frame(patterns: torch.Tensor, tokens: TokenPair, texts: Sequence[str]) -> pd.DataFrame:
    """Patterns as rows, source ≤ destination: prompt_id, layer, index, destination, source,
    probability, destination_token, source_token.

    texts: one per position. ValueError where their number is not the patterns' n_pos.
    """
    n = patterns.shape[-1]
    if len(texts) != n:
        raise ValueError(
            f"prompt '{tokens.prompt_id}': {len(texts)} token texts for {n} positions; give each"
        )
    destination, source = (side.numpy() for side in torch.tril_indices(n, n))
    heads = _heads(patterns)
    frame = heads.loc[heads.index.repeat(len(source))].reset_index(drop=True)
    frame.insert(0, "prompt_id", tokens.prompt_id)
    frame["destination"] = list(destination) * len(heads)
    frame["source"] = list(source) * len(heads)
    frame["probability"] = patterns[..., destination, source].flatten().double().numpy()
    for side in ("destination", "source"):
        frame[f"{side}_token"] = frame[side].map(dict(enumerate(texts)))
    return frame


def _heads(patterns: torch.Tensor) -> pd.DataFrame:
    """All heads by layer and index, in the order of the patterns' first two axes."""
    sizes = [range(size) for size in patterns.shape[:2]]
    return pd.MultiIndex.from_product(sizes, names=HEAD).to_frame(index=False)


def role_scores(patterns: torch.Tensor, tokens: TokenPair) -> pd.DataFrame:
    """How much each head attends where its role would have it: layer, index, role, score in [0, 1].

    patterns: [n_layers, n_heads, n_pos, n_pos]. A score is the probability on a role's sources,
    mean over its destinations; NaN where the prompt has none (appendix E.10, figure 11):
    previous token (every position → the one before), duplicate token (repeated token → its earlier
    places), induction (repeated token → the tokens after those), S-inhibition-like (last position →
    the changed token where it repeats an earlier one, as IOI's second subject), name mover-like
    (last position → tokens of the target).
    ValueError where patterns and prompt differ in length.
    """
    n = len(tokens.clean_ids)
    if tuple(patterns.shape[-2:]) != (n, n):
        raise ValueError(
            f"prompt '{tokens.prompt_id}' has {n} tokens but the patterns are "
            f"{' by '.join(map(str, patterns.shape[-2:]))}; take both from the same prompt"
        )
    heads = _heads(patterns)
    frames = []
    for role, mask in role_masks(tokens).items():
        score = (patterns.double() * mask).sum(-1)[..., mask.any(-1)].mean(-1).flatten()
        frames.append(heads.assign(role=role, score=score.numpy()))
    return pd.concat(frames, ignore_index=True)


def role_masks(tokens: TokenPair) -> dict[str, torch.Tensor]:
    """Per role of ROLES, where it attends: bool [n_pos destinations, n_pos sources].

    The first three are the detection patterns of TransformerLens's head detector.
    """
    from transformer_lens import head_detector  # here, since it takes seconds

    ids = torch.tensor([tokens.clean_ids])
    previous = head_detector.get_previous_token_head_detection_pattern(ids)
    duplicate = head_detector.get_duplicate_token_head_detection_pattern(ids)
    induction = head_detector.get_induction_head_detection_pattern(ids)
    # of all repeated tokens, only the one that the pair is about: templates repeat words too
    changed = ids[0] != torch.tensor(tokens.corrupted_ids)
    subject = duplicate.bool().any(-1) & changed
    target = torch.isin(ids[0], torch.tensor(tokens.target_ids))
    masks = (
        previous.bool(),
        duplicate.bool(),
        induction.bool(),
        *map(_from_last, (subject, target)),
    )
    return dict(zip(ROLES, masks, strict=True))


def _from_last(sources: torch.Tensor) -> torch.Tensor:
    """Mask of the last position's attention to `sources`, bool [n_pos], other than itself."""
    mask = torch.zeros(len(sources), len(sources), dtype=torch.bool)
    mask[-1, :-1] = sources[:-1]
    return mask


def mean_role_scores(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Mean of several prompts' role scores: layer, index, role, score, n_prompts.

    n_prompts counts the prompts on which a role is defined; where that is 0 the score is NaN.
    ValueError where there are no prompts.
    """
    collected = list(frames)
    if not collected:
        raise ValueError("no role scores given; measure at least one prompt")
    groups = pd.concat(collected).groupby([*HEAD, "role"], sort=False)["score"]
    return groups.agg(score="mean", n_prompts="count").reset_index()
