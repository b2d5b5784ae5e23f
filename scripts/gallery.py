"""Make `docs/gallery.md` and its pictures: each figure of the handout beside ours, and the code that draws it.

    python scripts/gallery.py            writes them, in English and in Chinese
    python scripts/gallery.py --check    writes nothing; says what is not as it would be written (exit status 1)

The handout's figures are read from `tests/golden`, ours are drawn of real images. They show no size that differs from
one file system to another, so that a picture is the same wherever it is drawn.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import vmsnap_nb as vs
from vmsnap_nb.model.blockmap import BlockMap
from vmsnap_nb.model.files import FileChanges
from vmsnap_nb.views.draw import figure_of
from vmsnap_nb.views.figure import Options
from vmsnap_nb.views.svg import figure_svg
from vmsnap_nb.words.language import set_language
from vmsnap_nb.words.message import t

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PICTURES = {"en": "images/gallery", "zh": "images/gallery-zh"}
PAGES = {"en": "gallery.md", "zh": "zh/gallery.md"}
THEIRS = {"en": "The original figure:", "zh": "讲义中的图："}
MOVING = {"en": "images/merge.svg", "zh": "images/merge-zh.svg"}
_SVG = "http://www.w3.org/2000/svg"


class Exhibit(NamedTuple):
    """One section: what is drawn is the value of the code's last line."""

    name: str
    title: str
    prose: str
    code: str
    handout: str = ""
    options: dict[str, Any] = {"details": "none", "style": "handout"}  # noqa: RUF012 - read only


EXHIBITS = (
    Exhibit(
        "figure-1",
        "Figure 1: a chain",
        "Each image is based on the one to its left. The base can be raw, but every overlay is qcow2.",
        'lab.scenario("figure-1")',
        "figure-1",
        {"details": "format", "style": "handout", "labels": {"RootBase": "(raw/qcow2)"}},
    ),
    Exhibit(
        "figure-2",
        "Figure 2: a tree",
        "Three branches are based on one image. None of them may write to it.",
        'lab.scenario("figure-2")',
        "figure-2",
    ),
    Exhibit(
        "template",
        "A template and its guests",
        "Two thin guests were created from one installed system, and each was updated in its own layer. If "
        "two files have the same name, the figure shows enough of the path to distinguish them.",
        'lab.scenario("template")',
        "template",
    ),
    Exhibit(
        "figure-3",
        "Figure 3: commit Snap-2 and Snap-3 into Snap-1",
        "A plan is drawn before it runs. The figure shows the chain now, the data to copy, the chain "
        "afterwards, and the layers that become invalid.",
        'merge = lab.scenario("merge")\nmerge.commit("Snap-3", "Snap-1")',
        "figure-3",
    ),
    Exhibit(
        "figure-4",
        "Figure 4: commit all three into the base",
        "All three layers are merged in one pass. If several layers hold data for the same place, the "
        "data for that place is copied only once.",
        'merge.commit("Snap-3", "RootBase")',
        "figure-4",
    ),
    Exhibit(
        "figure-5",
        "Figure 5: pull Snap-1 to Snap-3 into Snap-4",
        "Data is copied up. The lower layers stay valid, and other overlays can still be based on them.",
        'merge.pull("Snap-4", "RootBase")',
        "figure-5",
    ),
    Exhibit(
        "figure-6",
        "Figure 6: pull everything",
        "Snap-4 no longer has a backing file. (The handout shows this as Figure 5, with Snap-4 alone below.)",
        'merge.pull("Snap-4")',
    ),
    Exhibit(
        "blockmap",
        "Block map: which layer holds which data",
        "The top strip shows what the guest reads. Below it, each layer has a strip with its visible and hidden data.",
        'merge.blockmap("Snap-4")',
        options={},
    ),
    Exhibit(
        "refused",
        "A merge that is refused",
        "After this merge, the first branch would still be correct. However, the other overlays are based on "
        "the same image and would read the first branch's data. If their guests are off, `qemu-img commit` "
        "performs this merge without a warning.",
        'tree = lab.scenario("figure-2")\ntree.commit("Overlay-1B", "RootBase")',
    ),
    Exhibit(
        "branches",
        "A revert to an earlier snapshot",
        "The previous state is kept as a snapshot. A second branch begins, and the first one remains.",
        'vm = lab.guest("web", backing=lab.base("RootBase"))\n'
        'for name in ("one", "two"):\n'
        '    vm.snapshot(name, kind="external-disk").run(progress=False)\n'
        'vm.revert("one").run(progress=False)\n'
        "vm.snapshots()",
    ),
    Exhibit(
        "changes",
        "Files that changed since a snapshot",
        "The disk's layers are on the left, and the tree of changed files is on the right. The layer with the changes "
        "is highlighted.",
        'vm = lab.guest("files", backing=lab.base("RootBase")).start()\n'
        'vm.execute("echo 1 > /etc/one; echo old > /etc/motd").check()\n'
        'vm.snapshot("monday", kind="external-disk").run(progress=False)\n'
        'vm.execute("echo new text > /etc/motd; mv /etc/one /etc/two; rm /etc/issue").check()\n'
        'vm.diff("monday", path="/etc")',
        options={},
    ),
    Exhibit(
        "broken",
        "A missing file",
        "A file in the middle of the chain was removed. Instead of raising an exception, the figure shows the "
        "problem in the box.",
        'import os\n\nos.unlink(tree.find("Overlay-1A"))\ntree.refresh()',
    ),
)

