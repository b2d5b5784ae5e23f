"""A figure as SVG that fits into a page: the colours of its theme, the names of its boxes, nothing that clashes."""

from __future__ import annotations

import contextlib
import hashlib
import resource
import subprocess
import xml.etree.ElementTree as ET
from subprocess import PIPE

from vmsnap_nb.errors import CommandError, MissingPartError
from vmsnap_nb.views.dot import FONTS, figure_graph
from vmsnap_nb.views.figure import Figure
from vmsnap_nb.words.message import t

__all__ = ["figure_svg"]

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_SECONDS, _MEMORY, _WORDS = 60.0, 4 << 30, 1 << 16
"""What dot may take, and how much of its complaints is shown."""

# VS Code's colours, then JupyterLab's, then black on white: VS Code gives JupyterLab's variables their light values in
# dark themes too, since it shows widgets on white (panels/chain_view.css puts that right within them). Graphviz 2.43
# accepts neither variables nor currentColor as a colour, so a style sheet says it. Its rules begin with a class that is
# this figure's own.
_STYLE = """
{0} text {{ fill: {text}; }}
{0} .caption text {{ fill: {faint}; }}
{0} .box > polygon, {0} .box > path, {0} .box a > polygon, {0} .box a > path {{ fill: {paper}; }}
{0} .box.image:not(.active) polygon {{ stroke: {line}; }}
{0} .box polyline {{ fill: none; }}
"""
_COLOURS = {
    "text": "var(--vscode-editor-foreground, var(--jp-ui-font-color1, #111111))",
    "faint": "var(--vscode-descriptionForeground, var(--jp-ui-font-color2, #767676))",
    "line": "var(--vscode-editor-foreground, var(--jp-ui-font-color2, #4d4d4d))",
    "paper": "var(--vscode-editor-background, var(--jp-layout-color1, #ffffff))",
}


def figure_svg(figure: Figure) -> str:
    """Draw a figure by Graphviz; return an ``<svg>`` element.

    Each box is a ``<g>`` of the class ``box``. Its ``data-box="0-3"`` numbers its block and itself, its ``<title>`` is
    the full path and what is wrong with it. Nothing has an ``id``, so that a figure may stand twice on a page.
    """
    source = figure_graph(figure).source
    return _fit(_drawn(source), figure, "vmsnap-" + hashlib.sha256(source.encode()).hexdigest()[:10])


def _drawn(source: str) -> bytes:
    argv = ("dot", "-Kdot", "-Tsvg")
    try:
        with subprocess.Popen(argv, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True) as dot:
            try:
                with contextlib.suppress(ProcessLookupError):
                    resource.prlimit(dot.pid, resource.RLIMIT_AS, (_MEMORY, _MEMORY))
                drawn, words = dot.communicate(source.encode(), timeout=_SECONDS)
            finally:
                dot.kill()
    except FileNotFoundError as error:
        raise MissingPartError(
            t("draw a picture with Graphviz"),
            why=t("the program dot is not installed, or not on PATH"),
            next_step=t("apt install graphviz (the same name for dnf, pacman and zypper), then show this again"),
        ) from error
    except OSError as error:
        raise CommandError(
            t("draw a picture with Graphviz"),
            why=t("the program dot cannot be run: {error}", error=error.strerror or error),
            next_step=t("check what it is and who may execute it: ls -lL $(which -a dot)"),
            argv=argv,
        ) from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(
            t("draw a picture with Graphviz"),
            why=t("dot did not end within {seconds:g} s", seconds=_SECONDS),
            next_step=t("use .to_text()"),
            argv=argv,
        ) from error
    if dot.returncode != 0:
        said = words[:_WORDS].decode(errors="replace")
        raise CommandError(
            t("draw a picture with Graphviz"),
            said=said,
            why=None if said else t("dot ended with exit status {status}", status=dot.returncode),
            next_step=t("use .to_text(), and report the output of .to_graphviz().source"),
            argv=argv,
            exit_status=dot.returncode,
            stderr=said,
        )
    return drawn


def _fit(drawn: bytes, figure: Figure, scope: str) -> str:
    try:
        root = ET.fromstring(drawn)
    except ET.ParseError as error:
        raise CommandError(
            t("draw a picture with Graphviz"),
            why=t("the output of dot is not SVG: {error}", error=error),
            next_step=t("check which program dot is: command -v dot; dot -V"),
        ) from error
    boxes = {f"box-{b}-{n}": box for b, block in enumerate(figure.blocks) for n, box in enumerate(block.boxes)}
    root.set("class", scope)
    root.set("role", "img")
    root.set("aria-label", figure.summary)
    for group in root.iter(f"{{{_SVG}}}g"):
        title = group.find(f"{{{_SVG}}}title")
        box = boxes.get(group.get("id", ""))
        if box is not None:
            if title is not None:
                title.text = box.title
            group.set("data-box", group.get("id", "").removeprefix("box-"))
            _unwrap(group)
        elif title is not None and "box" not in group.get("class", ""):
            group.remove(title)  # of arrows and captions: the graph's own names, of no use to a reader
    root.set("font-family", FONTS)
    for element in root.iter():
        element.attrib.pop("id", None)
        if element is not root:
            element.attrib.pop("font-family", None)
    style = ET.Element(f"{{{_SVG}}}style")
    style.text = _STYLE.format("." + scope, **_COLOURS)
    root.insert(0, style)
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", _XLINK)
    return ET.tostring(root, encoding="unicode")


def _unwrap(group: ET.Element) -> None:
    """Take away the link that Graphviz puts around a box with a tooltip: it leads nowhere, and the title is there."""
    for wrapper in group.findall(f"{{{_SVG}}}g"):
        link = wrapper.find(f"{{{_SVG}}}a")
        if link is not None:
            group.remove(wrapper)
            group.extend(list(link))
