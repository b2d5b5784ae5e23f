"""The code of the documentation's pages runs, and shows what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, TESTS
from support.page import blocks, differences

HOWTO = ROOT / "docs" / "howto"

SCENARIO = "from pathlib import Path; from vmsnap_nb.lab.scenarios import build_scenario; "
LAB = "import vmsnap_nb as vs; labs = [vs.Lab()]"

# What a page finds when it begins. `page` may put another address where the page has one that is not everywhere.
GIVEN: dict[str, str] = {
    "without-libvirt": SCENARIO + 'build_scenario("figure-2", Path("images"))',
    "real-host": LAB
    + """
base = labs[0].base("RootBase")
for name in ("web", "db"):
    labs[0].guest(name, backing=base)
labs[0].guest("web").snapshot("one", kind="internal-disk").run(progress=False)
labs[0].survey().overlay("forgot.qcow2", backing="RootBase").run()
page = lambda text: text.replace("qemu:///system", labs[0].uri).replace("/var/lib/libvirt", str(labs[0].root))
""",
    "remote": 'page = lambda text: text.replace("qemu+ssh://box/system", "test:///default")',
    "many-hosts": """
from distributed import Scheduler, SpecCluster, Worker
cluster = SpecCluster(
    {name: {"cls": Worker, "options": {"nthreads": 1, "host": "127.0.0.1"}} for name in "ab"},
    {"cls": Scheduler, "options": {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}},
)
page = lambda text: (
    text.replace("qemu+ssh://a/system", "test:///default")
    .replace("qemu+ssh://b/system", "test:///default")
    .replace("qemu+ssh://c/system", "test:///no/such/file.xml")
    .replace("tcp://scheduler:8786", cluster.scheduler_address)
)
""",
    "template": LAB
    + """
import subprocess
subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "my-template.qcow2", "1G"], check=True)
""",
    "snapshot-options": LAB
    + """
import subprocess
guest = labs[0].guest("accounts", backing=labs[0].base("RootBase"))
data = labs[0].root / "images" / "data.img"
subprocess.run(["qemu-img", "create", "-q", "-f", "raw", str(data), "1M"], check=True)
disk = f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{data}'/>"
disk += "<target dev='vdb' bus='virtio'/></disk></devices>"
labs[0].connection.defineXML(guest.xml().replace("</devices>", disk))
""",
    "snapshot-quiesced": LAB,
    "delete": LAB,
    "merge": SCENARIO + 'build_scenario("merge", Path("images")); build_scenario("figure-2", Path("tree"))',
    "shorten": SCENARIO + 'build_scenario("merge", Path("images"))',
    "revert": LAB,
    "drift": LAB,
    "files": LAB,
    "../exercises": LAB,
    "../teaching": """
import os, subprocess
for name in ("debian.qcow2", "shared/debian.qcow2"):
    os.makedirs("shared", exist_ok=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", name, "1G"], check=True)
os.chmod(name, 0o444)
""",
    "commands": SCENARIO + 'build_scenario("merge", Path("images"))',
}
BOOTS = frozenset({"snapshot-quiesced", "files"})


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.guest if name in BOOTS else pytest.mark.system) for name in GIVEN]
)
def test_a_page_runs_and_shows_what_it_says(name: str, short: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(TESTS / "support" / "page.py"), str(HOWTO / f"{name}.md"), GIVEN[name]],
        cwd=short,
        env={**os.environ, "PYTHONPATH": str(ROOT), "VMSNAP_LAB": str(short / "l")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_page_with_code_is_run_and_listed() -> None:
    docs = HOWTO.parent
    pages = {path for path in docs.rglob("*.md") if "```python" in path.read_text()} - {docs / "gallery.md"}  # its own
    pages -= set((docs / "zh").rglob("*.md"))  # test_docs.py compares their code
    assert pages == {(HOWTO / f"{name}.md").resolve() for name in GIVEN}
    assert all(list(blocks(page.read_text())) for page in pages)
    tasks = {path.stem for path in HOWTO.glob("*.md")} - {"index"}
    assert tasks <= set(re.findall(r"(?m)^[a-z-]+$", (HOWTO / "index.md").read_text()))


def test_a_page_that_shows_something_else_is_found() -> None:
    page = "```python\nx = 1\nprint(x)\nx + 1\n```\n\n```text\n1\n{}\n```\n"
    assert list(differences(page.format("2"), {})) == []
    assert len(list(differences(page.format("3"), {}))) == 1
