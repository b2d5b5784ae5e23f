"""What the README shows works: its code runs, its figure is one of ours, its test command is what CI calls."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from support import ROOT
from support.forests import MIB, forest, image

import vmsnap_nb as vs
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.model.guest import Use
from vmsnap_nb.plans.report import Report

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return [code for found, code in re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", README) if found == language]


def test_the_figure_is_one_of_ours() -> None:
    shown = forest(
        image("RootBase", virtual_size=1024 * MIB, allocated=int(61.4 * MIB), writable=False),
        image("demo", "RootBase", virtual_size=1024 * MIB, allocated=int(9.2 * MIB)),
        image("other", "RootBase", virtual_size=1024 * MIB, allocated=772 << 10),
        uses=(Use("demo", "vda", "/i/demo", "running"), Use("other", "vda", "/i/other", "running")),
    )
    assert blocks("")[0] == shown.to_text() + "\n"


@pytest.mark.guest
def test_the_ten_lines_run(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vs, "Lab", lambda: lab)
    names: dict[str, object] = {}
    exec(blocks("python")[0], names)
    report = names["report"]
    assert isinstance(report, Report)
    assert report.as_predicted
    vm = lab.guest("demo")
    assert vm.execute("cat /overlay-1").stdout == "hello\n"
    vm.destroy()


def test_the_two_lines_run(tmp_path: Path) -> None:
    code = blocks("python")[1]
    assert code.count("/var/lib/libvirt/images") == 1
    names: dict[str, object] = {"vs": vs}
    exec(code.replace("/var/lib/libvirt/images", str(tmp_path)), names)


def test_ci_runs_the_command_that_the_readme_names() -> None:
    assert "make test" in blocks("sh")[0]
    assert re.search(r"^(exec )?make test\b", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


def test_every_link_leads_to_a_file() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []
    targets = subprocess.run(["make", "-pn", "help"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    for name in set(re.findall(r"`make ([a-z-]+)`", README)):
        assert re.search(rf"^{name}:", targets, re.MULTILINE), name
