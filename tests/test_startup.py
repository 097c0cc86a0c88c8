"""What the installed plugin costs a test suite that has nothing to do with kv caches: a few small modules."""

from __future__ import annotations

import pytest

MODULES = {f"pytest_kvcache{name}" for name in ("", ".errors", ".hooks", ".options", ".plugin")}


def test_the_unused_plugin_imports_five_small_modules_and_nothing_else(pytester: pytest.Pytester) -> None:
    assert _added(pytester) == MODULES


def test_an_ini_file_without_kv_dtypes_changes_nothing(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nkv_models = a/model\nkv_timeout = soon")
    assert _added(pytester) == MODULES


@pytest.mark.parametrize(
    "asking", [["--kv-models=a/model"], ["--kv-golden-allow-ci"], ["-o", "kv_dtypes=fp8"]]
)
def test_whoever_asks_gets_the_settings_read(pytester: pytest.Pytester, asking: list[str]) -> None:
    assert "pytest_kvcache.settings" in _added(pytester, *asking)


@pytest.mark.parametrize("wrong", ["--kv-timeout=soon", "--kv-dtypes=", "--kv-golden-update=new"])
def test_wrong_options_are_refused_also_without_kv_dtypes(pytester: pytest.Pytester, wrong: str) -> None:
    result = pytester.runpytest(wrong)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {wrong.partition('=')[0]}*"])


def _added(pytester: pytest.Pytester, *options: str) -> set[str]:
    """Return what is imported with the plugin and not without, when a suite that needs none is collected."""
    return _imported(pytester, "-p", "pytest_kvcache.plugin", *options) - _imported(pytester)


def _imported(pytester: pytest.Pytester, *options: str) -> set[str]:
    pytester.makepyfile("def test_unrelated(): pass")
    pytester.makeconftest("import sys\ndef pytest_collection_finish():\n    print('modules:', *sys.modules)")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        result = pytester.runpytest_subprocess("--collect-only", "-qs", *options)
    line = next(line for line in result.outlines if line.startswith("modules: "))
    return set(line.split()[1:])