HEAD = """# Gallery of figures

This page shows all figures from the handout "Snapshots, QCOW2 backing files & overlays", and some others. For each
figure, you see the picture that vmsnap_nb draws, the code, and the same figure as text. For the figures from the
handout, you also see the original. All figures show real images. In a notebook, the code alone displays both the
picture and the text. This page uses two options: `details="none"` omits formats, sizes and users, and
`style="handout"` draws plans and `(Active)` as in the handout.

```python
import vmsnap_nb as vs

lab = vs.Lab()
```
"""

CHINESE_HEAD = """# 图库

本页收录讲义“Snapshots, QCOW2 backing files & overlays”中的全部示意图，以及另外几张图。\
每张图都给出本工具绘制的图、代码和文本形式；讲义中的图还附有原图。图中都是真实的镜像。\
在 notebook 中，只用这些代码就会显示图和文本；这里的 `details="none"` 省略格式、大小和\
使用者，`style="handout"` 按讲义的样式绘制计划，并标注“（活动层）”字样。

```python
import vmsnap_nb as vs

lab = vs.Lab()
```
"""

CHINESE = {
    "figure-1": ("图 1：镜像链", "每个镜像都基于它左边的镜像。基础镜像可以是 raw 格式，叠加层都是 qcow2 格式。"),
    "figure-2": ("图 2：镜像树", "三条分支基于同一个镜像，任何一条都不能写入它。"),
    "template": (
        "模板及其客户机",
        "两个客户机基于同一个已安装的系统，各自的更新写入自己的层。如果两个文件同名，会显示足以区分它们的目录。",
    ),
    "figure-3": (
        "图 3：把 Snap-2 和 Snap-3 向下合并到 Snap-1",
        "执行之前，图中就画出当前的镜像链、要复制的数据、合并后的镜像链，以及将失效的层。",
    ),
    "figure-4": ("图 4：把三层全部向下合并到基础镜像", "一次合并三层：其中几层都有的数据只复制一次。"),
    "figure-5": (
        "图 5：把 Snap-1 到 Snap-3 向上合并到 Snap-4",
        "数据向上复制。下面的层仍然有效，其他叠加层可以继续基于它们。",
    ),
    "figure-6": ("图 6：全部向上合并", "Snap-4 不再有后备镜像。（讲义把它画在图 5 中，Snap-4 单独在下方。）"),
    "blockmap": (
        "块映射图：数据在哪一层",
        "最上面一条是客户机读到的内容。下面每层一条，显示该层的数据，包括可见的和被覆盖的。",
    ),
    "refused": (
        "被拒绝的合并",
        (
            "合并后第一条分支仍然正确，但其他叠加层基于同一个镜像，会读到第一条分支的数据。"
            "如果使用它们的客户机都已关机，`qemu-img commit` 会照做，不给任何警告。"
        ),
    ),
    "branches": ("恢复到较早的快照", "先前的状态保留为一个快照。由此产生第二条分支，第一条分支保持不变。"),
    "changes": (
        "快照之后有变化的文件",
        "左侧是磁盘的各层，右侧是有变化的文件组成的树。含有这些变化的层会突出显示。",
    ),
    "broken": ("缺失的文件", "镜像链中间的一个文件被删除了。不会抛出异常，问题直接显示在方框中。"),
}
"""Title and prose of each exhibit."""


def text_of(thing: Any, options: dict[str, Any]) -> str:
    """Return the figure as text, without what a plan says below it."""
    text = str(thing.to_text(**options))
    for below in (f"\n\n{t('How')}\n", f"\n\n{t('Concerns')}\n", "\n\n* "):
        text = text.partition(below)[0]
    return text.rstrip()


def picture_of(thing: Any, options: dict[str, Any], folder: Path) -> str:
    """Return the picture as a file of its own: on white paper, with the names of files as they are in the folder."""
    if isinstance(thing, BlockMap | FileChanges):
        svg = str(thing._repr_mimebundle_()["image/svg+xml"])
    else:
        svg = figure_svg(figure_of(thing, Options(**options)))
    svg = re.sub(r"\bvmsnap-[0-9a-f]{10}\b", "vmsnap-figure", svg)  # the class that the figure's folder gives it
    svg = re.sub(
        r"@media \(prefers-color-scheme: dark\) \{\n.*\n\}\n(?=</style>)", "", svg, flags=re.DOTALL
    )  # paper is white
    ET.register_namespace("", _SVG)
    root = ET.fromstring(re.sub(re.escape(str(folder)) + r"/(images|scenarios/[\w-]+)/", "", svg))
    paper = ET.Element(f"{{{_SVG}}}rect", width="100%", height="100%", fill="#ffffff")
    for at in ("x", "y"):
        paper.set(at, root.get("viewBox", "0 0").split()[at == "y"])
    root.insert(0, paper)
    return ET.tostring(root, encoding="unicode") + "\n"


