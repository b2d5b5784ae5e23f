"""The handout's figures, folding, and what a figure says of broken images and of plans."""

from __future__ import annotations

import re

import pytest
from support import GOLDEN
from support.forests import MIB, figure_2, forest, image, thousand
from support.handout import normal
from support.shown import overlay_plan

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.forest import Chain, Forest
from vmsnap_nb.model.guest import Disk, Disks, Use
from vmsnap_nb.model.image import Bitmap, InternalSnapshot
from vmsnap_nb.plans.concern import refuse
from vmsnap_nb.plans.plan import Move, Plan
from vmsnap_nb.plans.report import Report, StepDone
from vmsnap_nb.plans.snapshot.steps import ForgetRecord
from vmsnap_nb.plans.step import CreateOverlay, GuestRef
from vmsnap_nb.views.clickable import clickable
from vmsnap_nb.views.draw import figure_of
from vmsnap_nb.views.figure import Figure, Options
from vmsnap_nb.views.folding import MOST_BOXES
from vmsnap_nb.views.svg import MOST_NARROW, figure_svg, least_width
from vmsnap_nb.words.message import t


def figure_1() -> Forest:
    return forest(
        image("RootBase"),
        image("Overlay-1", "RootBase"),
        image("Overlay-1A", "Overlay-1"),
        image("Overlay-1B", "Overlay-1A"),
    )


def names(figure: Figure) -> list[str]:
    return [box.lines[0].text for block in figure.blocks for box in block.boxes]


def lines_of(figure: Figure, name: str) -> list[str]:
    found = [b for block in figure.blocks for b in block.boxes if b.lines[0].text == name]
    assert found, f"no box {name} in {names(figure)}"
    return [line.text for line in found[-1].lines]


# -- the handout -----------------------------------------------------------------------------------------


def test_figure_1_is_the_handouts() -> None:
    text = figure_1().to_text(details="format", labels={"RootBase": "(raw/qcow2)"})
    assert normal(text) == normal((GOLDEN / "figure-1.txt").read_text())


def test_figure_1_as_a_chain_is_the_same() -> None:
    chain = figure_1().chain("/i/Overlay-1B")
    text = chain.to_text(details=("format",), labels={"/i/RootBase": "(raw/qcow2)"})
    assert normal(text) == normal((GOLDEN / "figure-1.txt").read_text())


def test_figure_2_is_the_handouts() -> None:
    assert normal(figure_2().to_text(details="none", style="handout")) == normal((GOLDEN / "figure-2.txt").read_text())


def test_figure_2_stands_on_the_handouts_columns() -> None:
    """Where boxes have the handout's widths, so do the trunks: white space counts here."""
    ours = figure_2().to_text(details="none", style="handout").splitlines()
    handout = (GOLDEN / "figure-2.txt").read_text().splitlines()
    assert [line[:10] for line in ours[5:]] == [line[:10] for line in handout[5:]]


def test_another_figure_is_not_taken_for_the_handouts() -> None:
    other = figure_2().edited(drop=["/i/Overlay-3A"])
    assert normal(other.to_text(details="none", style="handout")) != normal((GOLDEN / "figure-2.txt").read_text())


def test_the_template_example_has_the_handouts_rows() -> None:
    tree = forest(
        image("FedoraBase.img"),
        image("Fedora-guest-1.qcow2", "FedoraBase.img"),
        image("1/Fed-w-updates.qcow2", "Fedora-guest-1.qcow2"),
        image("1/Fedora-guest-with-updates-1A", "1/Fed-w-updates.qcow2"),
        image("Fedora-guest-2.qcow2", "FedoraBase.img"),
        image("2/Fed-w-updates.qcow2", "Fedora-guest-2.qcow2"),
        image("2/Fedora-guest-with-updates-2A", "2/Fed-w-updates.qcow2"),
    )
    figure = figure_of(tree, Options())
    rows: dict[int, list[str]] = {}
    for box in figure.blocks[0].boxes:
        rows.setdefault(box.row, []).append(box.key.rpartition("/")[2])
    handout = [re.findall(r"\[(.*?)\]", line) for line in (GOLDEN / "template.txt").read_text().splitlines()]
    assert list(rows.values()) == [row for row in handout if row]
    # the one name that occurs twice is told apart by as much of the folder as that takes
    assert [name for name in names(figure) if "updates.q" in name] == ["1/Fed-w-updates.qcow2", "2/Fed-w-updates.qcow2"]


