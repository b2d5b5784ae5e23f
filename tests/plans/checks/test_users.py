"""Checks of who has images open, and of jobs and saved memory, on made-up forests."""

from __future__ import annotations

from support.forests import forest, image

from vmsnap_nb.model.guest import Domain, State, Use
from vmsnap_nb.plans.checks.users import active_jobs, in_use, managed_save
from vmsnap_nb.plans.concern import warn
from vmsnap_nb.plans.facts import STARTING, GuestFacts
from vmsnap_nb.plans.save.request import saved_record
from vmsnap_nb.words.message import t


def use(guest: str, path: str, state: State = "running") -> Use:
    return Use(guest, "vda", f"/i/{path}", state)


def test_a_running_guest_counts_for_what_is_written_and_a_writer_for_what_is_read() -> None:
    tree = forest(image("base"), image("top", "base"), uses=(use("alice", "top"), use("bob", "base", "shut off")))
    [written] = in_use(tree, ("/i/base",), so=t("and so on"), instead=lambda guest: t("wait for {guest}", guest=guest))
    assert written.what == "alice is running and has base open: and so on"
    assert (written.remedy, written.holders, written.images) == (
        "shut alice down. Or wait for alice",
        ("alice",),
        ("/i/base",),
    )
    assert [concern.what for concern in in_use(tree, (), ("/i/base", "/i/top"))] == [
        "alice is running and writes to top"
    ]
    assert list(in_use(tree, ("/i/base",), ("/i/top",), besides="alice")) == []


def test_a_process_counts_where_no_guest_is_known_that_runs() -> None:
    tree = forest(image("base", held="read"), image("top", "base", held="write"))
    assert [concern.what for concern in in_use(tree, ("/i/base",), ("/i/top",))] == [
        "a process has base open",
        "a process is writing to top",
    ]
    assert list(in_use(tree, (), ("/i/base",))) == []
    # Of images that a QEMU holds nothing can be told of other processes.
    assert list(in_use(tree, ("/i/base",), ("/i/top",), besides="alice")) == []


def test_jobs_of_other_disks_are_left_out_and_that_of_the_guest_is_not() -> None:
    jobs = {"vda": "pull", "vdb": "commit", "": "saving"}
    owner = GuestFacts(domain=Domain("demo", "0" * 32, "running"), jobs=jobs)
    assert [concern.what for concern in active_jobs(owner, ("vdb",))] == [
        "disk vdb of demo has an active block job (commit)",
        "demo has an active job (saving)",
    ]
    assert [concern.remedy.rpartition(": ")[2] for concern in active_jobs(owner)] == [
        "virsh blockjob demo vda --abort",
        "virsh blockjob demo vdb --abort",
        "virsh domjobabort demo",
    ]


def test_saved_memory_of_this_guest_alone_counts() -> None:
    tree = forest(image("top"))
    assert list(managed_save(tree.edited(records=(saved_record("other", None),)), "demo", t("so"))) == []
    [concern] = managed_save(tree.edited(records=(saved_record("demo", None),)), "demo", t("and so on"), concern=warn)
    assert concern.level == "warn"
    assert concern.what.endswith("resumes from its managed save: and so on")
    assert "virsh managedsave-remove demo" in concern.remedy


def test_while_libvirt_starts_a_guest_nothing_else_is_known_of_it() -> None:
    owner = GuestFacts(domain=Domain("demo", "0" * 32, "running"), jobs={"": STARTING, "vda": "pull"})
    for targets in (None, (), ("vdb",)):
        [concern] = active_jobs(owner, targets, images=("/i/top",))
        assert (concern.name, concern.level, concern.waivable) == ("active-job", "refuse", False)
        assert (concern.images, concern.holders) == (("/i/top",), ("demo",))
        assert "still starting demo" in concern.what
        assert "remove demo.xml" in concern.remedy
