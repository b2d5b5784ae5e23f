"""The forest's questions: edges, depths, loops, users."""

from __future__ import annotations

from dataclasses import replace

from support.forests import figure_2, forest, image

from vmsnap_nb.model.guest import Use


def test_figure_2_has_one_base_and_three_leaves() -> None:
    tree = figure_2()
    assert tree.roots == ("/i/RootBase",)
    assert tree.leaves == ("/i/Overlay-1C", "/i/Overlay-2A", "/i/Overlay-3A")
    assert tree.children("/i/RootBase") == ("/i/Overlay-1", "/i/Overlay-2", "/i/Overlay-3")
    assert [tree.depth(path) for path in tree.leaves] == [5, 3, 3]
    assert [layer.name for layer in tree.chain("/i/Overlay-2A")] == ["RootBase", "Overlay-2", "Overlay-2A"]
    assert set(tree.descendants("/i/Overlay-1")) == {"/i/Overlay-1A", "/i/Overlay-1B", "/i/Overlay-1C"}


def test_only_what_can_be_written_to_is_active() -> None:
    tree = figure_2()
    assert [path for path in tree.images if tree.active(path)] == list(tree.leaves)
    assert not forest(image("base", writable=False)).active("/i/base")
    held = forest(image("a"), image("b", "a"), uses=(Use("one", "vda", "/i/a", "running"),))
    assert held.active("/i/a")  # a guest writes to it although an overlay stands on it
    assert not held.active("/i/b")  # where guests are known, only they write
    spoilt = forest(image("a"), image("b", "a", status="invalid"))
    assert [path for path in spoilt.images if spoilt.active(path)] == ["/i/a"]


def test_loops_of_every_length_end() -> None:
    for length in (1, 2, 3):
        names = [f"L{n}" for n in range(length)]
        ring = [image(name, names[n - 1]) for n, name in enumerate(names)]
        tree = forest(*ring, image("top", "L0"), image("free"))
        assert len(tree.loops) == 1
        assert set(tree.loops[0]) == {f"/i/{name}" for name in names}
        assert {tree.status(f"/i/{name}") for name in names} == {"loop"}
        assert tree.status("/i/top") == "ok"
        assert len(tree.chain("/i/top")) == length + 1
        assert not tree.chain("/i/L0").active(tree["/i/L0"])
        assert tree.depth("/i/free") == 1


def test_a_file_with_two_names_is_one_for_everybody_who_stands_on_it() -> None:
    tree = forest(
        image("base", identity=(1, 7)),
        image("/other/alias", identity=(1, 7)),
        image("one", "base", identity=(1, 8)),
        image("two", "/other/alias", identity=(1, 9)),
        uses=(Use("second", "vda", "/i/two"),),
    )
    assert tree.duplicates == (("/i/base", "/other/alias"),)
    assert tree.children("/i/base") == tree.children("/other/alias") == ("/i/one", "/i/two")
    assert [use.guest for use in tree.users("/i/base")] == ["second"]
    assert set(tree.tree("/i/one").images) == set(tree.images)


def test_users_are_those_above_and_writers_those_at_the_very_image() -> None:
    uses = (Use("g1", "vda", "/i/Overlay-1C", "running"), Use("g2", "vdb", "/i/Overlay-2A"))
    tree = forest(*figure_2(), uses=uses)
    assert [use.guest for use in tree.users("/i/RootBase")] == ["g1", "g2"]
    assert [use.guest for use in tree.users("/i/Overlay-1")] == ["g1"]
    assert tree.writers("/i/Overlay-1") == ()
    assert tree.writers("/i/Overlay-1C") == uses[:1]


def test_a_lock_is_explained_by_a_running_guest_or_is_a_status() -> None:
    locked = image("a", held="write")
    assert forest(locked).status("/i/a") == "in-use"
    assert forest(locked, uses=(Use("g", "vda", "/i/a", "running"),)).status("/i/a") == "ok"
    assert forest(locked, uses=(Use("g", "vda", "/i/a", "shut off"),)).status("/i/a") == "in-use"


# -- several names --------------------------------------------------------------------------------------------------


def test_names_are_the_same_where_they_lead_to_the_same_place() -> None:
    tree = forest(image("a", identity=(1, 1)), image("b", identity=(1, 1)), image("c")).edited(places={"/l/a": (1, 1)})
    assert tree.same("/i/a", "/i/b")
    assert tree.same("/i/a", "/l/a")
    assert not tree.same("/i/c", "/l/c")
    assert not tree.same(None, "/i/a")
    assert [tree.known(path) for path in ("/i/b", "/l/a", "/l/c", None)] == ["/i/b", "/i/a", None, None]


def test_an_image_that_is_based_on_itself_by_another_name_is_a_loop() -> None:
    top = image("top", "x/low", identity=(1, 1))
    tree = forest(top, image("x/low", "x/top", identity=(1, 2)), replace(top, path="/i/x/top"))
    assert tree.loops == (("/i/top", "/i/x/low"),)
    assert tree.lineage("/i/top") == ("/i/top", "/i/x/low")
    assert {tree.status(path) for path in tree.images} == {"loop"}