def test_arrows_go_from_overlay_to_backing_file() -> None:
    tree = figure_2()
    for block in figure_of(tree, Options()).blocks:
        for arrow in block.arrows:
            tail, head = block.boxes[arrow.tail], block.boxes[arrow.head]
            assert tree.parent(tail.key) == head.key
            assert tail.column == head.column + 1


# -- what boxes show -------------------------------------------------------------------------------------


def test_a_box_shows_format_sizes_users_and_snapshots() -> None:
    snapshots = (InternalSnapshot("1", "one"), InternalSnapshot("2", "two"))
    tree = forest(
        image("Base", virtual_size=1 << 30, allocated=200704, writable=False),
        image("Over", "Base", snapshots=snapshots, bitmaps=(Bitmap("monday", 65536),)),
        uses=(Use("demo", "vda", "/i/Over", "running"), Use("web", "vdb", "/i/Over")),
    )
    figure = figure_of(tree, Options())
    assert lines_of(figure, "Base") == ["Base", "(qcow2)", "1 GiB, 196 KiB on disk", "write-protected"]
    assert lines_of(figure, "Over") == [
        "Over",
        "(qcow2)",
        "(Active)",
        "64 MiB, 1 MiB on disk",
        "demo: vda (running)",
        "web: vdb",
        "2 internal snapshots",
        "1 dirty bitmap",
    ]


def test_one_file_under_two_names_is_one_box() -> None:
    tree = forest(image("a", identity=(1, 7)), image("link", identity=(1, 7)), image("over", "link"))
    figure = figure_of(tree, Options())
    assert names(figure) == ["a", "over"]
    assert "also named link" in lines_of(figure, "a")


def test_a_chain_counts_the_overlays_beside_it() -> None:
    assert "+ 2 other overlays" in lines_of(figure_of(figure_2().chain("/i/Overlay-2A"), Options()), "RootBase")


@pytest.mark.parametrize(
    "wrong",
    [
        {"detail": "all"},
        {"details": "size"},
        {"details": ("format", "colour")},
        {"fold": 1},
        {"keep": 1},
        {"columns": 2},
        {"style": "x"},
    ],
)
def test_a_wrong_option_is_an_error_that_says_which_there_are(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        figure_1().to_text(**wrong)
    assert caught.value.why
    assert caught.value.next_step


def test_the_reason_names_the_unknown_options() -> None:
    for wrong, why in (({"theme": "x"}, "unknown option: theme"), ({"a": 1, "b": 2}, "unknown options: a, b")):
        with pytest.raises(InvalidRequestError) as caught:
            figure_1().to_text(**wrong)
        assert caught.value.why == why


# -- broken things ---------------------------------------------------------------------------------------


def test_an_image_of_no_known_format_says_so() -> None:
    figure = figure_of(forest(image("bad", format=None, status="unknown")), Options(details="none"))
    assert lines_of(figure, "bad")[1] == "UNKNOWN FORMAT"


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ("missing", "MISSING"),
        ("unreadable", "UNREADABLE"),
        ("not-a-file", "NOT A FILE"),
        ("corrupt", "CORRUPT"),
        ("unknown", "NOT READ"),
        ("outside", "OUTSIDE, not opened"),
        ("remote", "REMOTE, not opened"),
        ("in-use", "IN USE by a process"),
    ],
)
def test_a_broken_image_says_so_by_label_and_shape_and_why(status: str, says: str) -> None:
    tree = forest(image("bad", status=status, problem="what the system said"), image("over", "bad"))
    figure = figure_of(tree, Options(details="none"))
    assert lines_of(figure, "bad")[1] == says
    assert figure.blocks[0].boxes[0].shape != "image"
    assert figure.notes == ("bad: what the system said",)
    text = tree.to_text()
    assert says in text
    assert "what the system said" in text


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_loop_is_drawn_and_says_so(length: int) -> None:
    ring = [image(f"L{n}", f"L{(n + 1) % length}") for n in range(length)]
    tree = forest(*ring, image("over", "L0"))
    figure = figure_of(tree, Options())
    assert sorted(names(figure)) == [*(f"L{n}" for n in range(length)), "over"]
    for n in range(length):
        assert lines_of(figure, f"L{n}")[1] == "LOOP in its backing chain"
    assert lines_of(figure, "L0")[2] == f"its backing file is L{1 % length}"  # where the drawn tree ends
    (wrong,) = [arrow for arrow in figure.blocks[0].arrows if arrow.wrong]
    assert names(figure)[wrong.tail] == "L0"
    assert names(figure)[wrong.head] == f"L{1 % length}"
    assert len([arrow for arrow in figure.blocks[0].arrows if not arrow.beside]) == length
    assert figure_svg(figure).count('class="arrow wrong"') == 1
    assert "its backing" not in figure_svg(figure)  # the arrow says it
    assert "LOOP" in tree.chain("/i/over").to_text()


