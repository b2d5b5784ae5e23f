"""Things as HTML: picture or text, and a table."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from support.forests import figure_2, forest, handout, image, thousand
from support.merges import FACTS, commit

from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.image import InternalSnapshot
from vmsnap_nb.plans.overlay.request import GuestsRequest
from vmsnap_nb.plans.plan import Alternative
from vmsnap_nb.plans.request import Reading


@pytest.mark.system
def test_html_has_picture_text_and_a_table_with_heads_and_caption() -> None:
    users = tuple(Use("demo", "vda", f"/i/{name}") for name in ("Overlay-1C", "Overlay-2A"))
    html = replace(figure_2(), uses=users)._repr_mimebundle_()["text/html"]
    assert html.index("<svg") < html.index("<pre") < html.index("<table>")
    assert re.search(r"<caption[^>]*>Images</caption>", html)
    assert html.count('<th scope="row"') == 9
    assert "64 MiB" in html
    assert html.count("(Active)") == 2  # in the text
    assert html.count(">Active<") == 4  # in the picture, and in that for narrow columns


@pytest.mark.system
def test_where_styles_and_svg_are_stripped_the_text_figure_is_what_remains() -> None:
    html = figure_2()._repr_mimebundle_()["text/html"]
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    assert re.search(r"\.vmsnap-text \{ display: none; \}", style[1])
    assert re.search(r"\.vmsnap-picture \{ display: block !important;", style[1])
    cleaned = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    assert '<div class="vmsnap-picture" style="display:none">' in cleaned  # nothing now shows it
    assert re.search(r'<pre class="vmsnap-text"[^>]*>\.-', cleaned)  # and nothing hides this


def test_steps_that_only_write_things_down_are_folded_apart() -> None:
    plan = commit(handout(), "/i/Snap-2", "/i/Snap-1", facts=FACTS)
    html = plan._repr_mimebundle_()["text/html"]
    steps = plan.to_frame()
    noted = int(steps["command"].isna().sum())
    assert 0 < noted < len(steps)
    assert f"{len(steps) - noted} steps · as commands" in html
    assert html.count(f"and {noted} bookkeeping step") == 2  # the summary, and the caption for who reads by ear
    assert html.index("as commands") < html.index("bookkeeping step") < html.rindex("remove the journal entry")


def test_a_table_of_1000_rows_is_cut_and_says_so() -> None:
    html = thousand(1)._repr_mimebundle_()["text/html"]
    assert html.count('<th scope="row"') == 60
    assert "940 more rows" in html


def test_a_long_command_is_folded_but_never_left_out() -> None:
    xml = "\n".join(["<domain>", *(f"<a{n}/>" for n in range(40)), "</domain>"])
    request = GuestsRequest(disks={"g": "/i/g"}, backing="/i/base", xml={"g": xml})
    plan = request.plan(Reading(forest=forest(image("base"))))
    text, html = plan.to_text(), plan._repr_mimebundle_()["text/html"]
    assert "<a7/>" not in text
    assert "… 43 more lines, all in commands[1]" in text
    assert plan.commands[1].count("\n") == 43
    assert "&lt;a7/&gt;" in html
    assert "and 43 more lines" in html


def cells(html: str, part: str) -> list[str]:
    """The cells of the table with this caption, as they are written."""
    table = next(one for one in re.findall(r"<table>.*?</table>", html, re.DOTALL) if f">{part}</caption>" in one)
    return re.findall(r"<t[hd].*?</t[hd]>", table, re.DOTALL)


def test_columns_that_say_nothing_are_left_out_of_a_table_below_a_figure() -> None:
    html = figure_2()._repr_mimebundle_()["text/html"]
    heads = [re.sub("<.*?>", "", cell) for cell in cells(html, "Images") if 'scope="col"' in cell]
    assert "children" in heads
    assert not {"snapshots", "bitmaps", "used by"} & set(heads)  # 0 in each row, and nothing
    one = InternalSnapshot("1", "s")
    html = forest(image("a", snapshots=(one,)), image("b"))._repr_mimebundle_()["text/html"]
    assert ">snapshots</th>" in html


def test_names_dates_and_sizes_in_a_table_stay_on_their_line() -> None:
    html = figure_2()._repr_mimebundle_()["text/html"]
    named = [cell for cell in cells(html, "Images") if re.search(">(Overlay-1A|64 MiB|1 MiB)<", cell)]
    assert len(named) > 9
    assert all("white-space: nowrap" in cell for cell in named)
    long = forest(image("a" * 60))._repr_mimebundle_()["text/html"]
    broken = [cell for cell in cells(long, "Images") if "aaaa" in cell]
    assert not any("nowrap" in cell for cell in broken)
    assert all("overflow-wrap: anywhere" in cell for cell in broken)  # cards and listings have no style sheet


def test_a_table_names_a_backing_file_and_says_that_it_is_written_with_its_folder() -> None:
    html = forest(image("base"), image("top", "/i/base"))._repr_mimebundle_()["text/html"]
    assert any('title="/i/base">…/base<' in cell for cell in cells(html, "Images"))


def test_rows_of_images_are_in_natural_order() -> None:
    found = forest(*(image(f"night-{number}") for number in (1, 10, 2)))._repr_mimebundle_()["text/html"]
    names = [re.sub("<.*?>", "", cell) for cell in cells(found, "Images") if 'scope="row"' in cell]
    assert names == ["night-1", "night-2", "night-10"]


def test_what_a_summary_says_is_said_once_more_only_by_ear() -> None:
    html = figure_2()._repr_mimebundle_()["text/html"]
    assert "<summary>Images (9)</summary>" in html
    assert re.search(r"<caption[^>]*position: absolute[^>]*>Images</caption>", html)


def test_ways_and_steps_that_copy_nothing_do_not_say_so_in_bytes() -> None:
    ways = (Alternative("up", 0, chosen=True), Alternative("down", None))
    plan = replace(commit(handout(), "/i/Snap-2", "/i/Snap-1", facts=FACTS), alternatives=ways)
    html = plan._repr_mimebundle_()["text/html"]
    assert "up (nothing to copy, chosen)" in html
    assert [cell for cell in cells(html, "Steps") if "KiB" in cell]  # some do
    assert not re.search(r">0 B\b", html)
