"""The card "What this changes", on images that have files."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.filesystems import as_base, change, debugfs, ext4, overlay

import vmsnap_nb as vs
from vmsnap_nb.panels import plan_files
from vmsnap_nb.panels.merge import MergePanel
from vmsnap_nb.panels.panel import Panel

pytestmark = pytest.mark.system


@pytest.fixture
def panel(tmp_path: Path, opened: list[Panel], monkeypatch: pytest.MonkeyPatch) -> MergePanel:
    """Base <- One <- Two, each with another <motd>, and One with a file that Two has not."""
    tree, images = tmp_path / "tree", tmp_path / "images"
    (tree / "etc").mkdir(parents=True)
    images.mkdir()
    for name in ("<motd>", "same", "gone"):
        (tree / "etc" / name).write_text(f"{name} of the base")
    below = as_base(ext4(tmp_path / "disk.img", tree, size=4 << 20), images / "Base.qcow2")
    for name, others in (("One", ("rm /etc/gone", "write {new} /etc/lost")), ("Two", ("rm /etc/lost",))):
        new = tmp_path / name
        new.write_text(f"{name} {'x' * len(name)}")
        below = overlay(below, images / f"{name}.qcow2")
        lines = ["rm /etc/<motd>", f"write {new} /etc/<motd>", *(line.format(new=new) for line in others)]
        change(below, lambda raw, lines=lines: debugfs(raw, *lines))  # type: ignore[misc]
    monkeypatch.setattr(plan_files, "_AT_ONCE", 0.01)  # so that the button has something to do
    made = MergePanel(vs.scan(images), every=0)
    opened.append(made)
    return made


def test_files_that_can_no_longer_be_restored(panel: MergePanel) -> None:
    plan = panel.source.read().forest.commit("Two", "One")
    assert [(one.state, one.path) for one in plan.lost_files()] == [("One", "/etc/<motd>"), ("One", "/etc/lost")]
    assert list(plan.lost_files().to_frame()["state"]) == ["One", "One"]
    assert plan.lost_files(path="/lost+found").to_text() == "All files of One can still be restored"
    with pytest.raises(vs.VmsnapError, match="took longer than"):
        plan.lost_files(seconds=0.01)

    files = panel.flow.files
    assert files.layout.display == "none"
    panel.flow.propose(lambda: plan)
    panel.flow.wait()
    files.wait()
    assert (files.layout.display, files.card.value, files.said.value) == (None, "", "")
    files.button.click()
    files.wait()
    assert "<strong>2 files of One can no longer be restored</strong>: <code>/etc/&lt;motd&gt;" in files.card.value
    assert "- lost" in files.card.value
    panel.flow.discard_button.click()
    assert (files.layout.display, files.card.value) == ("none", "")

    panel.flow.propose(lambda: panel.source.read().forest.pull("Two"))  # nothing becomes unreadable
    panel.flow.wait()
    assert files.layout.display == "none"


def test_a_quick_answer_needs_no_click(panel: MergePanel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_files, "_AT_ONCE", 60.0)
    panel.flow.propose(lambda: panel.source.read().forest.commit("Two", "One", remove=True))
    panel.flow.wait()
    panel.flow.files.wait()
    assert "2 files of One can no longer be restored" in panel.flow.files.card.value
