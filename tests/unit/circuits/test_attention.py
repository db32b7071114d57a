"""Attention patterns and the roles they suggest."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from transformer_lens.head_detector import HEAD_NAMES, detect_head

from hvp_patching.circuits.attention import (
    attention_patterns,
    mean_role_scores,
    patterns_frame,
    role_scores,
)
from hvp_patching.frames import NO_ROLE, ROLES
from hvp_patching.metrics.roles import assign_roles
from hvp_patching.models.tiny import FAMILIES, build_tiny
from hvp_patching.prompts.pair import TokenPair, encode

#            0  1  2  3  4  5  6  7    token 5 stands at 1 and again at 4, the target 6 at 2
IOI_LIKE = (9, 5, 6, 7, 5, 8, 4, 3)


def pair(
    clean: tuple[int, ...] = IOI_LIKE, targets: tuple[int, ...] = (6,), changed: int = 4
) -> TokenPair:
    corrupted = [*clean[:changed], 2000, *clean[changed + 1 :]]
    return TokenPair(clean, tuple(corrupted), targets, "hand-made")


def random_patterns(n_layers: int, n_heads: int, n: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(n_layers, n_heads, n, n, generator=draw, dtype=torch.float64)
    hidden = torch.ones(n, n, dtype=torch.bool).triu(1)
    return logits.masked_fill(hidden, -torch.inf).softmax(-1)


def one_head(attends: dict[int, int], n: int = len(IOI_LIKE)) -> torch.Tensor:
    """A head that attends where it is told, and to position 0 from everywhere else."""
    pattern = torch.zeros(1, 1, n, n, dtype=torch.float64)
    for destination in range(n):
        pattern[0, 0, destination, attends.get(destination, 0)] = 1.0
    return pattern


@pytest.mark.parametrize("family", FAMILIES)
def test_patterns_are_those_that_the_original_model_reports(tiny, make_pair, family):
    tokens = make_pair()
    found = attention_patterns(tiny(family), tokens)
    original = build_tiny(family)[0].double()
    with torch.no_grad():
        output = original(torch.tensor([tokens.clean_ids]), output_attentions=True)
    expected = torch.stack([layer[0] for layer in output.attentions])
    # the original takes its softmax in float32
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    n = len(tokens.clean_ids)
    assert (found.sum(-1) - 1).abs().max() < 1e-12  # ours does not
    assert found[..., torch.ones(n, n, dtype=torch.bool).triu(1)].abs().max() == 0
    assert found.std() > 0.05


def test_patterns_of_the_clean_run_and_not_of_the_corrupted(tiny, make_pair):
    tokens = make_pair(changed=(4,))
    turned = TokenPair(tokens.corrupted_ids, tokens.clean_ids, tokens.target_ids, "turned")
    clean, corrupted = (attention_patterns(tiny("tiny-gpt2"), each) for each in (tokens, turned))
    same = (clean == corrupted).all(-1).all(0).all(0)
    assert same.tolist() == [True] * 4 + [False] * 10


def test_a_model_in_train_mode_is_refused(make_pair):
    from hvp_patching.models import load_model

    model = load_model("tiny-gpt2", device="cpu")
    model.train()
    with pytest.raises(ValueError, match="train mode"):
        attention_patterns(model, make_pair())


class ScoresAtThePatternHook(torch.nn.Module):
    """A model whose hook_pattern hands out something else than probabilities."""

    def __init__(self, value: float, fires: bool = True) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.cfg = SimpleNamespace(n_layers=1, dtype=torch.float64)
        self.value, self.fires = value, fires
        self.train(False)

    def run_with_hooks(self, ids: torch.Tensor, fwd_hooks: list, **_: object) -> None:
        name, hook = fwd_hooks[0]
        if self.fires:
            hook(
                torch.full((1, 2, ids.shape[1], ids.shape[1]), self.value),
                hook=SimpleNamespace(name=name),
            )


@pytest.mark.parametrize("value", [0.5, math.nan])
def test_rows_that_do_not_sum_to_one_are_refused(value):
    with pytest.raises(ValueError, match=r"attention rows sum to 1 ± (3|nan), not to 1"):
        attention_patterns(ScoresAtThePatternHook(value), pair())


def test_a_hook_that_never_runs_is_refused():
    with pytest.raises(ValueError, match=r"blocks\.0\.attn\.hook_pattern never runs"):
        attention_patterns(ScoresAtThePatternHook(1.0, fires=False), pair())


@pytest.mark.parametrize(
    ("role", "attends"),
    [
        ("previous token", {position: position - 1 for position in range(1, 8)}),
        ("duplicate token", {4: 1}),
        ("induction", {4: 2}),
        ("S-inhibition-like", {7: 4}),
        ("name mover-like", {7: 2}),
    ],
)
def test_a_head_that_does_only_what_its_role_does_scores_one_there(role, attends):
    scores = role_scores(one_head(attends), pair()).set_index("role")["score"]
    assert tuple(scores.index) == ROLES
    assert scores[role] == 1
    assert (scores.drop(role) < 0.3).all()
    assert assign_roles(role_scores(one_head(attends), pair()))["role"].tolist() == [role]


def test_scores_are_what_a_plain_loop_counts():
    # token 5 three times, the target 6 twice, and a repeat that the pair does not change
    tokens = pair((9, 5, 6, 7, 5, 6, 5, 3), targets=(6, 1000), changed=6)
    patterns = random_patterns(2, 3, 8)
    ids, last = tokens.clean_ids, 7
    wanted: dict[str, dict[int, list[int]]] = {role: {} for role in ROLES}
    for to in range(1, 8):
        wanted["previous token"][to] = [to - 1]
        if earlier := [at for at in range(to) if ids[at] == ids[to]]:
            wanted["duplicate token"][to] = earlier
            wanted["induction"][to] = [at + 1 for at in earlier]
    wanted["S-inhibition-like"][last] = [6]
    wanted["name mover-like"][last] = [at for at in range(last) if ids[at] == 6]
    scores = role_scores(patterns, tokens).set_index(["layer", "index", "role"])["score"]
    assert len(scores) == 2 * 3 * len(ROLES)
    for (layer, index, role), score in scores.items():
        rows = [
            sum(float(patterns[layer, index, to, at]) for at in sources)
            for to, sources in wanted[role].items()
        ]
        assert score == pytest.approx(sum(rows) / len(rows), abs=1e-12)
        assert 0 < score < 1


@pytest.mark.parametrize("family", ["tiny-gpt2", "tiny-qwen2"])
def test_scores_agree_with_the_head_detector_of_transformer_lens(tiny, family):
    model = tiny(family)
    text = "When Mary and John went to the store and Mary gave John a drink and"
    ids = encode(model, text)
    assert model.to_tokens(text)[0].tolist() == list(ids)  # no BOS in these two
    tokens = TokenPair(ids, (*ids[:-1], ids[-1] - 1), (ids[1],), "detector")
    scores = role_scores(attention_patterns(model, tokens), tokens)
    repeats = sum(token in ids[:position] for position, token in enumerate(ids))
    # the detector spreads its mean over all destinations, also those where a role has no source
    destinations = dict(zip(HEAD_NAMES, (len(ids) - 1, repeats, repeats), strict=True))
    for name, role in zip(HEAD_NAMES, ROLES[:3], strict=True):
        with torch.no_grad():
            detected = detect_head(model, text, name).double() * len(ids) / destinations[name]
        ours = scores.loc[scores["role"] == role, "score"].to_numpy()
        # it runs at the model's hidden float32 softmax
        assert ours == pytest.approx(detected.flatten().numpy(), abs=1e-6)
        assert ours.min() > 0


def test_a_role_without_a_source_in_the_prompt_has_no_score():
    # nothing repeated, the target absent
    tokens = pair(clean=(9, 5, 6, 7), targets=(1000,), changed=2)
    scores = role_scores(random_patterns(2, 2, 4), tokens)
    undefined = scores.loc[scores["score"].isna(), "role"].unique().tolist()
    assert undefined == list(ROLES[1:])


def test_the_last_position_is_no_source_of_its_own_attention():
    # the last token is a repeat, changed, and the target
    tokens = pair(clean=(9, 5, 6, 5), targets=(5,), changed=3)
    scores = role_scores(random_patterns(1, 1, 4), tokens).set_index("role")["score"]
    assert math.isnan(scores["S-inhibition-like"])
    expected = float(random_patterns(1, 1, 4)[0, 0, 3, 1])
    assert scores["name mover-like"] == pytest.approx(expected, abs=1e-12)


def test_a_template_that_repeats_words_makes_no_inhibition_head():
    scores = role_scores(random_patterns(1, 1, 8), pair(changed=3)).set_index("role")["score"]
    assert math.isnan(scores["S-inhibition-like"])
    assert scores["duplicate token"] > 0


def test_patterns_and_prompt_must_have_one_length():
    with pytest.raises(ValueError, match="has 8 tokens but the patterns are 5 by 5"):
        role_scores(random_patterns(1, 1, 5), pair())
    with pytest.raises(ValueError, match="'hand-made': 2 token texts for 8 positions"):
        patterns_frame(random_patterns(1, 1, 8), pair(), ["a", "b"])


def test_the_frame_holds_every_probability_once():
    patterns, texts = random_patterns(2, 3, 8), [f"t{position}" for position in range(8)]
    frame = patterns_frame(patterns, pair(), texts)
    assert len(frame) == 2 * 3 * 8 * 9 / 2
    assert (frame["source"] <= frame["destination"]).all()
    for row in frame.sample(40, random_state=0).itertuples(index=False):
        where = row.layer, row.index, row.destination, row.source
        assert row.probability == float(patterns[where])
        assert (row.destination_token, row.source_token) == (texts[where[2]], texts[where[3]])
    sums = frame.groupby(["prompt_id", "layer", "index", "destination"])["probability"].sum()
    assert sums.to_numpy() == pytest.approx(1.0)


def scores_of(*rows: tuple[int, int, str, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["layer", "index", "role", "score"])


def test_the_mean_over_prompts_counts_only_prompts_with_the_role():
    first = scores_of((0, 0, "induction", 0.2), (0, 0, "name mover-like", math.nan))
    second = scores_of((0, 0, "induction", math.nan), (0, 0, "name mover-like", math.nan))
    third = scores_of((0, 0, "induction", 0.6), (0, 0, "name mover-like", math.nan))
    found = mean_role_scores([first, second, third]).set_index("role")
    assert found.loc["induction", "score"] == pytest.approx(0.4)
    assert found["n_prompts"].to_dict() == {"induction": 2, "name mover-like": 0}
    assert math.isnan(found.loc["name mover-like", "score"])


def test_no_prompts_have_no_mean():
    with pytest.raises(ValueError, match="measure at least one prompt"):
        mean_role_scores([])


def test_every_head_gets_the_role_of_its_largest_score():
    scores = scores_of(
        (1, 0, "induction", 0.5),
        (1, 0, "duplicate token", 0.7),
        (0, 1, "induction", 0.4),
        (0, 1, "duplicate token", math.nan),
        (0, 0, "induction", 0.39),
        (0, 0, "duplicate token", 0.1),
        (1, 1, "induction", math.nan),
        (1, 1, "duplicate token", math.nan),
    )
    found = assign_roles(scores, threshold=0.4)
    expected = scores_of(
        (0, 0, NO_ROLE, 0.39),
        (0, 1, "induction", 0.4),
        (1, 0, "duplicate token", 0.7),
        (1, 1, NO_ROLE, math.nan),
    )
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan])
def test_a_threshold_is_a_probability(threshold):
    with pytest.raises(ValueError, match="give a probability in"):
        assign_roles(scores_of((0, 0, "induction", 0.5)), threshold)