def test_a_loop_by_way_of_a_link_ends_as_well() -> None:
    tree = forest(image("a", "link", identity=(1, 1)), image("link", "link", identity=(1, 1)), image("over", "a"))
    assert lines_of(figure_of(tree, Options()), "a")[1] == "LOOP in its backing chain"


def test_a_backing_file_that_was_not_read_is_named() -> None:
    assert "on /i/base, not read" in lines_of(figure_of(forest(image("over", "base")), Options()), "over")


def test_nothing_at_all_is_said_too() -> None:
    assert forest().to_text() == "No images"
    assert Chain(forest(), "/i/x").to_text() == "/i/x was not read"
    assert Disks("demo").to_text() == "Guest demo has no disks"


# -- folding ---------------------------------------------------------------------------------------------


def long_chain(length: int) -> Forest:
    return forest(image("L0"), *(image(f"L{n}", f"L{n - 1}") for n in range(1, length)))


def test_a_chain_of_200_folds_its_middle() -> None:
    figure = figure_of(long_chain(200).chain("/i/L199"), Options())
    assert names(figure) == ["L0", "L1", "… 196 more layers …", "L198", "L199"]
    assert "196 MiB on disk" in lines_of(figure, "… 196 more layers …")
    assert len(names(figure_of(long_chain(200), Options(fold=None)))) == 200
    assert len(names(figure_of(long_chain(5), Options()))) == 5
    assert len(names(figure_of(long_chain(8), Options(columns=8)))) == 8


def test_a_guests_chain_folds_where_the_whole_tree_would_be_too_wide() -> None:
    layers = [image("web", "Base"), *(image(f"web.{n}", f"web.{n - 1}" if n else "web") for n in range(9))]
    tree = forest(image("Base"), image("mail", "Base"), *layers)
    figure = figure_of(tree, Options())
    assert max(box.column for block in figure.blocks for box in block.boxes) + 1 <= Options().columns
    assert {"Base", "mail", "web", "web.7", "web.8"} <= set(names(figure))


@pytest.mark.parametrize("branch", [1, 3])
def test_a_long_chain_with_branches_folds_with_them(branch: int) -> None:
    beside = [(f"side-{n}-{m}", f"L{n}" if m == 0 else f"side-{n}-{m - 1}") for n in range(10) for m in range(branch)]
    layers = [(f"L{n}", f"L{n - 1}" if n else None) for n in range(11)]
    tree = forest(*(image(name, backing) for name, backing in (*layers, *beside)), uses=(Use("web", "vda", "/i/L10"),))
    (block,) = figure_of(tree, Options()).blocks
    assert max(box.column for box in block.boxes) < 7
    drawn = {box.path for box in block.boxes if box.path is not None}
    assert {"/i/L0", "/i/L10"} <= drawn
    folded = [path for box in block.boxes for path in box.members]
    assert len(folded) + len(drawn) == len({*folded, *drawn}) == len(tree)
    assert len(figure_of(tree, Options(fold=None)).blocks[0].boxes) == len(tree)
    assert least_width(clickable(tree, "scope", narrow=True).svg) <= MOST_NARROW


