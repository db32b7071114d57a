"""Any query is answered by numbers, or refused in one line that names it."""

from __future__ import annotations

import csv
import io
import math
import time
from itertools import islice
from pathlib import Path

import claims_inputs
import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hvp_patching.claims.comparisons import COMPARISONS
from hvp_patching.claims.evidence import Evidence, Source
from hvp_patching.claims.expressions import fault_of
from hvp_patching.claims.facts import FACTS
from hvp_patching.claims.reading import ClaimsError, load_yaml, read_claims, read_queries
from hvp_patching.claims.selection import select
from hvp_patching.claims.statistics import STATISTICS
from hvp_patching.settings import Setting

ROOT = Path(__file__).resolve().parents[3]
CLAIMS, SCOPE = ROOT / "data/published/claims.csv", ROOT / "data/claims/scope.csv"
SOME, MANY = 200, 2000  # cases; the many on demand: pytest -m fuzz
CONFIG = yaml.safe_load((ROOT / "config/config.yaml").read_text())
CONFIG["metrics"]["bootstrap_resamples"] = 5
BASE = {"says": "x", "result": "errors", "settings": "table2", "artefact": "table2"}
KEYS = sorted(load_yaml(claims_inputs.SCHEMA)["$defs"]["query"]["properties"])
COLUMNS = ["prompt_id", "estimator", "error", "truth", "layer", "nope", "steps"]
EXPRESSIONS = [
    *("error - truth", "abs(error)", "error.max()", "error / 0", "layer == 'a'", "error ** 2", ""),
    *("estimator.str.contains('hvp')", "estimator.str.contains('(')", "truth.iloc[0]", "nope + 1"),
    *(
        "truth.iloc[9]",
        "error and truth",
        "error +",
        "error.quantile(2)",
        "'a' * 10",
        "9 ** 9 ** 9",
    ),
    *("error.to_csv('x')", "@pd", "__import__('os')", "error.__class__", "error if 1 else 2", "7"),
    *("[error, 1]", "error.groupby(prompt_id).rank()", "error[0]", "lambda: 1", "error = 1"),
]
WORDS = st.sampled_from(
    [
        *COLUMNS,
        *EXPRESSIONS,
        *STATISTICS,
        *COMPARISONS,
        *FACTS,
        *(
            "published",
            "published_low",
            "metrics.top_k",
            "engine",
            "check",
            "10%",
            "rounding",
            "none",
        ),
        *("prompts", "a b", "error truth", "data/published/table02.csv", "data/../x.csv", "=ioi"),
        *("tiny-gpt2/ioi", "gpt2", "gpt2-small", "hvp", "ms_hvp_{}", "{0.__class__}", "ms_hvp_0"),
        *("ms_hvp_99999999", "gelu", "x" * 300, "a\nb", "\x00", "[", "*"),
    ]
)
PLAIN = st.one_of(
    *(WORDS, st.text(max_size=6), st.integers(-3, 12), st.floats(), st.booleans(), st.none()),
    st.sampled_from([10**30, -1, 0.5, 2]),
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        *(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
        st.dictionaries(
            st.sampled_from(["x", "y", "by", "q", "index", "columns", "values"]), inner
        ),
    ),
    max_leaves=4,
)
PARTS = st.one_of(
    *(st.tuples(st.just("statistic"), st.sampled_from(sorted(STATISTICS))),),
    st.tuples(
        st.just("of"),
        st.dictionaries(
            st.sampled_from(["x", "y", "by", "q", "key", "weight", "names", "low", "high"]),
            st.one_of(st.sampled_from(COLUMNS), PLAIN),
            max_size=3,
        ),
    ),
    st.tuples(st.just("derive"), st.dictionaries(st.just("d"), st.sampled_from(EXPRESSIONS))),
    st.tuples(st.just("keep"), st.sampled_from(EXPRESSIONS)),
    st.tuples(st.just("where"), st.dictionaries(st.sampled_from(COLUMNS), VALUES, max_size=1)),
    st.tuples(st.just("mean_by"), st.lists(st.sampled_from(COLUMNS), max_size=2)),
    st.tuples(
        st.just("interval"), st.sampled_from(["none", "prompts", "error truth", "nope error"])
    ),
    st.tuples(
        st.just("pivot"),
        st.fixed_dictionaries(
            {"columns": st.sampled_from(COLUMNS), "values": st.sampled_from(COLUMNS)},
            optional={"index": st.lists(st.sampled_from(COLUMNS), max_size=2)},
        ),
    ),
    st.tuples(st.one_of(st.sampled_from(KEYS), WORDS), VALUES),
)
SOURCES = st.sampled_from(
    [
        *(BASE, BASE, BASE, {"says": "x", "file": "data/published/table02.csv"}),
        *(
            {"says": "x", "fact": fact, "of": {"estimator": "hvp"}}
            for fact in ("cost", "taylor_order")
        ),
        *({"says": "x", "fact": "width", "of": {"model": "gpt2-small"}},),
        *({"says": "x", "config": key} for key in ("probe_nodes", "metrics.top_k", "engine.dtype")),
    ]
)
QUERIES = given(source=SOURCES, parts=st.lists(PARTS, max_size=4))
shared = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Source]]:
    """One small result of two settings, by the query's name."""
    folder, rng = tmp_path_factory.mktemp("results"), np.random.default_rng(0)
    sources = []
    for name in ("tiny-gpt2/ioi", "gpt2-small/factual"):
        frame = pd.DataFrame(
            [
                {"prompt_id": f"p{i}", "estimator": method, "layer": i % 3}
                for i in range(6)
                for method in ("ap", "hvp", "ms_hvp_5")
            ]
        )
        frame = frame.assign(error=rng.uniform(size=len(frame)), truth=rng.normal(size=len(frame)))
        path = folder / f"{name.replace('/', '_')}.parquet"
        frame.to_parquet(path)
        sources.append(Source("table2", Setting.parse(name), "attn_heads", str(path), 6))
    return {"q": sources}


