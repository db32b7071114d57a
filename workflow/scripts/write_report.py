"""The report as one page (rule report)."""

import re
from pathlib import Path

import pandas as pd
import rule_session

# artefacts behind words that the published claims use for what they need
NEEDS = {
    "lipschitz_probe": ("table6", "table7"),
    "case_study": ("table18", "figure10", "figure11", "figure12"),
    "wall_clock": ("frontier_table", "table14"),
    "reliability_score": ("figure3",),
    "selective_workflow": ("figure7",),
    "median_combiner": ("figure5",),
}


def needs_of_claims(path: str) -> dict[str, list[str]]:
    """The artefacts that each claim asks for, as far as its needs name any."""
    frame = pd.read_csv(path, usecols=["claim_id", "needs"], dtype=str, keep_default_na=False)
    found = {}
    for claim, needs in zip(frame["claim_id"], frame["needs"], strict=True):
        names = re.findall(r"(?:table|figure)\d+", needs)
        more = [name for word in re.split(r"[;,\s]+", needs) for name in NEEDS.get(word, ())]
        found[claim] = list(dict.fromkeys([*names, *more]))
    return found


def main() -> None:
    from hvp_patching.files import write_text
    from hvp_patching.reporting.page.build import Report, caption_html, linked, render, rules_of
    from hvp_patching.reporting.page.contradictions import read_contradictions
    from hvp_patching.reporting.page.exhibits import figure_exhibit, table_exhibit
    from hvp_patching.reporting.page.ledger import read_ledger
    from hvp_patching.reporting.provenance import git_commit
    from hvp_patching.reporting.run_record import read_run

    given, params = snakemake.input, snakemake.params
    made_with = {"profile": params.profile, "effort": params.effort}
    run = read_run()
    captions = {Path(path).stem: Path(path).read_text(encoding="utf-8") for path in given.captions}
    tables = [
        table_exhibit(name, one["title"], one["about"], one["paths"], run, one["reads"])
        for name, one in params.tables.items()
    ]
    figures = []
    for name, one in params.figures.items():
        stated = made_with | {"settings": one["settings"], "options": one["options"]}
        caption = caption_html(captions[name], stated)
        parts = (one["title"], one["about"], caption, one["paths"], run, one["reads"])
        figures.append(figure_exhibit(name, *parts))
    exhibits = [*tables, *figures]
    needs = needs_of_claims(given.published)
    entries = linked(read_ledger(given.claims), exhibits, needs, run)
    texts = {
        Path(path).stem: caption_html(Path(path).read_text(encoding="utf-8"), made_with)
        for path in given.texts
    }
    facts = made_with | {
        "models": ", ".join(dict.fromkeys(models_of(exhibits))),
        "hardware": "; ".join(dict.fromkeys(filter(None, (one.devices for one in exhibits)))),
        "code": git_commit(),
    }
    notes = []
    if params.profile == "smoke":
        notes.append(
            "Profile smoke: random models of a few thousand weights. It shows that everything "
            "runs; no number on this page is a result."
        )
    report = Report(
        entries,
        tables,
        figures,
        read_contradictions(given.contradictions, entries, exhibits),
        rules_of(run, params.rules),
        texts,
        facts,
        notes,
    )
    write_text(snakemake.output[0], render(report, Path(given.page[0]).parent))


def models_of(exhibits: list) -> list[str]:
    return [
        name
        for one in exhibits
        for name in one.facts.get("models", "").split(", ")
        if name and name != "none"
    ]


rule_session.run(snakemake, main)