def test_a_change_in_a_branch_of_a_long_chain_is_drawn() -> None:
    layers = [image(f"L{n}", f"L{n - 1}" if n else None) for n in range(11)]
    tree = forest(*layers, *(image(f"side-{n}", f"L{n}") for n in range(10)))
    after = tree.edited(put=[image("new", "side-5")])
    drawn = names(figure_of(Plan("overlay", tree, (), after, subjects=("/i/side-5",)), Options()))
    assert {"L0", "side-5", "new"} <= set(drawn)


def test_what_is_wrong_in_a_folded_stretch_is_drawn_and_what_has_no_room_is_counted() -> None:
    broken = (3, 9)
    chain = [
        image(f"L{n}", f"L{n - 1}" if n else None, status="corrupt" if n in broken else "ok", problem="damaged")
        for n in range(12)
    ]
    figure = figure_of(forest(*chain), Options())
    assert names(figure) == ["L0", "… 8 more layers …", "L9", "L10", "L11"]
    assert "1 CORRUPT" in lines_of(figure, "… 8 more layers …")
    assert any(note.endswith(": damaged") and "L3" in note for note in figure.notes)


def test_siblings_are_in_natural_order() -> None:
    tree = forest(image("Base"), *(image(f"night-{n}", "Base") for n in (10, 2, 1)))
    assert names(figure_of(tree, Options())) == ["Base", "night-1", "night-2", "night-10"]


def test_an_image_is_active_only_where_a_guest_writes_to_it() -> None:
    tree = forest(image("Base"), image("a", "Base"), image("b", "Base"), uses=(Use("demo", "vda", "/i/a"),))
    for thing in (tree, tree.chain("/i/a")):
        assert "(Active)" in lines_of(figure_of(thing, Options()), "a")
    for thing in (tree, tree.chain("/i/b"), figure_2()):
        name = "Overlay-1C" if thing is not tree and not isinstance(thing, Chain) else "b"
        assert "(Active)" not in lines_of(figure_of(thing, Options()), name)
    assert figure_2().to_text(style="handout").count("(Active)") == 3


def test_100_overlays_fold_and_the_fold_sums_them() -> None:
    tree = forest(image("Base"), *(image(f"o{n}", "Base") for n in range(1, 101)), image("on-50", "o50"))
    figure = figure_of(tree, Options())
    assert names(figure) == ["Base", "o1", "o2", "o3", "… 95 more overlays …", "o99", "o100"]
    assert lines_of(figure, "… 95 more overlays …") == [
        "… 95 more overlays …",
        "(96 images)",
        "96 MiB on disk",
    ]
    assert names(figure_of(tree, Options(fold=50, keep=2)))[1:] == ["o1", "… 98 more overlays …", "o100"]


def test_few_broken_images_are_never_folded_and_many_are_counted() -> None:
    siblings = [image(f"o{n}", "Base", status="missing" if n == 50 else "ok") for n in range(100)]
    assert "o50" in names(figure_of(forest(image("Base"), *siblings), Options()))
    siblings = [image(f"o{n}", "Base", status="missing" if n % 2 else "ok") for n in range(100)]
    figure = figure_of(forest(image("Base"), *siblings), Options())
    assert "48 MISSING" in lines_of(figure, "… 95 more overlays …")


def test_a_chain_longer_than_the_stack_is_deep() -> None:
    tree = long_chain(3000)
    assert len(names(figure_of(tree, Options(fold=None)))) == 3000
    assert len(tree.to_text(fold=None).splitlines()) == 6


@pytest.mark.parametrize("seed", range(5))
def test_a_forest_of_1000_folds_to_what_can_be_read_and_loses_nothing(seed: int) -> None:
    tree = thousand(seed)
    figure = figure_of(tree, Options())
    assert 1 < len(names(figure)) <= MOST_BOXES
    drawn = {box.path for block in figure.blocks for box in block.boxes if box.path}
    folded = 0
    for block in figure.blocks:
        for box in block.boxes:
            if box.shape == "fold":
                said = " ".join(line.text for line in box.lines[:2])
                inside = re.search(r"\((\d+) images?\)", said) or re.search(r"… (\d+) more", said)
                assert inside
                folded += int(inside[1])
    assert len(drawn) + folded == 1000


# -- plans and reports -----------------------------------------------------------------------------------


