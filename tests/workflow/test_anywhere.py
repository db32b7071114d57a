"""The workflow from any folder: beside the checkout, in an odd one, with a read-only checkout."""

from __future__ import annotations

import shlex

import pytest

pytestmark = pytest.mark.workflow

ODD = "ä b/it's" + "/" + "x" * 100 + "/" + "y" * 80


@pytest.fixture
def away(tmp_path):
    """A folder far from the checkout, with blanks, quotes, other letters and a long name."""
    folder = tmp_path / ODD
    folder.mkdir(parents=True)
    return folder


def made_there_alone(clean, folder):
    assert (folder / "tables/table5.tex").read_text().startswith("% profile: ")
    for name in ("tables", "results", "logs"):
        assert not (clean.root / name).exists()


@pytest.mark.parametrize("way", ["-s", "-d", "both"])
def test_results_lie_in_the_working_directory(clean, away, tmp_path, way):
    """With a config file and without; what the workflow reads is found wherever that is."""
    snakemake = ["snakemake", "--cores", "1"]
    if way != "-d":
        snakemake += ["-s", str(clean.root / "Snakefile")]
    if way != "-s":
        snakemake += ["-d", str(away)]
    cwd = {"-s": away, "-d": clean.root, "both": tmp_path}[way]
    made = clean.call(*snakemake, "tables/table5.tex", cwd=cwd)
    assert made.status == 0, made.output
    made_there_alone(clean, away)

    smoke = ["--configfile", str(clean.root / "config/smoke.yaml")]
    everything = clean.call(*snakemake, "-n", *smoke, cwd=cwd)
    assert everything.status == 0, everything.output
    jobs = everything.jobs()
    assert jobs["compare_with_paper"] == jobs["figure12"] == jobs["frontier"] == 1


def test_a_read_only_checkout_serves_another_folder(clean, away, namespace):
    root, snakefile = shlex.quote(str(clean.root)), shlex.quote(str(clean.root / "Snakefile"))
    script = (
        f"mount --bind {root} {root} && mount -o remount,bind,ro {root} || exit 99; "
        f"! touch {root}/x 2>/dev/null || exit 98; "
        f"snakemake --cores 1 -s {snakefile} tables/table5.tex || exit 97; "
        f"cd {root}; ! snakemake --cores 1 tables/table5.tex"
    )
    result = clean.call(*namespace, script, cwd=away)
    assert result.status == 0, result.output
    assert result.line(f"{clean.root} cannot be written and results go to the working directory; ")
    assert "Traceback" not in result.output
    made_there_alone(clean, away)