@pytest.fixture(scope="module")
def claim():
    return next(c for c in read_claims(CLAIMS, SCOPE) if c.value is not None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "queries.yaml"


def is_answered_or_named(source, parts, file: Path, results, claim) -> None:
    query = {**source, **dict(parts)}
    file.write_text(yaml.safe_dump({"queries": {"q": query}}), encoding="utf-8")
    start = time.process_time()
    try:
        claims_inputs.check_schema(file)
        found = read_queries(file)["q"]
        checks = Evidence(results, CONFIG, ROOT).checks(found, claim)
    except ClaimsError as error:
        message = str(error)
    else:
        assert all(isinstance(check.number.estimate.value, float) for check in checks)
        assert all(check.target is None or math.isfinite(check.target.low) for check in checks)
        return
    assert time.process_time() - start < 10
    assert "\n" not in message
    assert len(message) < 1500
    assert "'q'" in message or "queries.q" in message or "the configuration" in message


@example(source=BASE, parts=[("than", float("nan"))])
@example(source=BASE, parts=[("of", {"x": "prompt_id"})])
@example(source=BASE, parts=[("statistic", "quantile"), ("of", {"x": "error"})])
@example(source=BASE, parts=[("statistic", "mean"), ("of", {"x": "error"}), ("than", "engine")])
@QUERIES
@settings(max_examples=SOME, suppress_health_check=shared)
def test_a_query_is_answered_or_named(source, parts, file, results, claim):
    is_answered_or_named(source, parts, file, results, claim)


@pytest.mark.fuzz
@QUERIES
@settings(max_examples=MANY, suppress_health_check=shared)
def test_many_queries_are_answered_or_named(source, parts, file, results, claim):
    is_answered_or_named(source, parts, file, results, claim)


ROWS = st.lists(
    st.tuples(
        st.integers(0, 7),
        st.integers(0, 13),
        st.one_of(
            st.sampled_from(
                [
                    *("", "C01", "nan", "inf", "1e999", "12.5", "1,5", "not_run", "rumour", "\0"),
                    *("mechanism", "==", "a\nb", "é", '"', "x" * 200_000),
                ]
            ),
            st.text(max_size=5),
        ),
    ),
    min_size=1,
    max_size=3,
)


def rows_are_read_or_named(changes, length, folder: Path) -> None:
    paths = []
    for path, limit in ((CLAIMS, 7), (SCOPE, 7)):
        with path.open(encoding="utf-8", newline="") as lines:
            rows = list(islice(csv.reader(lines), limit + 1))
        for row, column, value in changes:
            if (row + column) % 2 == (path == SCOPE):
                rows[row % len(rows)][column % len(rows[0])] = value
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        paths.append(folder / path.name)
        raw = text.getvalue().encode("utf-8", "surrogatepass")
        paths[-1].write_bytes(raw[: length or None])
    try:
        claims = read_claims(*paths)
    except ClaimsError as error:
        message = str(error)
    else:
        assert all(claim.value is None or math.isfinite(claim.value) for claim in claims)
        return
    assert "\n" not in message
    assert len(message) < 1500
    assert any(str(path) in message for path in paths) or message.startswith(("C", "'"))


@example(changes=[(2, 0, "a\nb")], length=0)
@given(changes=ROWS, length=st.sampled_from([0, 0, 0, 10, 300]))
@settings(max_examples=SOME, suppress_health_check=shared)
def test_rows_of_claims_are_read_or_named(changes, length, tmp_path):
    rows_are_read_or_named(changes, length, tmp_path)


@pytest.mark.fuzz
@given(changes=ROWS, length=st.sampled_from([0, 0, 0, 10, 300]))
@settings(max_examples=MANY, suppress_health_check=shared)
def test_many_rows_of_claims_are_read_or_named(changes, length, tmp_path):
    rows_are_read_or_named(changes, length, tmp_path)


@given(raw=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda t: t.encode("utf-8"))))
@settings(max_examples=SOME, suppress_health_check=shared)
@example(raw=b"queries: " + b"[" * 100_000)
@example(raw=b"queries: {a: {says: 2001-99-99}}")
@example(raw=b"queries: {a: &x [*x]}")
@example(raw=b"queries: {q: {says: x}, q: {says: y}}")
@example(raw=b"queries: 3")
@example(raw=b"[]")
@example(raw=b"")
@example(raw=b"\xff")
def test_what_is_no_file_of_queries_is_one_line(raw, file):
    file.write_bytes(raw)
    for read in (claims_inputs.check_schema, read_queries):
        try:
            read(file)
        except ClaimsError as error:
            message = str(error)
        else:
            continue
        assert file.name in message
        assert "\n" not in message
        assert len(message) < 1500


