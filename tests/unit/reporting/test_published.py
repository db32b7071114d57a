import pandas as pd
import pytest

from hvp_patching.reporting.files import ReportError
from hvp_patching.reporting.published import load_published


def test_every_published_table_is_there(published):
    numbers = [*range(1, 5), *range(6, 19)]  # 5 is notation
    assert all(len(load_published(published, number)) for number in numbers)
    for name in ("claims", "figures", "all_checks", "inconsistencies"):
        assert len(pd.read_csv(published / f"{name}.csv"))


def test_missing_table_is_named(published):
    with pytest.raises(ReportError, match=r"table05\.csv is missing"):
        load_published(published, 5)