def test_a_plan_shows_before_above_and_after_below_and_marks_what_is_new() -> None:
    figure = figure_of(overlay_plan(figure_2()), Options(style="rows"))
    assert [block.caption for block in figure.blocks] == ["before", "after"]
    assert len(figure.blocks[0].boxes) == 9
    assert len(figure.blocks[1].boxes) == 10
    assert "(new)" in lines_of(figure, "new")
    assert not any("(new)" in line.text for box in figure.blocks[0].boxes for line in box.lines)
    text = overlay_plan(figure_2()).to_text()
    order = ["Plan: create new on RootBase", "before", "after", "Concerns", "in-use: guest demo runs", "Steps", "$ "]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "     $ chmod a-w -- /i/RootBase" in text


def test_of_many_steps_the_first_and_last_are_written_and_those_that_failed() -> None:
    new = [image(f"n{n}", "RootBase") for n in range(100)]
    base = forest(image("RootBase"))
    steps = tuple(CreateOverlay(path=each.path, backing=each.backing) for each in new if each.backing)
    plan = overlay_plan(base, steps=steps, after=base.edited(put=new))
    lines = plan.to_text().splitlines()
    assert [line.split()[0] for line in lines if "create overlay: " in line] == [f"{n}." for n in NUMBERS]
    assert "  … 90 more steps; to_frame() lists all" in lines
    assert len([line for line in lines if "$ qemu-img" in line]) == 10

    done = tuple(StepDone(step, "undone" if place < 50 else "not run") for place, step in enumerate(steps))
    done = (*done[:50], StepDone(steps[50], "failed"), *done[51:])
    lines = Report(plan, done, base).to_text().splitlines()
    assert [line for line in lines if "more step" in line] == [
        "  … 45 more steps; to_frame() lists all",
        "  … 44 more steps; to_frame() lists all",
    ]
    assert any(line.startswith("  51. failed: create overlay") for line in lines)


NUMBERS = (1, 2, 3, 4, 5, 96, 97, 98, 99, 100)


def test_what_is_new_is_drawn_among_100_others() -> None:
    before = forest(image("RootBase"), *(image(f"o{n}", "RootBase") for n in range(100)))
    plan = overlay_plan(before)
    assert "new" in names(figure_of(plan, Options()))
    hundred = [image(f"n{n}", "RootBase") for n in range(100)]
    many = overlay_plan(forest(image("RootBase")), after=forest(image("RootBase"), *hundred), subjects=("/i/RootBase",))
    figure = figure_of(many, Options())
    assert len(names(figure)) < 12
    assert "98 (new)" in lines_of(figure, "… 98 more overlays …")


def test_a_changed_edge_a_removed_and_an_invalid_image_are_marked() -> None:
    before = forest(image("A"), image("B", "A"), image("C", "B"), image("D", "C"))
    after = forest(image("A"), image("C", "A"), image("D", "C"))
    plan = Plan("merge", before, (), after, (Move("/i/B", "/i/A", MIB, "commit data"),), subjects=("/i/A",))
    figure = figure_of(plan, Options(details="none", style="rows"))
    upper, lower = figure.blocks
    assert [line.text for line in upper.boxes[1].lines] == ["B", "(removed)"]
    assert [line.text for line in lower.boxes[1].lines] == ["C", "(new backing file)"]
    assert [arrow.changed for arrow in lower.arrows] == [True, False]
    assert [box.column for box in lower.boxes] == [0, 2, 3]  # C and D stand below themselves
    assert [(move.source, move.target, move.label) for move in figure.moves] == [((0, 1), (1, 0), "commit data, 1 MiB")]
    text = plan.to_text(details="none")
    assert re.search(r"\.-+ commit data, 1 MiB -+'\n", text)
    assert re.search(r"\| A +\|<=+\| C", text)


def test_a_refused_plan_says_so_at_once() -> None:
    plan = overlay_plan(figure_2(), concerns=(refuse("file-exists", "it is there"),))
    lines = plan.to_text().splitlines()
    assert lines[:3] == ["Plan: create new on RootBase, refused", "", "! file-exists: it is there"]
    html = plan._repr_mimebundle_()["text/html"]
    assert html.index("file-exists: it is there") < html.index("<svg")


def test_a_plan_on_a_missing_base_is_drawn() -> None:
    plan = overlay_plan(forest(image("RootBase", status="missing")), after=forest(), subjects=("/i/new",))
    assert "after: no images" in plan.to_text()


