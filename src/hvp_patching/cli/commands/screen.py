"""`hvp-patching screen`: what a budget buys, and what it may have missed."""

from __future__ import annotations

from typing import Annotated

import typer

from hvp_patching.cli import options as o

Budget = Annotated[
    str,
    typer.Option(
        "--budget", "-b", metavar="BUDGET", help="Time (60s, 2min) or forward passes (200)."
    ),
]
TopK = Annotated[
    int, typer.Option("--top", "-n", min=1, help="How many of the largest are asked for.")
]
Alpha = Annotated[
    float, typer.Option(metavar="SHARE", help="Of the intervals that may miss; between 0 and 1.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of the uniform draw.")]


def screen(
    model: o.Model,
    pairs: o.Pairs = None,
    clean: o.Clean = None,
    corrupted: o.Corrupted = None,
    target: o.Target = None,
    foil: o.Foil = None,
    keep_going: o.KeepGoing = False,
    site: o.SiteName = "attn_heads",
    budget: Budget = "60s",
    top: TopK = 10,
    alpha: Alpha = 0.1,
    seed: Seed = 0,
    metric: o.MetricName = "logprob",
    direction: o.Direction = "noising",
    out: o.Out = None,
    device: o.Device = "auto",
    dtype: o.Dtype = "float32",
    revision: o.Revision = None,
    bos: o.Bos = None,
) -> None:
    """The largest effects for a price: one-pass scores, exact patching where it matters most.

    All others get an interval that holds the truth with probability 1 - alpha, and a bound says
    how many large ones may have been missed.
    """
    inline = (clean, corrupted, target, foil)
    asked = o.Asked(
        *("screen", model, revision, bos, pairs, inline, keep_going),
        *(site, metric, direction, device, dtype, top, out),
    )
    from hvp_patching.cli.screening import checked_terms, screened
    from hvp_patching.cli.session import Session

    terms = checked_terms(budget, top, alpha, seed)
    session = Session.start(asked)
    session.finish(screened(session, terms))
