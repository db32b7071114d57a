"""Pieces of the documentation that are written from the reference run: no number by hand.

A piece stands between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from hvp_patching.reporting.article.numbers import SCOPES, outcome_word, verdict_numbers
from hvp_patching.reporting.figures.panels import number
from hvp_patching.reporting.names import setting_label
from hvp_patching.reporting.page.build import spoken_minutes
from hvp_patching.reporting.page.ledger import OUTCOMES
from hvp_patching.reporting.reference.codecheck import FOLDER, Manifest, read_manifest
from hvp_patching.reporting.results import ReportError
from hvp_patching.reporting.style import method_label
from hvp_patching.settings import Setting

BLOCK = re.compile(r"(^<!-- generated: ([a-z_]+) -->\n)(.*?)(^<!-- end -->$)", re.S | re.M)
MARK = re.compile(r"^<!-- (?:generated:.*|end) -->$", re.M)
NONE_YET = (
    "*Nothing yet: the reference run is not committed. `make reference` writes it from a run.*"
)
COUNTS = f"{FOLDER}/results/claims_counts.csv"
METHODS = ("ap", "hvp", "ms_hvp", "ig", "gim")  # of Table 2, in the documentation
BUDGETS = ((5, "5 minutes"), (30, "30 minutes"), (180, "3 hours"))
# figures of the gallery: what each says in a line
GALLERY = MappingProxyType(
    {
        "figure3": "The reliability score against the true error of attribution patching.",
        "frontier": "Error against measured time, exact activation patching included.",
        "figure10": "A mis-ranked head: true effects, AP and HVP of every head.",
        "convergence": "The path methods converge to the truth, down to rounding.",
    }
)


def pieces(root: Path | str) -> dict[str, str]:
    """The text of every piece, from the reference in a checkout."""
    root = Path(root)
    manifest = read_manifest(root)
    makers: dict[str, Callable[[Path, Manifest], str]] = {
        "verdicts": verdicts,
        "budgets": budgets,
        "gallery": gallery,
        "reference": reference,
        "errors": errors,
    }
    return {name: make(root, manifest) if manifest else NONE_YET for name, make in makers.items()}


def fill(text: str, found: Mapping[str, str], name: str = "the page") -> str:
    """A page with its pieces written anew.

    Raises ``ReportError`` for a piece that nothing makes and for a mark without its partner.
    """

    def written(match: re.Match[str]) -> str:
        if match[2] not in found:
            raise ReportError(
                f"{name}: nothing makes the piece '{match[2]}'; choose one of: {', '.join(found)}"
            )
        return f"{match[1]}{found[match[2]]}\n{match[4]}"

    if MARK.search(BLOCK.sub("", text)):
        raise ReportError(f"{name}: a mark of a generated piece has no partner")
    return BLOCK.sub(written, text)


def verdicts(root: Path, manifest: Manifest) -> str:
    """How many claims came to what, by the scope of the evidence, as a table."""
    numbers = verdict_numbers(pd.read_csv(root / COUNTS, comment="#"))
    words = [outcome_word(outcome) for outcome in OUTCOMES]
    lines = [
        f"| scope | {' | '.join(one.name for one in OUTCOMES.values())} | all |",
        f"|---|{'--:|' * (len(words) + 1)}",
    ]
    for scope, name in SCOPES.items():
        cells = [numbers[f"NumClaims{name}{word}"] for word in (*words, "All")]
        lines.append(f"| {scope} | {' | '.join(cells)} |")
    cells = [*(numbers[f"NumClaims{word}"] for word in words), numbers["NumClaims"]]
    lines.append(f"| **all** | {' | '.join(f'**{cell}**' for cell in cells)} |")
    lines += [
        "",
        f"{numbers['EvidenceShare']}% of the paper's {numbers['NumClaims']} statements have "
        "evidence of some kind. Counted once per measurement they are "
        f"{numbers['NumQuestions']} questions.",
    ]
    return "\n".join(lines)


def budgets(root: Path, manifest: Manifest) -> str:
    """Which artefacts a time pays for, each with all that it needs."""
    minutes = {}
    for made, spent in manifest.minutes().items():
        if made.endswith((".tex", ".pdf")) or made == "results/claims.csv":
            minutes[made] = spent
    lines = ["| time | each of these, with all that it needs |", "|---|---|"]
    before = 0
    for limit, name in BUDGETS:
        fits = sorted(made for made, spent in minutes.items() if before <= spent < limit)
        shown = ", ".join(f"`{made}`" for made in sorted(fits, key=lambda made: minutes[made]))
        lines.append(f"| {name} | {shown or 'nothing more'} |")
        before = limit
    longer = [made for made, spent in minutes.items() if spent >= before]
    if longer:
        lines.append(f"| longer | {', '.join(f'`{made}`' for made in sorted(longer))} |")
    run = manifest.run
    lines += [
        "",
        f"Measured on {run['hardware']}, profile {run['profile']}, effort {run['effort']}: the "
        f"times of all jobs behind a file, added up. Everything together took "
        f"{spoken_minutes(run['minutes'])}, since artefacts share what they read.",
    ]
    return "\n".join(lines)


def gallery(root: Path, manifest: Manifest) -> str:
    """The figures of the gallery that are committed."""
    there = [name for name in GALLERY if (root / FOLDER / "figures" / f"{name}.svg").is_file()]
    if not there:
        return NONE_YET
    cells = [f"![{GALLERY[name]}]({FOLDER}/figures/{name}.svg)" for name in there]
    captions = [GALLERY[name] for name in there]
    lines = []
    for start in range(0, len(there), 2):
        pair, below = cells[start : start + 2], captions[start : start + 2]
        lines += [f"| {' | '.join(pair)} |"]
        lines += [f"|{'---|' * len(pair)}"] if start == 0 else []
        lines += [f"| {' | '.join(below)} |"]
    return "\n".join(lines)


def errors(root: Path, manifest: Manifest) -> str:
    """Table 2 in short: top-5 relative error by setting and method, in percent."""
    frame = pd.read_csv(root / FOLDER / "tables/table2.csv", comment="#")
    frame = frame[frame["method"].isin(METHODS) & frame["top5_rel_error_pct"].notna()]
    lines = [
        f"| top-5 relative error (%) | n | {' | '.join(method_label(name) for name in METHODS)} |",
        f"|---|--:|{'--:|' * len(METHODS)}",
    ]
    for (model, task), rows in frame.groupby(["model", "task"], sort=False):
        found = rows.set_index("method")["top5_rel_error_pct"]
        cells = [number(float(found[name])) if name in found else "–" for name in METHODS]
        name = setting_label(Setting(str(model), str(task)))
        lines.append(f"| {name} | {rows['n_prompts'].max():.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def reference(root: Path, manifest: Manifest) -> str:
    """What the reference run was, in one line."""
    run = manifest.run
    return (
        f"Reference run: profile {run['profile']}, effort {run['effort']}, commit "
        f"`{run['commit']}`, on {run['hardware']}, {len(manifest.entries)} files."
    )