def test_a_report_says_whether_it_is_as_predicted_and_if_not_what_differs() -> None:
    plan = overlay_plan(figure_2())
    done = tuple(StepDone(step, "done", 0.25) for step in plan.steps)
    good = Report(plan, done, plan.after)
    assert good.to_text().startswith("Report: create new on RootBase, done as predicted\n")
    assert "1. done: create overlay /i/new, 0.2 s" in good.to_text()
    forgotten = ForgetRecord(guest=GuestRef("demo", "uuid", "qemu:///system"), name="a")
    said = Report(plan, (StepDone(forgotten, "done", 0.25),), plan.after).to_text()
    assert "1. done: remove record: remove libvirt's record of snapshot a of demo; no file is modified, 0.2 s" in said
    bad = Report(plan, done, plan.before)
    assert "NOT as predicted" in bad.to_text().splitlines()[0]
    assert "* /i/new no longer exists" in bad.to_text()


def test_disks_are_drawn_with_their_images() -> None:
    disks = Disks("demo", (Disk("vda", "/i/a.qcow2", "qcow2", "virtio"), Disk("sda", None, bus="sata")), (3, None))
    text = disks.to_text()
    assert re.search(r"\| a.qcow2 +\|<---\| demo: vda", text)
    assert "top of 3 layers" in text
    assert "(empty)" in text


def test_a_plan_that_changes_no_image_draws_them_once() -> None:
    tree = figure_2()
    text = Plan(title=t("correct the records of {guest}", guest="demo"), before=tree, steps=(), after=tree).to_text()
    assert text.count("before and after") == 1
    assert text.count(" RootBase ") == 1


def test_the_branch_of_what_comes_first_is_on_the_row_of_its_base() -> None:
    def upper(*first: str) -> list[str]:
        (block,) = figure_of(figure_2(), Options(first=first)).blocks
        return [box.lines[0].text for box in block.boxes if box.row == 0]

    assert upper()[1:] == ["Overlay-1", "Overlay-1A", "Overlay-1B", "Overlay-1C"]
    assert upper("/i/Overlay-3A")[1:] == ["Overlay-3", "Overlay-3A"]
    assert upper("/i/none") == upper()


def test_the_branches_of_other_guests_are_one_box() -> None:
    mine = ("/i/Overlay-1C", "/i/Overlay-1A")
    uses = tuple(Use(f"guest-{name}", "vda", f"/i/Overlay-{name}") for name in ("1C", "2A", "3A"))
    tree = forest(*figure_2(), image("Overlay-1X", "Overlay-1A"), image("Overlay-4", "RootBase"), uses=uses)

    def drawn(only: tuple[str, ...], **more: int | None) -> list[str]:
        return names(figure_of(tree, Options(only=only, first=only, **more)))  # type: ignore[arg-type]

    others = "… 3 more overlays …"  # and one of them has no guest
    assert drawn((*mine, "/i/Overlay-1X")) == [
        "RootBase", "Overlay-1", "Overlay-1A", "Overlay-1B", "Overlay-1C", "Overlay-1X", others
    ]  # fmt: skip
    assert drawn((*mine, "/i/Overlay-4"))[-2:] == ["Overlay-4", "… 2 other guests …"]
    assert len(drawn(())) == len(drawn(mine, fold=None)) == len(tree)
    assert names(figure_of(tree, Options(only=("/i/none",)))) == drawn(())
    fold = figure_of(tree, Options(only=(*mine, "/i/Overlay-4"))).blocks[0].boxes[-1]
    assert [line.text for line in fold.lines] == ["… 2 other guests …", "(4 images)", "(2 Active)", "4 MiB on disk"]


def test_a_fold_with_branches_of_the_guest_itself_is_not_of_others() -> None:
    guests = {"mine": "1C", "a": "2A", "b": "3A"}
    tree = forest(*figure_2(), uses=tuple(Use(name, "vda", f"/i/Overlay-{end}") for name, end in guests.items()))
    plan = overlay_plan(tree)
    drawn = names(figure_of(plan, Options(only=("/i/Overlay-1C",))))
    assert not [name for name in drawn if "other guest" in name]
