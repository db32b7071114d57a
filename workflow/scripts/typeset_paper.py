"""The replication as a paper: its source, and the PDF by latexmk (rule paper)."""

import logging
import os
from pathlib import Path

import pandas as pd
import rule_session


def main() -> None:
    from hvp_patching.files import write_text
    from hvp_patching.reporting.article.document import (
        Article,
        Exhibit,
        caption_of_figure,
        contradictions,
        latex_of,
        needed_packages,
        numbered,
        published_values,
        render,
    )
    from hvp_patching.reporting.article.signs import check_signs
    from hvp_patching.reporting.article.typesetting import overfull, typeset

    given, params, output = snakemake.input, snakemake.params, snakemake.output
    made_with = {"profile": params.profile, "effort": params.effort}
    folder = Path(output.tex).parent

    def seen(path: str) -> str:
        return Path(os.path.relpath(path, folder)).as_posix()

    def text(path: str) -> str:
        return Path(path).read_text(encoding="utf-8")

    fragments = {path: text(path) for path in (*given.tables, given.ledger)}
    for path, fragment in fragments.items():
        check_signs(path, fragment)
    of_tables = numbered([Path(path).stem for path in given.tables])
    tables = [
        Exhibit(name, number, seen(path))
        for (name, number), path in zip(of_tables.items(), given.tables, strict=True)
    ]
    values = pd.read_csv(given.published, dtype=str, keep_default_na=False)
    figures = []
    of_figures = zip(params.figures.items(), given.figures, given.captions, strict=True)
    numbers = numbered(list(params.figures))
    for (name, one), path, caption in of_figures:
        stated = made_with | {"settings": one["settings"], "options": one["options"]}
        said = caption_of_figure(latex_of(text(caption), stated))
        shown = published_values(values, name)
        figures.append(Exhibit(name, numbers[name], seen(path), said, shown))
    article = Article(
        numbers=seen(given.numbers),
        tables=tables,
        figures=figures,
        ledger=seen(given.ledger),
        contradictions=contradictions(
            pd.read_csv(given.contradictions, dtype=str, keep_default_na=False)
        ),
        texts={Path(path).stem: latex_of(text(path), made_with) for path in given.texts},
        profile=params.profile,
        packages=needed_packages(fragments.values()),
    )
    write_text(output.tex, render(article, Path(given.template).parent))
    printed = typeset(output.tex, output.pdf)
    print(printed)
    for points in overfull(printed):
        logging.warning("a line stands out of the margin by %.1f pt", points)


rule_session.run(snakemake, main)
