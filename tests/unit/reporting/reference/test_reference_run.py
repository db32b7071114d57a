"""The reference written from a run, its manifest and crate, and a run checked against it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hvp_patching.reporting.reference.codecheck import read_manifest
from hvp_patching.reporting.reference.snippets import pieces
from hvp_patching.reporting.results import ReportError

ROOT = Path(__file__).resolve().parents[4]
sys.path.insert(0, str(ROOT / "workflow"))

import reference  # noqa: E402

TOP = (
    "# profile: {profile}; effort: quick\n# models: smollm2-135m\n# prompts: smollm2-135m/ioi: 4\n"
    "# packages: torch 2.13.0\n# commit: 0123abc\n"
    "# computed with torch 2.13.0, transformers 5.23.0, transformer_lens 4.3.0 on cpu (AMD EPYC), "
    "TF32 off, eager attention, float32\n"
)
COUNTS = (
    "of,scope,verdict,count\nclaims,other models,holds,3\nclaims,other models,fails,1\n"
    "claims,not run,not run,1\nquestions,other models,holds,2\n"
)
ROWS = (
    "model,task,method,n_prompts,top5_rel_error_pct\nsmollm2-135m,ioi,ap,4,1.5\n"
    "smollm2-135m,ioi,hvp,4,2.5\n"
)
# the terms of RO-Crate 1.1's context that a crate of ours may use
TERMS = {
    *("@id", "@type", "about", "author", "citation", "conformsTo", "contentSize"),
    *("datePublished", "description", "encodingFormat", "endTime", "hasPart", "instrument"),
    *("license", "mainEntity", "mentions", "name", "object", "programmingLanguage", "result"),
    "url",
}


@pytest.fixture
def run(tmp_path):
    """A folder with a file for every artefact, as a run of the default profile makes them."""
    folder = tmp_path / "run"
    for _, files in reference.artefacts().values():
        for file in files:
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            top = TOP.format(profile="embedded")
            body = COUNTS if file in reference.DERIVED else ROWS
            path.write_text(top + body if file.endswith(".csv") else f"{file}\n")
    return folder


@pytest.fixture
def root(tmp_path):
    """A checkout without a reference, as far as the reference is made of it."""
    folder = tmp_path / "checkout"
    (folder / "config").mkdir(parents=True)
    for name in ("CITATION.cff", "Snakefile", "config/config.yaml"):
        shutil.copyfile(ROOT / name, folder / name)
    return folder


@pytest.fixture
def written(run, root):
    reference.write(run, [], root)
    return root


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_every_file_of_every_artefact_is_copied_and_listed(run, written):
    files = [file for _, own in reference.artefacts().values() for file in own]
    manifest = read_manifest(written)
    assert [one.made for one in manifest.entries] == files
    for one in manifest.entries:
        assert (written / one.file).read_bytes() == (run / one.made).read_bytes()
        assert one.command.startswith("snakemake --cores all ")
        assert len(one.sha256) == 64
        assert one.comment
    assert {"tables/table2.tex", "tables/table2.csv", "figures/figure3.svg"} <= set(files)


def test_codecheck_has_its_own_layout_and_keeps_what_a_codechecker_adds(run, written):
    path = written / "codecheck.yml"
    assert path.read_text().startswith("---\nversion: https://codecheck.org.uk/spec/config/1.0/\n")
    content = yaml.safe_load(path.read_text())
    assert [one["name"] for one in content["paper"]["authors"]] == ["Luyang Zhang", "Jialu Wang"]
    assert content["paper"]["reference"] == "https://arxiv.org/abs/2606.09899"
    assert all((written / one["file"]).is_file() for one in content["manifest"])
    # nobody has checked it yet, and nobody is made up
    assert not {"codechecker", "report", "certificate"} & set(content)
    path.write_text(path.read_text() + "codechecker:\n- name: A Reader\n")
    reference.write(run, [], written)
    assert yaml.safe_load(path.read_text())["codechecker"] == [{"name": "A Reader"}]


def test_the_minutes_are_those_of_snakemakes_record(run, root):
    from base64 import b64encode

    folder = run / ".snakemake/metadata"
    folder.mkdir(parents=True)
    for path, inputs, start, end in (
        ("results/x.parquet", [], 0, 300),
        ("tables/table2.csv", ["results/x.parquet"], 300, 330),
    ):
        (run / path).parent.mkdir(parents=True, exist_ok=True)
        (run / path).touch()
        record = {"rule": path, "input": inputs, "log": [], "starttime": start, "endtime": end}
        (folder / b64encode(path.encode()).decode()).write_text(json.dumps(record))
    reference.write(run, [], root)
    minutes = read_manifest(root).minutes()
    assert minutes == {"tables/table2.csv": 5.5}
    assert read_manifest(root).run["ended"] == "1970-01-01T00:05:30+00:00"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: (run / "tables/table2.csv").unlink(), "has no tables/table2.csv: snakemake"),
        (
            lambda run: edit(run / "figures/figure3.csv", "embedded", "smoke"),
            "figure3.csv has the profile smoke",
        ),
        (
            lambda run: [edit(path, "embedded", "smoke") for path in run.rglob("*.csv")],
            "a run of the profile smoke is no reference",
        ),
    ],
    ids=["missing", "mixed", "smoke"],
)
def test_what_is_no_whole_run_is_refused_and_nothing_is_written(run, root, change, message):
    change(run)
    with pytest.raises(ReportError, match=message):
        reference.write(run, [], root)
    assert not (root / "reference").exists()
    assert not (root / "codecheck.yml").exists()


def test_a_part_is_written_anew_and_the_rest_stays(run, written):
    edit(run / "tables/table2.csv", "1.5", "9.5")
    edit(run / "tables/table3.csv", "1.5", "9.5")
    before = {one.made: one.sha256 for one in read_manifest(written).entries}
    reference.write(run, ["tables/table2.tex"], written)
    after = {one.made: one.sha256 for one in read_manifest(written).entries}
    assert {file for file in after if after[file] != before[file]} == {"tables/table2.csv"}
    assert list(after) == list(before)
    with pytest.raises(ReportError, match=r"'tables/table99.tex' is no file of an artefact"):
        reference.write(run, ["tables/table99.tex"], written)


def test_a_run_is_checked_file_by_file(run, written):
    found = {one.path: one for one in reference.check(run, [], written)}
    assert {one.verdict for one in found.values()} == {"identical"}
    assert not set(found) & set(reference.DERIVED)
    assert all(path.endswith(".csv") for path in found)

    edit(run / "tables/table2.csv", "1.5", "1.5015")
    edit(run / "tables/table3.csv", "1.5", "9.5")
    (run / "figures/figure3.csv").unlink()
    found = {one.path: one.verdict for one in reference.check(run, [], written)}
    assert found["tables/table2.csv"] == "within tolerance"
    assert found["tables/table3.csv"] == "different"
    assert found["figures/figure3.csv"] == "missing"
    assert list(found.values()).count("identical") == len(found) - 3
    assert len(reference.check(run, ["tables/table2.tex"], written)) == 1


def test_a_new_artefact_and_a_lost_one_are_said(run, written):
    text = (written / "codecheck.yml").read_text()
    content = yaml.safe_load(text)
    content["manifest"] = [
        one for one in content["manifest"] if "tables/table2." not in one["file"]
    ]
    (written / "reference/tables/table2.csv").unlink()
    lost = content["manifest"][0] | {"file": "reference/tables/table99.csv"}
    shutil.copyfile(written / "reference/tables/table1.tex", written / lost["file"])
    content["manifest"].append(lost)
    (written / "codecheck.yml").write_text(yaml.safe_dump(content))
    found = {one.path: one for one in reference.check(run, [], written)}
    assert found["tables/table2.csv"].verdict == "not in the reference"
    assert found["tables/table99.csv"].verdict == "missing"


@pytest.mark.parametrize("change", ["altered", "gone"])
def test_a_reference_that_is_not_the_listed_one_stops_the_check(run, written, change):
    path = written / "reference/tables/table2.csv"
    if change == "altered":
        edit(path, "1.5", "1.6")
    else:
        path.unlink()
    with pytest.raises(ReportError, match=r"^reference/tables/table2.csv is .*git checkout"):
        reference.check(run, [], written)


def test_without_a_reference_the_check_says_so(run, root):
    with pytest.raises(ReportError, match=r"no reference run here: codecheck\.yml is missing"):
        reference.check(run, [], root)


@pytest.mark.parametrize("text", ["x: [", "a: 1", "manifest: [{file: x}]\nhvp_run: {}"])
def test_a_manifest_of_another_kind_is_refused_in_one_line(root, text):
    (root / "codecheck.yml").write_text(text)
    with pytest.raises(ReportError, match="is no manifest of ours") as refusal:
        read_manifest(root)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("old", "new", "status"), [("1.5", "1.5", 0), ("1.5", "1.5015", 0), ("1.5", "3", 1)]
)
def test_the_exit_status_says_whether_anything_differs(
    run, written, monkeypatch, capsys, old, new, status
):
    monkeypatch.setattr(reference, "ROOT", written)
    edit(run / "tables/table2.csv", old, new)
    assert reference.main(["check", "--run", str(run)]) == status
    said = capsys.readouterr().out.splitlines()
    assert any(line.startswith("tables/table2.csv: ") for line in said)
    assert "identical" in said[-1]


def test_the_crate_has_what_ro_crate_requires(written):
    crate = json.loads((written / "ro-crate-metadata.json").read_text())
    assert crate["@context"] == "https://w3id.org/ro/crate/1.1/context"
    entities = {one["@id"]: one for one in crate["@graph"]}
    assert len(entities) == len(crate["@graph"])
    descriptor, dataset = entities["ro-crate-metadata.json"], entities["./"]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert dataset["@type"] == "Dataset"
    for name in ("name", "description", "datePublished", "license"):
        assert dataset[name]
    assert dataset["datePublished"][:4].isdigit()
    for entity in entities.values():
        assert set(entity) <= TERMS, entity["@id"]
        assert entity["@type"]
        assert entity["@id"] in ("./", "ro-crate-metadata.json") or entity["name"]


def test_the_crate_names_every_file_once_and_nothing_that_is_not_there(written):
    crate = json.loads((written / "ro-crate-metadata.json").read_text())
    entities = {one["@id"]: one for one in crate["@graph"]}
    for entity in entities.values():
        for value in entity.values():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, dict):
                    # a reference leads to an entity of the crate or to a standard
                    assert one["@id"] in entities or one["@id"].startswith("https://w3id.org/")
    parts = [one["@id"] for one in entities["./"]["hasPart"]]
    files = [name for name, one in entities.items() if "File" in one["@type"]]
    assert sorted(parts) == sorted(files)
    assert all((written / name).is_file() for name in files)
    listed = {one.file for one in read_manifest(written).entries}
    assert listed == {one["@id"] for one in entities["#reference-run"]["result"]}
    for name in listed:
        assert entities[name]["contentSize"] == str((written / name).stat().st_size)


def test_pieces_of_the_readme_come_from_the_reference(written):
    found = pieces(written)
    assert "| other models | 3 | 0 | 1 | 0 | 0 | 4 |" in found["verdicts"]
    assert "80.0% of the paper's 5 statements have evidence" in found["verdicts"]
    assert "(reference/figures/figure3.svg)" in found["gallery"]
    assert "profile embedded, effort quick" in found["budgets"]
    assert "| SmolLM2-135M, IOI | 4 | 1.50 | 2.50 | – | – | – |" in found["errors"]
    assert "commit `0123abc`" in found["reference"]
    shutil.rmtree(written / "reference/figures")
    assert pieces(written)["gallery"].startswith("*Nothing yet")
    (written / "codecheck.yml").unlink()
    assert all(text.startswith("*Nothing yet") for text in pieces(written).values())


def test_the_reference_is_committed_and_what_snakemake_makes_is_not():
    names = ["reference/tables/table2.csv", "reference/figures/figure3.svg", "codecheck.yml"]
    names += ["reference/results/claims.csv", "ro-crate-metadata.json"]
    made = ["tables/table2.csv", "figures/figure3.svg", "results/claims.csv"]
    made += ["paper/replication.pdf"]
    command = ["git", "check-ignore", "--no-index", *names, *made]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode > 1:
        pytest.skip("no git here")
    assert done.stdout.split() == made
    text = (ROOT / ".gitattributes").read_text()
    assert "reference/** -text" in text  # checksums outlive every checkout


def test_the_committed_reference_is_whole():
    """Once there is one: its files are those that codecheck.yml lists."""
    manifest = read_manifest(ROOT)
    listed = [one.file for one in manifest.entries] if manifest else []
    there = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "reference").rglob("*")
        if path.is_file()
    ]
    assert sorted(listed) == sorted(there)
    if manifest:
        from hvp_patching.reporting.reference.codecheck import altered

        assert altered(ROOT, manifest.entries) == []
