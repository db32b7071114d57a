"""`hvp-patching jets`: estimates of every component's effect, and which of them to trust."""

from __future__ import annotations

from typing import Annotated

import typer

from hvp_patching.cli import options as o

Estimators = Annotated[
    str,
    typer.Option(
        "--estimators",
        "-e",
        metavar="NAMES",
        help="With commas: ap, hvp, ms_hvp_K, ig_N, ih_pi_K, gl_N, ... and baselines: gim, relp, "
        "ig_inputs_N, ... The first ranks.",
    ),
]
Exact = Annotated[bool, typer.Option("--exact", help="Patch every component too, and rank by it.")]


def jets(
    model: o.Model,
    pairs: o.Pairs = None,
    clean: o.Clean = None,
    corrupted: o.Corrupted = None,
    target: o.Target = None,
    foil: o.Foil = None,
    keep_going: o.KeepGoing = False,
    site: o.SiteName = "attn_heads",
    estimators: Estimators = "hvp,ap",
    exact: Exact = False,
    metric: o.MetricName = "logprob",
    direction: o.Direction = "noising",
    top: o.Top = 20,
    out: o.Out = None,
    device: o.Device = "auto",
    dtype: o.Dtype = "float32",
    revision: o.Revision = None,
    bos: o.Bos = None,
) -> None:
    """Estimated effects: AP, HVP and others of every component, with their reliability rho.

    rho = |f''(0) / 2| / |f'(0)|, the median over prompts: above 0.5 attribution patching is not to
    be trusted.
    """
    inline = (clean, corrupted, target, foil)
    asked = o.Asked(
        *("jets", model, revision, bos, pairs, inline, keep_going),
        *(site, metric, direction, device, dtype, top, out),
    )
    from hvp_patching.cli.estimates import chosen_estimators
    from hvp_patching.cli.session import Session

    names = chosen_estimators(estimators)
    session = Session.start(asked)
    from hvp_patching.cli.measure import estimated_effects

    session.finish(estimated_effects(session, names, exact))
