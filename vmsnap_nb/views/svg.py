"""A figure as SVG that fits into a page: the colours of its theme, the names of its boxes, nothing that clashes."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET

from vmsnap_nb.errors import CommandError, MissingPartError
from vmsnap_nb.views.dot import FONTS, figure_graph
from vmsnap_nb.views.figure import Figure

__all__ = ["figure_svg"]

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"

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
    """Draw a figure by Graphviz.

    Parameters
    ----------
    figure : Figure
        What to draw.

    Returns
    -------
    str
        An ``<svg>`` element. Each box is a ``<g>`` of the class ``box``. Its ``data-box="0-3"`` numbers its block and
        itself, its ``<title>`` is the full path and what is wrong with it. Nothing has an ``id``, so that a figure may
        stand twice on a page.

    Raises
    ------
    MissingPartError
        Graphviz is not installed.
    CommandError
        Graphviz refused its input.
    """
    digraph = figure_graph(figure)
    import graphviz

    try:
        drawn = digraph.pipe(format="svg", encoding="utf-8", quiet=True)
    except graphviz.ExecutableNotFound as error:
        raise MissingPartError(
            "draw a picture with Graphviz",
            said="the program dot is not installed, or not on PATH",
            next_step="apt install graphviz (dnf, pacman and zypper call it graphviz too), then show this again",
        ) from error
    except graphviz.CalledProcessError as error:
        said = error.stderr if isinstance(error.stderr, str) else (error.stderr or b"").decode(errors="replace")
        raise CommandError(
            "draw a picture with Graphviz",
            said=said or str(error),
            next_step="use .to_text(), and report the output of .to_graphviz().source",
            argv=[str(part) for part in error.cmd],
            exit_status=error.returncode,
            stderr=said,
        ) from error
    return _fit(drawn, figure, "vmsnap-" + hashlib.sha256(digraph.source.encode()).hexdigest()[:10])


def _fit(drawn: str, figure: Figure, scope: str) -> str:
    root = ET.fromstring(drawn)
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
