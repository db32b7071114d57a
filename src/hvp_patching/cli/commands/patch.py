"""`hvp-patching patch`: the exact effect of every component."""

from __future__ import annotations

from hvp_patching.cli import options as o


def patch(
    model: o.Model,
    pairs: o.Pairs = None,
    clean: o.Clean = None,
    corrupted: o.Corrupted = None,
    target: o.Target = None,
    foil: o.Foil = None,
    keep_going: o.KeepGoing = False,
    site: o.SiteName = "attn_heads",
    metric: o.MetricName = "logprob",
    direction: o.Direction = "noising",
    top: o.Top = 20,
    out: o.Out = None,
    device: o.Device = "auto",
    dtype: o.Dtype = "float32",
    revision: o.Revision = None,
    bos: o.Bos = None,
) -> None:
    """Exact effects: patch every component of a site, one by one, and rank them.

    The effect of a component is f(1) - f(0), what the metric gains when its activation is replaced
    by the other run's, with a 95% bootstrap interval over prompts.
    """
    inline = (clean, corrupted, target, foil)
    asked = o.Asked(
        *("patch", model, revision, bos, pairs, inline, keep_going),
        *(site, metric, direction, device, dtype, top, out),
    )
    from hvp_patching.cli.session import Session

    session = Session.start(asked)
    from hvp_patching.cli.measure import exact_effects

    session.finish(exact_effects(session))