def moving(svg: str) -> str:
    """Let a plan's picture move: first what is there, then the data that flows, then what will be there."""
    root = ET.fromstring(svg)
    groups = [g for g in root.iter(f"{{{_SVG}}}g") if g.get("class", "").split()[0] in {"box", "arrow", "caption"}]
    below = max(bottom(g) for g in groups if g.get("data-box", "").startswith("0-"))
    for group in groups:
        kind = group.get("class", "")
        if "move" in kind:
            group.set("class", f"{kind} flows")
        elif top(group) > below:
            group.set("class", f"{kind} comes")
    style = ET.Element(f"{{{_SVG}}}style")
    style.text = """
.flows { animation: flows 9s infinite; }
.flows path { animation: dashes 1s linear infinite; }
.comes { animation: comes 9s infinite; }
@keyframes flows { 0%, 12% { opacity: 0; } 18%, 92% { opacity: 1; } 97%, 100% { opacity: 0; } }
@keyframes comes { 0%, 40% { opacity: 0; } 48%, 92% { opacity: 1; } 97%, 100% { opacity: 0; } }
@keyframes dashes { to { stroke-dashoffset: -14; } }
@media (prefers-reduced-motion: reduce) { .flows, .flows path, .comes { animation: none; } }
"""
    root.insert(0, style)
    return ET.tostring(root, encoding="unicode") + "\n"


def heights(group: ET.Element) -> list[float]:
    """Return the heights at which a group of a picture has something; downwards they grow."""
    found = [float(text.get("y", "0")) for text in group.iter(f"{{{_SVG}}}text")]
    for shape in group:
        pairs = re.findall(r"-?[\d.]+[ ,](-?[\d.]+)", shape.get("points", "") + " " + shape.get("d", ""))
        found += map(float, pairs)
        if shape.get("height"):
            found += [float(shape.get("y", "0")), float(shape.get("y", "0")) + float(shape.get("height", "0"))]
    return found


def top(group: ET.Element) -> float:
    """Return the highest of them."""
    return min(heights(group))


def bottom(group: ET.Element) -> float:
    """Return the lowest of them."""
    return max(heights(group))


def drawn(folder: Path) -> dict[str, str]:
    """Draw it all in a lab of its own; by the path below `docs`."""
    files: dict[str, str] = {}
    sections: dict[str, list[str]] = {"en": [HEAD], "zh": [CHINESE_HEAD]}
    with vs.Lab(folder) as lab:
        names: dict[str, Any] = {"vs": vs, "lab": lab}
        for exhibit in EXHIBITS:
            *before, last = exhibit.code.split("\n")
            exec("\n".join(before), names)  # our own lines, from above
            thing = eval(last, names)
            if isinstance(thing, FileChanges):  # what files take on disk differs from run to run
                plain = (replace(layer, allocated=None, virtual_size=None) for layer in thing.layers)
                thing = replace(thing, layers=tuple(plain), notes=())
            for language, page in sections.items():
                set_language(language)
                picture = f"{PICTURES[language]}/{exhibit.name}.svg"
                files[picture] = picture_of(thing, exhibit.options, folder)
                text = text_of(thing, exhibit.options).replace(str(folder), "")
                page += section(exhibit, language, os.path.relpath(picture, Path(PAGES[language]).parent), text)
            set_language(None)
    for language, page in sections.items():
        files[PAGES[language]] = "\n".join(page)
        files[MOVING[language]] = moving(files[f"{PICTURES[language]}/figure-3.svg"])
    return files


def section(exhibit: Exhibit, language: str, picture: str, text: str) -> list[str]:
    """Write the section of an exhibit in a language."""
    title, prose = (exhibit.title, exhibit.prose) if language == "en" else CHINESE[exhibit.name]
    lines = [f"## {title}\n", f"{prose}\n", f"![{title}]({picture})\n"]
    lines += [f"```python\n{exhibit.code}\n```\n", f"```text\n{text}\n```\n"]
    if exhibit.handout:
        theirs = (ROOT / "tests" / "golden" / f"{exhibit.handout}.txt").read_text().rstrip("\n")
        lines.append(f"{THEIRS[language]}\n\n```text\n{theirs}\n```\n")
    return lines


def main() -> int:
    """Run from the command line."""
    with tempfile.TemporaryDirectory(prefix="v", dir="/tmp") as folder:
        files = drawn(Path(folder) / "l")
    old = [
        path for path, content in files.items() if not (DOCS / path).exists() or (DOCS / path).read_text() != content
    ]
    if "--check" not in sys.argv:
        for path in old:
            (DOCS / path).parent.mkdir(parents=True, exist_ok=True)
            (DOCS / path).write_text(files[path])
        return 0
    if old:
        print("not as they would be drawn now: " + ", ".join(old) + "; run python scripts/gallery.py", file=sys.stderr)
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