@pytest.mark.parametrize(
    "expression",
    [
        *("@pd.io.common.os.system('id')", "__pd_eval_local_pd.io", "error.to_csv('/tmp/x')"),
        *(
            "error.__class__",
            "().__class__",
            "__import__('os')",
            "open('x')",
            "error.values.tofile",
        ),
        *(
            "error.str.format(1)",
            "error.pipe(abs)",
            "error.apply(abs)",
            "error.map(abs)",
            "[a for a]",
        ),
        *("9 ** 9 ** 9", "error ** 99", "error ** truth", "(error ** 9) ** 9", "'a' * 10 ** 10"),
        *("error << 99", "error @ truth", "a = 1", "a\nb", "lambda: 1", "f'{error}'", "error[0:1]"),
        *(
            "error if truth else 1",
            "abs(*error)",
            "abs(**error)",
            "{}",
            "1e16",
            "1j",
            "(",
            "a" * 600,
        ),
        *(
            "m.str.replace('', 'aa').str.replace('', 'aa')",
            "a" + ".max()" * 99,
            "(" * 240 + "a" + ")" * 240,
        ),
    ],
)
def test_an_expression_that_does_more_than_compute_is_refused(expression):
    assert fault_of(expression)


def test_expressions_of_the_ledger_are_allowed(queries):
    found = [text for q in queries.values() for text in (*q.derive.values(), q.keep) if text]
    assert len(found) > 100
    assert [text for text in found if fault_of(text)] == []


def test_an_expression_is_refused_where_it_would_be_evaluated(queries, tmp_path):
    from dataclasses import replace

    victim = tmp_path / "written"
    query = replace(queries["top5_hvp_vs_ap"], derive={"d": f"a.to_csv('{victim}')"}, pivot={})
    frame = pd.DataFrame({"a": [1.0], "estimator": ["ap"]})
    with pytest.raises(ClaimsError, match=r"\.to_csv is not allowed"):
        select(frame, query)
    assert not victim.exists()
