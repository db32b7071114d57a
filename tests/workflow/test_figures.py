"""One figure of a small checkout: drawn from its notebook, left alone, redrawn, and refused."""

from __future__ import annotations

import json

import pandas as pd
import pytest

pytestmark = pytest.mark.workflow

FIGURE, NOTEBOOK = "figures/figure4.pdf", "notebooks/figure04_layers.ipynb"


@pytest.fixture(scope="module")
def drawn(first_run, tmp_path_factory):
    """A copy of the small checkout with Figure 4 in it."""
    import shutil

    copy = type(first_run[0])(
        tmp_path_factory.mktemp("figure") / "checkout",
        first_run[0].config | {"case_study": f"{first_run[0].model}/ioi"},
    )
    shutil.copytree(first_run[0].root, copy.root, symlinks=True)
    result = copy.snakemake(FIGURE)
    assert result.status == 0, result.output
    computing = {name for name in result.jobs() if name.startswith("compute_")}
    assert computing == {"compute_jets", "compute_baseline"}  # which take all from the store
    log = copy.text(f"logs/compute_jets/{copy.model}_ioi_name_swap_attn_heads.log")
    assert log.count("0 of 2 nodes computed") == 2
    return copy


def test_a_figure_has_its_numbers_beside_it_and_its_notebook_as_log(drawn):
    assert (drawn.root / FIGURE).read_bytes().startswith(b"%PDF")
    csv = drawn.root / FIGURE.replace(".pdf", ".csv")
    assert csv.read_text().startswith("# profile: smoke; effort: quick\n")
    assert f"# prompts: {drawn.model}/ioi: 2\n" in csv.read_text()
    assert "\n# computed with torch 2" in csv.read_text()
    frame = pd.read_csv(csv, comment="#")
    assert len(frame)
    assert frame.select_dtypes("number").notna().any(axis=None)
    executed = json.loads(drawn.text("logs/figure4.ipynb"))
    counts = [c["execution_count"] for c in executed["cells"] if c["cell_type"] == "code"]
    assert all(counts)


HOSTILE_RC = "font.size: 30\nsavefig.bbox: standard\ntext.usetex: True\nfigure.dpi: 33\n"


def test_no_set_up_of_the_users_changes_a_byte_of_a_figure(drawn):
    """Broken kernels, start-up files, a matplotlibrc, folders that cannot be written, a locale."""
    root = drawn.root
    before = [(root / name).read_bytes() for name in (FIGURE, FIGURE.replace(".pdf", ".csv"))]
    hostile = root / "hostile"
    start = hostile / "ipython/profile_default/startup"
    start.mkdir(parents=True)
    for kernel in ("python3", "hvp-patching"):
        spec = {"argv": ["/bin/false"], "display_name": "broken", "language": "python"}
        (hostile / "kernels" / kernel).mkdir(parents=True)
        (hostile / "kernels" / kernel / "kernel.json").write_text(json.dumps(spec))
    (start / "00.py").write_text("raise SystemExit('a start-up file')")
    lines = "c.InteractiveShellApp.exec_lines = ['import os; os._exit(3)']"
    (start.parent / "ipython_kernel_config.py").write_text(lines)
    (hostile / "startup.py").write_text("raise SystemExit('PYTHONSTARTUP')")
    (hostile / "rule_session.py").write_text("raise SystemExit('another rule_session')")
    (hostile / "hvp_patching").mkdir()
    (hostile / "hvp_patching/__init__.py").write_text("raise SystemExit('another library')")
    (root / "matplotlibrc").write_text(HOSTILE_RC)
    environment = {
        "JUPYTER_PATH": str(hostile),
        "JUPYTER_CONFIG_DIR": str(hostile),
        "JUPYTER_DATA_DIR": "/proc/nowhere",
        "JUPYTER_RUNTIME_DIR": "/proc/nowhere",
        "IPYTHONDIR": str(hostile / "ipython"),
        "MATPLOTLIBRC": str(root / "matplotlibrc"),
        "MPLCONFIGDIR": "/proc/nowhere",
        "MPLBACKEND": "nonsense",
        "PYTHONPATH": str(hostile),
        "PYTHONSTARTUP": str(hostile / "startup.py"),
        "PYTHONWARNINGS": "error",
        "PYTHONOPTIMIZE": "2",
        "PYTHONSAFEPATH": "1",
        "PYTHONHASHSEED": "1",
        "LC_ALL": "C",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONUTF8": "0",
        "HOME": "/proc/nowhere",
        "XDG_CACHE_HOME": str(hostile / "cache"),
        "TMPDIR": "/proc/nowhere",
        "TZ": "Asia/Kathmandu",
        "SOURCE_DATE_EPOCH": "1",
        "GIT_DIR": "/proc/nowhere",
        "NVIDIA_TF32_OVERRIDE": "1",
    }
    result = drawn.snakemake(FIGURE, "--forcerun", "figure4", env=environment)
    assert result.status == 0, result.output
    assert result.jobs() == {"figure4": 1}
    assert "NVIDIA_TF32_OVERRIDE is not used: it would change numbers" in result.output
    after = [(root / name).read_bytes() for name in (FIGURE, FIGURE.replace(".pdf", ".csv"))]
    assert after == before
    assert not list((root / ".snakemake").glob("figure-*"))


def test_a_change_of_the_drawing_draws_and_no_more(drawn):
    source = drawn.text(NOTEBOOK)
    (drawn.root / NOTEBOOK).write_text(source.replace("use_style()", "use_style()  # changed"))
    assert drawn.snakemake("-n", FIGURE).jobs() == {"figure4": 1}
    (drawn.root / NOTEBOOK).write_text(source)


def test_a_notebook_that_fails_is_one_line_that_says_where_to_look(drawn):
    source = drawn.text(NOTEBOOK)
    (drawn.root / NOTEBOOK).write_text(source.replace("use_style()", "1 / 0"))
    result = drawn.snakemake(FIGURE)
    (drawn.root / NOTEBOOK).write_text(source)
    assert result.status != 0
    assert result.line("figure4: ") == (
        f"figure4: {NOTEBOOK}: ZeroDivisionError: division by zero; "
        "open logs/figure4.ipynb to see in which cell"
    )


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("import os; os.kill(os.getpid(), 9)", "it was killed without a word, as the system does "),
        ("import ctypes; ctypes.string_at(0)", "Fatal Python error: Segmentation fault"),
    ],
)
def test_a_kernel_that_dies_names_the_reason(drawn, end, reason):
    source = drawn.text(NOTEBOOK)
    (drawn.root / NOTEBOOK).write_text(source.replace("use_style()", end))
    result = drawn.snakemake(FIGURE)
    (drawn.root / NOTEBOOK).write_text(source)
    assert result.status != 0
    assert result.line("figure4: ").startswith(
        f"figure4: {NOTEBOOK}: the notebook's Python ended: {reason}"
    )
