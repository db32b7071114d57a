"""Jets of both backends against finite differences of plain forward passes, in float64.

The project promises 1e-5. f' and f'' are held to 1e-7 of their own value, f''' to 5e-5 (where it
nearly vanishes, the oracle's truncation error of order h⁸ shows), beyond what the oracle cannot
know: the rounding of the plain passes (a few units in the last place of f) over the k-th power of
its smallest step, about 1e-9 for f'' and 1e-7 for f'''.
"""

import pytest
import torch

from hvp_patching.models.tiny import FAMILIES
from hvp_patching.paths import path_jets

SITES = ("attn_heads", "mlp_pre", "mlp_post", "mlp_out", "resid_post")
SMALLEST_STEP = 0.005  # of the oracle, see conftest.py
RELATIVE = torch.tensor([1e-10, 1e-5, 1e-5, 1e-4])
EPSILON = torch.finfo(torch.float64).eps
NODES = (0.0, 0.3, 1.0)
# tiny-gemma2's window is 8: the prompts are longer, and in `late` the common prefix is, too.
CASES = {
    "from the first token": ({"changed": (0,)}, "noising"),
    "several, target set": ({"changed": (4, 6, 9), "targets": (17, 18, 900)}, "denoising"),
    "late": ({"changed": (11,), "n": 13, "seed": 3}, "noising"),
    "last token": ({"changed": (12,), "n": 13, "seed": 5}, "denoising"),
}


# Every family and site with two of the four cases, the second one drawn in turn.
GRID = [
    (family, site, case)
    for i, family in enumerate(FAMILIES)
    for j, site in enumerate(SITES)
    for case in ("several, target set", ("from the first token", "late", "last token")[(i + j) % 3])
]


@pytest.mark.parametrize(("family", "site", "case"), GRID)
def test_jets_agree_with_finite_differences(family, site, case, tiny, make_pair, plain_path):
    model, (how, direction) = tiny(family), CASES[case]
    pair = make_pair(**how)
    oracle = plain_path(model, pair, site, direction)
    components = oracle.largest()
    expected = torch.stack([oracle.derivatives(*c, NODES) for c in components])
    assert bool(expected.isfinite().all())
    assert bool((expected.abs().amax((0, 1)) > 1e-3).all()), "nothing to compare"
    for backend in ("taylor", "autograd"):
        jets = path_jets(model, pair, site, NODES, 3, backend, components, direction).values
        excess = ((jets - expected).abs() - rounding(expected[..., :1])).clamp(min=0)
        print(
            "FD",
            family,
            site,
            case,
            backend,
            [f"{e:.1e}" for e in (excess / expected.abs()).amax((0, 1)).tolist()],
        )
        assert bool((excess <= RELATIVE * expected.abs()).all()), backend


def rounding(f):
    """What rounding of f may do to its differences of order 0 to 3, [..., 4]."""
    return 10 * EPSILON * f.abs() / (SMALLEST_STEP ** torch.arange(4))
