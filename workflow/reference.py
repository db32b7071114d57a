"""The reference run: write it from a finished run, or say how a run agrees with it.

python workflow/reference.py targets|write|check [--run FOLDER] [ARTEFACT …]

An artefact is named by a file of it, such as tables/table2.tex; without any, all are meant.
`make reference` and `make check` call this. Copies lie in reference/, apart from what Snakemake
makes: a committed output would have the time of the checkout and look newer than what it is made
of, and a run of another profile would overwrite it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

# ruff: noqa: E402
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "workflow")]

from artefacts import FIGURES, TABLES, named
from code_inputs import notebook_title
from grammar import figure_file, path_of, table_file

from hvp_patching.reporting.page.exhibits import as_facts, comment_lines, devices_of
from hvp_patching.reporting.reference.agreement import FAILURES, MISSING, Agreement, compare
from hvp_patching.reporting.reference.codecheck import (
    FILE,
    FOLDER,
    Entry,
    Manifest,
    altered,
    checksum,
    cited_paper,
    read_manifest,
    write_manifest,
)
from hvp_patching.reporting.reference.crate import write_crate
from hvp_patching.reporting.results import ReportError
from hvp_patching.reporting.run_record import Run, read_run
from hvp_patching.reporting.tables import about

PROFILES = {"embedded": "config/config.yaml", "paper": "config/paper.yaml"}
# results that follow from others, which are compared
DERIVED = (path_of("claims_counts"),)


def artefacts() -> dict[str, tuple[str, list[str]]]:
    """What each artefact shows and its files, the one to ask Snakemake for first."""
    found = {}
    for name in TABLES:
        found[f"table {name}"] = (about(name), [table_file(name), table_file(name, "csv")])
    for name, line in FIGURES.items():
        title = f"{named(name)}: {notebook_title(f'notebooks/{line.notebook}.ipynb')}"
        files = [figure_file(name, ending) for ending in ("pdf", "csv", "svg")]
        found[f"figure {name}"] = (title, files)
    ledger = [path_of(name) for name in ("claims", "claims_checks", "claims_counts")]
    found["claims"] = ("A verdict for every claim", [*ledger, table_file("claims")])
    found["comparison"] = ("Every published number beside ours", [path_of("comparison")])
    return found


def chosen(files: Sequence[str]) -> dict[str, tuple[str, list[str]]]:
    """The artefacts that have these files, all for none; ``ReportError`` naming another file."""
    everything = artefacts()
    known = {file for _, own in everything.values() for file in own}
    for file in files:
        if file not in known:
            raise ReportError(f"'{file}' is no file of an artefact, such as tables/table2.tex")
    return {
        name: (title, own)
        for name, (title, own) in everything.items()
        if not files or set(own).intersection(files)
    }


def write(run: Path, files: Sequence[str], root: Path = ROOT) -> list[str]:
    """Copy a run's artefacts into the reference and list them in codecheck.yml; what was said."""
    asked = chosen(files)
    absent = [one for _, own in asked.values() for one in own if not (run / one).is_file()]
    if absent:
        raise ReportError(
            f"the run in {run} has no {absent[0]}"
            + (f" and {len(absent) - 1} more" if len(absent) > 1 else "")
            + f": snakemake --cores all {absent[0]}"
        )
    old = read_manifest(root)
    record = read_run(run / ".snakemake" / "metadata", run)
    made = {one.made: one for one in old.entries} if old and files else {}
    for title, own in asked.values():
        made |= {file: entry(run, file, own[0], title, record) for file in own}
    order = [file for _, own in artefacts().values() for file in own]
    entries = [made[file] for file in order if file in made]
    copies, fresh = root / FOLDER, [file for _, own in asked.values() for file in own]
    csvs = [
        (run if file in fresh else copies) / file
        for file in order
        if file in made and file.endswith(".csv")
    ]
    facts = facts_of(csvs, record, order, old if files else None)
    if not files:
        shutil.rmtree(copies, ignore_errors=True)  # what no longer exists leaves with it
    for file in fresh:
        (copies / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run / file, copies / file)
    paper = cited_paper(root / "CITATION.cff")
    write_manifest(root, Manifest(entries, facts), paper)
    write_crate(root, entries, facts, paper)
    said = [f"{FOLDER}: {len(entries)} files, profile {facts['profile']}, commit {facts['commit']}"]
    if "modified" in str(facts["commit"]):
        said.append("warning: made from a checkout with changes: commit them, and run again")
    return said


