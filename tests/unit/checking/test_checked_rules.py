"""Right results pass every check, in the measured precision; one wrong number is found."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch

from hvp_patching import cache
from hvp_patching.baselines import BASELINES
from hvp_patching.cache import JetKey, Store, prompt_fields, stored_baseline, stored_jets
from hvp_patching.checking import (
    Check,
    CheckFailed,
    check_attention,
    check_baseline,
    check_jets,
    check_probes,
    check_scores,
)
from hvp_patching.checking.reference import FORWARD
from hvp_patching.circuits.attention import attention_patterns
from hvp_patching.measuring.sweeps import sweep_prompt
from hvp_patching.models.environment import current_environment
from hvp_patching.models.tiny import FAMILIES
from hvp_patching.paths import path_jets
from hvp_patching.paths.vector_hvp import hessian_vector_products, lipschitz_estimates
from hvp_patching.sites import get_site, layer_sizes, resolve_components

SITES = ("attn_heads", "mlp_pre", "mlp_post", "mlp_out", "resid_post")
REQUEST = {0.0: 3, 0.4: 1, 1.0: 0}


def some(site):
    """Few components of every layer but the last."""
    return None if site in ("mlp_out", "resid_post") else ((0, 1), (0, 3), (1, 2), (2, 0))


def jets_of(s, request=REQUEST):
    return path_jets(s.model, s.tokens, s.site, request, 0, s.backend, some(s.site), s.direction)


def passes(check, methods, rows):
    """Everything was checked by every method."""
    line = check.summary()
    assert line.startswith(f"check: {rows} of {rows} rows agree by ")
    for method in methods:
        assert f"{method} (tol " in line, line


# --- jets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "site"), list(zip(FAMILIES, SITES, strict=True)))
def test_jets_pass(subject, family, site):
    s, check = subject(family, site), Check("all")
    jets = jets_of(s)
    check_jets(check, s, jets)
    passes(check, [FORWARD, "autograd"], 3 * len(jets.components))


@pytest.mark.parametrize(("dtype", "direction"), [("float32", "denoising"), ("float64", "noising")])
def test_jets_of_the_autograd_backend_pass_in_both_directions(subject, dtype, direction):
    s = subject("tiny-llama", dtype=dtype, direction=direction, backend="autograd")
    check = Check("all")
    check_jets(check, s, jets_of(s))
    passes(check, [FORWARD, "taylor"], 12)


def test_jets_of_zero_corruption_pass_and_a_kink_tells_nothing(subject, make_pair):
    """At t = 1 nothing is left of the residual stream, and its norm has a kink there."""
    s = subject("tiny-llama", "resid_post", pair=replace(make_pair(), corruption="zero"))
    check = Check("all")
    check_jets(check, s, jets_of(s, {0.0: 2, 1.0: 2}))
    assert check.checked == 6
    assert " tell, tol " in check.summary()


@pytest.mark.parametrize("order", [0, 2, 3])
def test_a_wrong_derivative_is_found_and_named(subject, order):
    s = subject("tiny-qwen2")
    jets = jets_of(s)
    values = jets.values.clone()
    values[2, 0, order] *= 1.01
    assert float(values[2, 0, order].abs()) > 1e-2
    with pytest.raises(CheckFailed) as failed:
        check_jets(Check("all"), s, replace(jets, values=values))
    line = str(failed.value)
    assert line.startswith(f"check: prompt 'seed-0', layer 1, index 2, node 0, order {order}: ")
    assert f"{float(values[2, 0, order]):.9g} here" in line
    assert "by finite differences (tolerance " in line


def test_a_number_changed_in_the_store_is_found(subject, tmp_path):
    """With its checksum and its key in order: only computing it again can tell."""
    s, store = subject(), Store(tmp_path)
    stored_jets(store, s.model, s.tokens, s.site, {0.0: 2, 1.0: 0})
    key = JetKey(
        **prompt_fields(s.model, s.tokens, s.site, s.direction),
        components=None,
        node=0.0,
        order=2,
        backend="auto",
    )
    entry = store.get(key)
    entry["values"][5, 1] += 0.01
    store.put(key, entry, current_environment(s.model))
    jets, computed = stored_jets(store, s.model, s.tokens, s.site, {0.0: 2, 1.0: 0})
    assert computed == 0
    with pytest.raises(CheckFailed, match=r"layer 1, index 1, node 0, order 1: "):
        check_jets(Check("all"), s, jets)


def test_swapped_components_are_found_by_a_sample_of_all_rows(subject):
    s = subject("tiny-pythia")
    jets = jets_of(s)
    swapped = replace(jets, values=jets.values[[1, 0, 2, 3]])
    with pytest.raises(CheckFailed):
        check_jets(Check("sample", clock=lambda: 0.0), s, swapped)


def test_a_wrong_engine_is_found_by_the_oracle_that_does_not_use_it(subject, monkeypatch):
    """Both backends wrong alike, in a part that they share: the metric's targets."""
    from hvp_patching.paths import metric

    real = metric.log_probability
    monkeypatch.setattr(metric, "log_probability", lambda x, targets: real(x, targets + 1))
    s = subject("tiny-llama")
    jets = jets_of(s)
    with pytest.raises(CheckFailed, match="by finite differences"):
        check_jets(Check("all"), s, jets)


