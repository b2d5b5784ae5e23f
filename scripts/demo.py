"""Execute a notebook, show it as text while it runs, and write it as HTML.

Usage: ``python scripts/demo.py notebooks/00-quickstart.ipynb build/quickstart.html``

The notebook itself is not changed; it gets a folder and a lab of its own, which are gone afterwards.
The exit status is 1 if a cell fails.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbformat import NotebookNode

WIDGET = "application/vnd.jupyter.widget-view+json"
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
CELL_SECONDS = 600


# --- a cell as text ---------------------------------------------------------------------------------------------


def prose(markdown: str, *, width: int) -> Iterator[str]:
    """Return a Markdown cell as lines of text: headings underlined, paragraphs filled, code and tables as they are."""
    paragraph: list[str] = []
    fenced = False
    hang = ""  # what stands before the second line of an item of a list

    def filled() -> Iterator[str]:
        nonlocal hang
        if paragraph:
            yield from textwrap.wrap(
                " ".join(paragraph),
                width=width,
                subsequent_indent=hang,
                break_long_words=False,
                break_on_hyphens=False,
            )
            paragraph.clear()
        hang = ""

    for line in markdown.splitlines():
        if line.lstrip().startswith("```"):
            yield from filled()
            fenced = not fenced
        elif fenced:
            yield f"    {line}"
        elif match := re.match(r"(#+) +(.*)", line):
            yield from filled()
            title = plain(match[2])
            yield title
            yield ("=" if len(match[1]) == 1 else "-") * len(title)
        elif match := re.match(r" *([-*+]|\d+\.) +", line):
            yield from filled()
            paragraph.append(plain(line.rstrip()))
            hang = " " * len(match[0])
        elif re.match(r"\||>", line) or (line.startswith("    ") and not hang):
            yield from filled()
            yield plain(line)
        elif line.strip():
            paragraph.append(plain(line.strip()))
        else:
            yield from filled()
            yield ""
    yield from filled()


def plain(markdown: str) -> str:
    """Take the marks out of a line of Markdown; a link keeps its text."""
    parts = re.split(r"(`[^`]*`)", markdown)
    for i in range(0, len(parts), 2):  # what is between backticks stays as it is
        parts[i] = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", parts[i])
        parts[i] = re.sub(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1", r"\2", parts[i])
        parts[i] = re.sub(r"(?<!\w)([*_])(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2", parts[i])
    return "".join(part.strip("`") if i % 2 else part for i, part in enumerate(parts))


def printed(text: str) -> str:
    """What remains of printed text on a terminal: a carriage return takes its line back, colours are left out."""
    text = ANSI.sub("", text).replace("\r\n", "\n")
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.splitlines())


def output_text(output: NotebookNode) -> str:
    """One output as text; empty for what only a browser can show (a progress bar that is a widget)."""
    kind = output["output_type"]
    if kind == "stream":
        return printed(output["text"])
    if kind == "error":
        return printed("\n".join(output["traceback"]))
    data: dict[str, Any] = output.get("data", {})
    return "" if WIDGET in data else str(data.get("text/plain", ""))


def cell_text(cell: NotebookNode, *, width: int) -> str:
    """One cell as text: prose, or the code marked as input with its outputs below."""
    if cell["cell_type"] == "markdown":
        return "\n".join(prose(cell["source"], width=width))
    if cell["cell_type"] != "code" or not cell["source"].strip():
        return ""
    source = textwrap.indent(cell["source"], "  > ", lambda _: True)
    outputs = [text for output in cell["outputs"] if (text := output_text(output).rstrip("\n"))]
    return "\n\n".join([source, *(textwrap.indent(text, "  ") for text in outputs)])


# --- the notebook -----------------------------------------------------------------------------------------------


def execute(path: Path, folder: str, *, width: int) -> tuple[NotebookNode, bool]:
    """Execute the notebook at `path` in a folder, printing each cell when it is done; False if one fails."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    shown = 0

    def show(upto: int) -> None:
        nonlocal shown
        for cell in notebook["cells"][shown:upto]:
            if text := cell_text(cell, width=width):
                print(text, end="\n\n", flush=True)
        shown = max(shown, upto)

    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        resources={"metadata": {"path": folder}},
        store_widget_state=False,
        extra_arguments=["--log-level=ERROR"],  # the kernel speaks of its transport at the level of warnings
        on_cell_start=lambda **event: show(event["cell_index"]),
        on_cell_executed=lambda **event: show(event["cell_index"] + 1),
    )
    try:
        client.execute()
    except CellExecutionError:
        show(shown + 1)  # its output is the traceback
        return notebook, False
    except (CellTimeoutError, DeadKernelError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return notebook, False
    show(len(notebook["cells"]))
    return notebook, True


def title(notebook: NotebookNode) -> str:
    """Return the first heading of the notebook."""
    headings = (re.search(r"^# +(.+)$", cell["source"], re.MULTILINE) for cell in notebook["cells"])
    return next((plain(match[1]) for match in headings if match), "")


def lasts(output: NotebookNode) -> bool:
    """Take a live widget out of an output; tell whether something to show is left, as a panel's static figure."""
    data = output.get("data", {})
    return data.pop(WIDGET, None) is None or "text/html" in data


def write_html(notebook: NotebookNode, target: Path) -> None:
    """Write the executed notebook as one HTML file that fetches nothing from elsewhere, without what needs a kernel."""
    from nbconvert import HTMLExporter

    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":  # of a progress bar there would be left how it began
            cell["outputs"] = [output for output in cell["outputs"] if lasts(output)]
    exporter = HTMLExporter(embed_images=True)  # type: ignore[no-untyped-call]
    for trait in exporter.trait_names():  # of libraries that a browser would load from elsewhere
        if trait.endswith("_url"):
            exporter.set_trait(trait, "")
    body, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title(notebook) or target.stem}})
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    partial.write_text(body, encoding="utf-8")
    partial.replace(target)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("html", type=Path)
    options = parser.parse_args()
    if not options.notebook.is_file():
        parser.error(f"there is no notebook {options.notebook}")

    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # a warning of the debugger about itself
    width = min(shutil.get_terminal_size().columns, 100)
    start = time.monotonic()
    # Below /tmp, because the path of a lab must be short.
    with tempfile.TemporaryDirectory(prefix="vmsnap-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        os.environ["VMSNAP_LAB"] = f"{folder}/lab"
        notebook, succeeded = execute(options.notebook, folder, width=width)
    write_html(notebook, options.html)
    print(f"{options.html} written after {time.monotonic() - start:.0f} s")
    if not succeeded:
        print(f"{options.notebook}: a cell failed, see above", file=sys.stderr)
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
