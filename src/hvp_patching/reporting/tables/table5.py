"""Table 5: the notation, with each symbol's definition and the function that computes it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from hvp_patching.reporting.latex import Row, Tabular, Tex, escape
from hvp_patching.reporting.results import records
from hvp_patching.reporting.table import Shown, Table

PACKAGE = "hvp_patching."


@dataclass(frozen=True)
class Symbol:
    """One line of the notation; ``symbol`` and ``definition`` are LaTeX mathematics.

    ``code`` is the full dotted name of what computes it, empty where nothing does.
    """

    symbol: str
    meaning: str
    definition: str
    code: str = ""


NOTATION = (
    Symbol(
        "m",
        "scalar metric of the output: log-probability of the target or the target set",
        r"m = \log \sum_{v \in T} p(v)",
        "hvp_patching.paths.metric.log_probability",
    ),
    Symbol(
        "a",
        "the component's activation in the base run (clean, when noising)",
        "",
        "hvp_patching.paths.base_run.base_run",
    ),
    Symbol(
        "a'",
        "its activation in the other run, which is patched in",
        "",
        "hvp_patching.paths.base_run.base_run",
    ),
    Symbol(
        r"\delta",
        "direction of the patch",
        r"\delta = a' - a",
        "hvp_patching.paths.base_run.base_run",
    ),
    Symbol(
        "f(t)",
        "metric along the patch path, everything downstream recomputed",
        r"f(t) = m(a + t\delta),\ t \in [0, 1]",
        "hvp_patching.paths.jets.path_jets",
    ),
    Symbol(
        r"\Delta",
        "true effect, by activation patching",
        r"\Delta = f(1) - f(0)",
        "hvp_patching.paths.jets.activation_patching",
    ),
    Symbol(
        r"\mathrm{AP}",
        "first-order estimate: attribution patching",
        r"\mathrm{AP} = f'(0) = \nabla m(a) \cdot \delta",
        "hvp_patching.estimators.AP",
    ),
    Symbol(
        "e",
        "error of attribution patching",
        r"e = \Delta - \mathrm{AP}",
        "hvp_patching.metrics.errors.prompt_errors",
    ),
    Symbol(
        "H",
        "Hessian of the metric with respect to the component's activation, through the whole "
        "network downstream",
        r"H = \nabla^2 m(a)",
        "hvp_patching.paths.jets.path_jets",
    ),
    Symbol(
        "q",
        "quadratic form of the patch",
        r"q = \delta^{\top} H \delta = f''(0)",
        "hvp_patching.paths.jets.path_jets",
    ),
    Symbol(
        "R_3",
        "remainder of the second-order expansion",
        r"R_3 = \Delta - \mathrm{AP} - \frac{1}{2} q",
        "hvp_patching.metrics.theory.remainder",
    ),
    Symbol(
        "L",
        "Lipschitz constant of the Hessian on the patch's segment",
        r"|R_3| \le \frac{1}{6} L \|\delta\|^3",
    ),
    Symbol(
        r"\rho",
        "reliability score of attribution patching, undefined where AP is zero",
        r"\rho = |\frac{1}{2} q| \,/\, |\mathrm{AP}|",
        "hvp_patching.metrics.reliability.reliability_score",
    ),
    Symbol(
        r"\eta",
        "validity: bound on the remainder beside the quadratic term",
        r"\eta = \frac{1}{6} L \|\delta\|^3 / |\frac{1}{2} q|",
        "hvp_patching.metrics.theory.higher_order_slack",
    ),
    Symbol(
        r"\mathrm{HVP}",
        "second-order estimate, one Hessian-vector product",
        r"\mathrm{HVP} = \mathrm{AP} + \frac{1}{2} q",
        "hvp_patching.estimators.HVP",
    ),
    Symbol(
        r"\mathrm{AP}_i,\ q_i",
        "the same for component i of a set of candidates, each patched alone",
        r"\mathrm{AP}_i = f_i'(0),\ q_i = f_i''(0)",
        "hvp_patching.paths.jets.path_jets",
    ),
    Symbol(
        r"F_\tau,\ U_\tau",
        "components flagged for correction, and those left uncorrected, at the threshold",
        r"F_\tau = \{i : \rho_i > \tau\},\ U_\tau = F_\tau^{\mathsf{c}}",
        "hvp_patching.metrics.theory.uncorrected",
    ),
    Symbol(
        "S_U",
        "signed sum of the uncorrected quadratic terms",
        r"S_U = \sum_{i \in U_\tau} \frac{1}{2} q_i",
        "hvp_patching.metrics.theory.selective_gap",
    ),
    Symbol(
        r"\kappa_U",
        "cancellation ratio of the uncorrected quadratic terms",
        r"\kappa_U = |S_U| \,/\, \sum_{i \in U_\tau} |\frac{1}{2} q_i|",
        "hvp_patching.metrics.theory.selective_gap",
    ),
)


def body(shown: Shown) -> Tabular:
    """One line per symbol."""
    lines: list[Row] = [
        [
            _math(line["symbol"]),
            Tex(rf"\raggedright {escape(line['meaning'])}"),
            _math(line["definition"]),
            _code(line["code"]),
        ]
        for line in records(shown.frame)
    ]
    align = "lp{0.30\\linewidth}p{0.30\\linewidth}p{0.22\\linewidth}"
    return Tabular([["Symbol", "Meaning", "Definition", "Code"]], lines, align)


def _math(text: str) -> Tex:
    return Tex(f"${text}$") if text else Tex("")


def _code(name: str) -> Tex:
    if not name:
        return Tex("")
    # a dotted name may break at its dots
    parts = (escape(part) for part in name.removeprefix(PACKAGE).split("."))
    return Tex(r"\footnotesize\ttfamily " + r".\allowbreak{}".join(parts))


TABLE = Table(
    name="table5",
    columns="symbol meaning definition code",
    rows=lambda results: [asdict(line) for line in NOTATION],
    caption="Notation.",
    label="tab:notation",
    body=body,
    notes=lambda shown: [
        Tex(
            r"Code: names in the package \texttt{hvp\_patching}; empty where a quantity "
            r"belongs to the theory alone. $\tau$ is the threshold of Screen--Flag--Fix."
        )
    ],
)