def entry(run: Path, file: str, target: str, title: str, record: Run) -> Entry:
    """A file's line in the manifest."""
    minutes = record.minutes(file)
    return Entry(
        file=f"{FOLDER}/{file}",
        comment=title,
        command=f"snakemake --cores all {target}",
        minutes=None if minutes is None else round(minutes, 2),
        sha256=checksum(run / file),
    )


def facts_of(
    csvs: Sequence[Path], record: Run, files: Iterable[str], old: Manifest | None
) -> dict[str, object]:
    """What the manifest says of the run; ``ReportError`` where files are of several runs.

    Where a part is written anew the time of everything stays that of the whole run.
    """
    stated = [comment_lines(str(path)) for path in csvs]
    shown = [as_facts(one) for one in stated]
    for path, one in zip(csvs, shown, strict=True):
        for key in ("profile", "effort"):
            if one.get(key) != shown[0].get(key):
                raise ReportError(
                    f"{path.name} has the {key} {one.get(key)}, {csvs[0].name} "
                    f"{shown[0].get(key)}: make all of one run"
                )
    profile = shown[0].get("profile", "")
    if profile not in PROFILES:
        known = " or ".join(PROFILES)
        raise ReportError(f"a run of the profile {profile} is no reference: run {known}")
    ends = [made.end for path, made in record.made.items() if path in set(files)]
    minutes = old.run["minutes"] if old else record.minutes(*files)
    devices = (devices_of(one.get("environments", "")) for one in stated)
    return {
        "profile": profile,
        "effort": shown[0]["effort"],
        "config": PROFILES[profile],
        "commit": _different(one["commit"] for one in shown),
        "packages": _different(one.get("packages", "") for one in stated),
        "hardware": _different(devices) or "not recorded",
        "minutes": None if minutes is None else round(float(minutes), 1),
        "ended": datetime.fromtimestamp(max(ends), UTC).isoformat("T", "seconds")
        if ends
        else datetime.now(UTC).isoformat("T", "seconds"),
    }


def _different(words: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(word for word in words if word))


def required(root: Path) -> Manifest:
    """The reference's manifest; ``ReportError`` where there is none."""
    manifest = read_manifest(root)
    if manifest is None:
        raise ReportError(f"no reference run here: {FILE} is missing; `make reference` writes it")
    return manifest


def check(run: Path, files: Sequence[str], root: Path = ROOT) -> list[Agreement]:
    """How each CSV file of a run agrees with the reference."""
    manifest = required(root)
    broken = altered(root, manifest.entries)
    if broken:
        raise ReportError(f"{broken[0]}: `git checkout {FOLDER}` brings it back")
    wanted = [
        file
        for _, own in chosen(files).values()
        for file in own
        if file.endswith(".csv") and file not in DERIVED
    ]
    listed = {one.made for one in manifest.entries}
    there = [file for file in wanted if file in listed or (run / file).is_file()]
    found = [compare(file, root / FOLDER / file, run / file) for file in there]
    known = {file for _, own in artefacts().values() for file in own}
    gone = sorted(file for file in listed if file not in known and not files)
    why = "no artefact has it any more: write the reference anew"
    return [*found, *(Agreement(file, MISSING, why=why) for file in gone)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The reference run (docs/trust.md).")
    parser.add_argument("do", choices=("targets", "write", "check"))
    parser.add_argument("files", nargs="*", metavar="ARTEFACT", help="such as tables/table2.tex")
    parser.add_argument("--run", type=Path, default=Path.cwd(), help="the run's working directory")
    given = parser.parse_args(arguments)
    try:
        if given.do == "targets":  # of a check: none without a reference
            required(ROOT)
            print(*(own[0] for _, own in chosen(given.files).values()))
        elif given.do == "write":
            print(*write(given.run, given.files, ROOT), sep="\n")
        else:
            found = check(given.run, given.files, ROOT)
            print(*(line for one in found for line in one.lines()), sep="\n")
            counts = Counter(one.verdict for one in found)
            print(", ".join(f"{n} {verdict}" for verdict, n in counts.items()))
            return int(any(one.verdict in FAILURES for one in found))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
