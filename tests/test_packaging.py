"""What users install is whole: a wheel and an editable install, each used from a foreign directory."""

from __future__ import annotations

import email
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.packaging

PROJECT = Path(__file__).parents[1]
SOURCES = {"pytest_kvcache": "pytest_kvcache", "suites": "pytest_kvcache/suites"}
NO_SOURCES = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")


def pip(*arguments: str | Path) -> None:
    """Run pip without an index; fail with what it printed."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def copy_project(to: Path) -> Path:
    """Copy what a build needs, so that building leaves no trace in the working tree."""
    for name in SOURCES:
        shutil.copytree(PROJECT / name, to / name, ignore=NO_SOURCES)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, to)
    return to


def make_environment(at: Path) -> Path:
    """Make an empty virtual environment that sees this one's packages, but not the project itself.

    A path file appends this environment's site-packages without running the path files in it, of
    which an editable install of the project would be one.
    """
    venv.create(at, symlinks=True)
    [site_packages] = at.glob("lib/python*/site-packages")
    (site_packages / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return at


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_project(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", directory, source)
    [built] = directory.glob("*.whl")
    return built


class Installed:
    """The project installed in an environment of its own, used from an empty directory."""

    def __init__(self, environment: Path, home: Path, elsewhere: Path) -> None:
        self.home = home
        self._bin = environment / "bin"
        self._elsewhere = elsewhere

    def run(self, command: str, *arguments: str) -> str:
        """Run a command of the environment; return what it printed, or fail with it."""
        done = subprocess.run(
            [self._bin / command, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self._elsewhere,
            env={"PATH": str(self._bin), "HOME": str(self._elsewhere)},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def python(self, code: str) -> str:
        return self.run("python", "-c", code).strip()


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    environment = make_environment(tmp_path_factory.mktemp("environment"))
    if request.param == "wheel":
        what, home = [request.getfixturevalue("wheel")], environment
    else:
        home = copy_project(tmp_path_factory.mktemp("checkout"))
        what = ["--no-build-isolation", "--editable", home]
    pip(
        "--python",
        environment / "bin" / "python",
        "install",
        "--no-deps",
        "--no-index",
        "--ignore-installed",
        *what,
    )
    return Installed(environment, home, tmp_path_factory.mktemp("elsewhere"))


def test_the_wheel_carries_every_file_of_the_package_and_the_suites(wheel: Path, source: Path) -> None:
    expected = {
        f"{target}/{file.relative_to(source / name).as_posix()}"
        for name, target in SOURCES.items()
        for file in (source / name).rglob("*")
        if file.is_file()
    }

    carried = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}

    assert carried == expected


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        about = email.message_from_bytes(archive.read(name))
    required = {line for line in about.get_all("Requires-Dist", []) if "extra ==" not in line}

    assert about["License-Expression"] == "Apache-2.0"
    assert {"Framework :: Pytest", "Typing :: Typed"} <= set(about.get_all("Classifier", []))
    assert {line.split(">=")[0] for line in required} == {"msgspec", "numpy", "pytest"}


def test_the_suites_are_part_of_the_package(installed: Installed) -> None:
    where = installed.python("import pytest_kvcache.suites as suites; print(suites.__file__)")

    assert Path(where).is_relative_to(installed.home)


def test_pytest_finds_the_plugin_by_its_entry_point(installed: Installed) -> None:
    assert "--kv-dtypes" in installed.run("python", "-m", "pytest", "--help")


def test_the_suites_are_collected_by_their_installed_name(installed: Installed) -> None:
    listed = installed.run(
        "python", "-m", "pytest", "--pyargs", "pytest_kvcache.suites", "--collect-only", "-q"
    )

    assert "test_verdict" in listed


def test_the_command_is_installed(installed: Installed) -> None:
    assert "models" in installed.run("kvcache", "--help")
