"""Settings as they are written, parsed and named."""

import pytest

from hvp_patching.settings import Setting, only_setting


@pytest.mark.parametrize("text", ["m/t", "smollm2-135m/greater_than", "m/t/zero"])
def test_settings_are_read_and_printed_alike(text):
    assert str(Setting.parse(text)) == text


def test_settings_are_read():
    assert Setting.parse("m/t") == Setting("m", "t", "")
    assert Setting.parse("m/t/zero") == Setting("m", "t", "zero")
    assert len({Setting.parse("m/t"), Setting("m", "t"), Setting("m", "t", "zero")}) == 2


@pytest.mark.parametrize("bad", ["", "m", "m/", "/t", "m/t/", "m/t/c/x"])
def test_anything_else_is_named(bad):
    with pytest.raises(ValueError, match=f"^'{bad}' is no setting: write it as model/task$"):
        Setting.parse(bad)


def test_one_setting_is_taken_and_several_are_named():
    one, other = Setting("a", "b"), Setting("c", "d", "e")
    assert only_setting([one, one], "Table 3") == one
    with pytest.raises(ValueError, match="Table 3 shows one model and task, got a/b, c/d/e: conf"):
        only_setting([one, other], "Table 3")
    with pytest.raises(ValueError, match="got none"):
        only_setting([], "Table 3")