def test_a_model_without_taylor_mode_is_checked_by_differences_alone(subject, monkeypatch):
    from hvp_patching.checking import reference

    real = path_jets

    def no_taylor(model, pair, site, nodes, order, backend, *rest):
        if backend == "taylor":
            raise ValueError("an operation that Taylor mode does not know")
        return real(model, pair, site, nodes, order, backend, *rest)

    monkeypatch.setattr(reference, "path_jets", no_taylor)
    s, check = subject(), Check("all")
    check_jets(check, s, jets_of(s))
    assert "autograd (tol" not in check.summary()
    assert check.summary().endswith("so there is no second backend")


def test_no_memory_for_the_float64_model_is_said_and_checks_nothing(subject, tiny):
    from hvp_patching.checking import Exact

    s, check, asked = subject(), Check("all"), []
    jets = jets_of(s)

    def load(dtype, device="here"):
        asked.append((dtype, device))
        raise MemoryError

    check_jets(check, replace(s, exact=Exact(s.model, load)), jets)
    assert asked == [("float64", "here"), ("float64", "cpu")]
    assert check.summary().endswith("; there is no memory for the model in float64")
    assert check.checked == 0


# --- scores ---------------------------------------------------------------------------------

NAMES = ["ap", "ms_hvp_3", "ig_4", "k_median", "third_order", "fd_hvp", "gl_2", "gauss_newton"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scores_pass(subject, tmp_path, dtype):
    s, chosen = subject("tiny-qwen2", dtype=dtype), ((0, 2), (1, 1))
    frame = sweep_prompt(Store(tmp_path), s.model, s.tokens, s.site, chosen, NAMES)
    check = Check("all")
    check_scores(check, s, frame)
    passes(check, [FORWARD, "autograd"], len(NAMES) * 2)


@pytest.mark.parametrize("name", ["ig_4", "k_median", "fd_hvp", "gauss_newton", "effect"])
def test_a_wrong_score_is_found_and_named(subject, tmp_path, name):
    s, chosen = subject("tiny-qwen2"), ((0, 2), (1, 1))
    frame = sweep_prompt(Store(tmp_path), s.model, s.tokens, s.site, chosen, NAMES)
    row = frame.index[(frame["estimator"] == ("ap" if name == "effect" else name))][1]
    column = "truth" if name == "effect" else "estimate"
    assert abs(frame.at[row, column]) > 0.02
    # this rule divides the rounding of two slopes by 0.02
    frame.loc[row, column] *= 2 if name == "fd_hvp" else 1.05
    with pytest.raises(CheckFailed, match=f"layer 1, index 1, {name}: "):
        check_scores(Check("all"), s, frame)


# --- probes ---------------------------------------------------------------------------------

NODES = (0.0, 0.5, 1.0)


def probes_of(s):
    return lipschitz_estimates(
        hessian_vector_products(s.model, s.tokens, s.site, NODES, direction=s.direction)
    )


@pytest.mark.parametrize("family", ["tiny-gpt2", "tiny-gemma2"])
def test_probes_pass(subject, family):
    s, check = subject(family, backend="autograd"), Check("all")
    frame = probes_of(s)
    check_probes(check, s, frame, NODES)
    passes(check, [FORWARD, "taylor", "finite differences of reverse passes"], len(frame))


@pytest.mark.parametrize("column", ["delta_norm", "effect", "q", "lipschitz", "lipschitz_scalar"])
def test_a_wrong_probe_is_found_and_named(subject, column):
    s = subject("tiny-qwen2", backend="autograd")
    frame = probes_of(s)
    row = frame[column].abs().idxmax()
    frame.loc[row, column] *= 1.02
    with pytest.raises(CheckFailed, match=rf", {column}: "):
        check_probes(Check("all"), s, frame, NODES)


def test_a_component_that_does_not_move_is_left_out(subject):
    s, check = subject("tiny-qwen2", backend="autograd"), Check("all")
    frame = probes_of(s)
    frame.loc[0, "delta_norm"] = 0.0
    check_probes(check, s, frame, NODES)
    assert check.seen == len(frame) - 1


# --- baselines ------------------------------------------------------------------------------


def baseline_of(s, name):
    site = get_site(s.site)
    places = resolve_components(site, layer_sizes(s.model, site), None)
    frame = pd.DataFrame(places, columns=["layer", "index"])
    estimates = BASELINES[name](s.model, s.tokens, s.site, s.direction)
    frame["estimate"] = estimates.numpy()
    return frame


CASES = [
    ("gauss_newton", "attn_heads", "tiny-gemma2"),
    ("gauss_newton", "mlp_out", "tiny-gpt2"),
    ("local_curvature", "mlp_pre", "tiny-gpt2"),
    ("local_curvature", "mlp_pre", "tiny-llama"),
    ("local_curvature_unweighted", "mlp_pre", "tiny-gemma2"),
    ("atp_star", "attn_heads", "tiny-pythia"),
    ("atp_star", "mlp_out", "tiny-gemma2"),
    ("atp_star", "mlp_post", "tiny-llama"),
    ("atp_star_qkv", "attn_heads", "tiny-gpt2"),
    ("atp_star_qkv", "attn_heads", "tiny-qwen2"),
    ("gim", "attn_heads", "tiny-llama"),
    ("gim_0_1_4", "mlp_pre", "tiny-qwen2"),
    ("relp", "attn_heads", "tiny-pythia"),
    ("relp", "mlp_post", "tiny-gemma2"),
    ("relp", "mlp_pre", "tiny-llama"),
    ("relp", "resid_post", "tiny-gpt2"),
    ("ig_inputs_3", "attn_heads", "tiny-gemma2"),
    ("ig_inputs_1", "mlp_post", "tiny-gpt2"),
    ("clean_corrupted", "attn_heads", "tiny-llama"),
    ("clean_corrupted", "mlp_out", "tiny-gpt2"),
    ("second_order_share", "attn_heads", "tiny-qwen2"),
    ("second_order_share", "mlp_pre", "tiny-gpt2"),
    ("second_order_share", "mlp_out", "tiny-gemma2"),
]


@pytest.mark.parametrize(("name", "site", "family"), CASES)
def test_baselines_pass_and_a_wrong_one_is_found(subject, name, site, family):
    s = subject(family, site)
    frame = baseline_of(s, name)
    assert float(frame["estimate"].abs().max()) > 0.02
    largest = frame["estimate"].abs().nlargest(4).index
    frame = frame.loc[sorted({*largest, *frame.index[:: max(1, len(frame) // 6)]})]
    check = Check("all")
    check_baseline(check, s, name, frame)
    assert check.checked == len(frame)
    frame.loc[largest[0], "estimate"] *= 1.02
    with pytest.raises(CheckFailed, match=rf", {name}: "):
        check_baseline(Check("all"), s, name, frame)


def test_gim_from_the_store_is_computed_again_past_it(subject, tmp_path, monkeypatch):
    s, store = subject("tiny-llama"), Store(tmp_path)
    real = BASELINES["gim"]
    wrong = {"gim": lambda *args, **options: 1.01 * real(*args, **options)}
    monkeypatch.setattr(cache, "BASELINES", wrong)
    estimates = stored_baseline(store, s.model, s.tokens, "gim")
    frame = baseline_of(s, "gim").assign(estimate=estimates.numpy())
    with pytest.raises(CheckFailed, match="by computing it again, past the store"):
        check_baseline(Check("all"), s, "gim", frame)


def test_a_gim_that_changes_the_forward_pass_is_found(subject, monkeypatch):
    from contextlib import contextmanager

    from hvp_patching.checking import baseline_check

    @contextmanager
    def scaled(model):
        def scale(activation, hook):
            return 1.01 * activation

        with model.hooks(fwd_hooks=[("blocks.0.hook_mlp_out", scale)]):
            yield

    monkeypatch.setattr(baseline_check, "gim_context", scaled)
    s = subject("tiny-llama")
    with pytest.raises(CheckFailed, match="the forward pass under GIM: "):
        check_baseline(Check("all"), s, "gim", baseline_of(s, "gim"))


def test_a_baseline_of_tomorrow_is_said_to_be_unchecked(subject):
    s, check = subject(), Check("all")
    frame = pd.DataFrame({"layer": [0], "index": [0], "estimate": [1.0]})
    check_baseline(check, s, "new", frame)
    assert check.summary().endswith("; the check knows no second way of computing 'new'")


# --- attention ------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_passes_and_a_wrong_pattern_is_found(subject, family):
    s, check = subject(family), Check("all")
    patterns = attention_patterns(s.model, s.tokens)
    check_attention(check, s, patterns)
    assert check.checked == patterns.shape[0] * patterns.shape[1]
    patterns[1, 2, 9, :2] += torch.tensor([0.01, -0.01])
    with pytest.raises(CheckFailed, match="layer 1, index 2, position 9, weighted value: "):
        check_attention(Check("all"), s, patterns)
