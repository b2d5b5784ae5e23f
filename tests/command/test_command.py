"""The command line on real images and a real libvirt: what it prints, its JSON and its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.images import create

import vmsnap_nb as vs
from vmsnap_nb.command.main import main
from vmsnap_nb.command.reading import READS
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live import journal
from vmsnap_nb.live.journal import write_entry
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.journal import MergeEntry

pytestmark = pytest.mark.system

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _no_default_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VIRSH_DEFAULT_CONNECT_URI", "LIBVIRT_DEFAULT_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("vmsnap_nb.command.where._SOCKETS", ())
    monkeypatch.setenv("COLUMNS", "130")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)  # what is given no folder reads the current one, and the checkout is large

    def call(*words: object) -> tuple[int, str, str]:
        status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture
def images(tmp_path: Path) -> Path:
    below = create(tmp_path / "base.qcow2")
    for name in ("a", "b", "c"):
        below = create(tmp_path / f"{name}.qcow2", below)
    return tmp_path


def test_scan_shows_the_figure_the_table_or_the_records(run: Run, images: Path) -> None:
    status, figure, _ = run("scan", images)
    assert (status, figure.strip()) == (0, vs.scan(images).to_text())
    _, table, _ = run("scan", images, "--table")
    assert table.splitlines()[0].startswith("path")
    status, text, _ = run("scan", images, "--json")
    whole = json.loads(text)
    frame = vs.scan(images).to_frame().reset_index()
    assert (whole["schema"], whole["command"]) == (1, "scan")
    assert [list(row) for row in whole["records"]] == [list(frame.columns)] * 4
    for row, expected in zip(
        whole["records"], frame.astype(object).where(frame.notna(), None).to_dict("records"), strict=True
    ):
        assert row == expected


def test_times_are_iso_and_sizes_are_numbers(run: Run, images: Path) -> None:
    _, text, _ = run("leftovers", images, "--json")
    [*_, last] = json.loads(text)["records"]
    assert isinstance(last["allocated"], int)
    assert last["last_written"].endswith("Z")
    assert last["last_written"][10] == "T"


def test_a_figure_that_is_too_wide_becomes_narrower(run: Run, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "56")
    _, folded, _ = run("chain", images / "c.qcow2")
    assert "2 more layers" in folded
    assert max(map(len, folded.splitlines())) <= 56
    _, outline, _ = run("plan", "commit", images / "c.qcow2", "--base", images / "a.qcow2")
    assert "`-a" in outline
    assert "before\nbase" in outline
    monkeypatch.setenv("VMSNAP_LANG", "zh")
    _, outline, _ = run("plan", "commit", images / "c.qcow2", "--base", images / "a.qcow2")
    assert "（内容改变）、(qcow2)" in outline
    assert "), (" not in outline


def test_a_plan_is_shown_and_changes_nothing(run: Run, images: Path) -> None:
    before = {path: path.read_bytes() for path in images.iterdir()}
    status, text, remark = run("plan", "commit", images / "c.qcow2")
    assert status == 0
    assert "Plan: commit c into b" in text
    assert "qemu-img commit" in text
    assert "cannot determine which guests use these images: no libvirt connection was given" in remark
    assert {path: path.read_bytes() for path in images.iterdir()} == before
    status, text, _ = run("plan", "commit", images / "c.qcow2", "--json")
    whole = json.loads(text)
    plan = vs.scan(images).commit("c")
    assert (whole["title"], whole["refused"], whole["bytes_to_copy"]) == (plan.title, False, 0)
    assert [row["action"] for row in whole["records"]] == [step.action for step in plan.steps]
    assert whole["invalidates"] == [str(images / "c.qcow2")]


def test_a_refused_plan_has_exit_status_1_and_does_not_run(run: Run, images: Path) -> None:
    (images / "a.qcow2").unlink()
    status, text, _ = run("plan", "commit", images / "c.qcow2", "--json")
    assert (status, json.loads(text)["refused"]) == (1, True)
    status, text, _ = run("run", "commit", images / "c.qcow2", "--yes", "--json")
    error = json.loads(text)["error"]
    assert (status, error["kind"]) == (1, "PlanRefusedError")
    assert error["concerns"][0]["level"] == "refuse"


def test_run_does_it(run: Run, images: Path) -> None:
    status, text, _ = run("run", "commit", images / "c.qcow2", "--remove", "--yes")
    assert (status, text.splitlines()[-1]) == (0, "Done, as predicted.")
    assert sorted(os.listdir(images)) == ["a.qcow2", "b.qcow2", "base.qcow2"]
    status, text, _ = run("run", "overlay", images / "new.qcow2", "--backing", images / "b.qcow2", "--yes", "--json")
    whole = json.loads(text)
    assert (status, whole["as_predicted"], whole["records"][0]["state"]) == (0, True, "done")
    assert len(vs.chain(images / "new.qcow2")) == 4


def test_a_remark_is_printed_once(run: Run, images: Path) -> None:
    _, _, remarks = run("finish", images, "--yes")
    assert remarks.count("cannot determine which guests use these images") == 1


def interrupted(folder: Path) -> Path:
    """A folder with an overlay of which a commit was interrupted."""
    folder.mkdir()
    base = create(folder / "base.qcow2")
    top = create(folder / "top.qcow2", base)
    write_entry(journal.begun(MergeEntry(base=str(base), top=str(top), merged=(str(top),))))
    return folder


def test_what_is_finished_is_one_document_of_json(run: Run, tmp_path: Path) -> None:
    folders = interrupted(tmp_path / "one"), interrupted(tmp_path / "two")
    status, text, _ = run("run", "finish", *folders, "--yes", "--json")
    whole = json.loads(text)
    assert (status, [report["as_predicted"] for report in whole["reports"]]) == (0, [True, True])
    assert {row["plan"] for row in whole["records"]} == {1, 2}
    status, text, _ = run("finish", *folders, "--yes", "--json")
    nothing = json.loads(text)
    assert (status, nothing["records"], nothing["reports"]) == (0, [], [])
    assert nothing["nothing_to_do"] == "there are no unfinished operations"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("finish .", "there are no unfinished operations"),
        ("cleanup .", "no image is marked as invalid"),
        ("shorten c.qcow2 --keep 3", "the chain has only 3 images, and all of them would be kept"),
        ("pull c.qcow2 --base b.qcow2", "b is already the direct backing file of c"),
        ("pull a.qcow2", "a has no backing file"),
    ],
)
def test_nothing_to_do_is_success(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, why: str
) -> None:
    below = None
    for name in "abc":
        below = create(tmp_path / f"{name}.qcow2", below)
    monkeypatch.chdir(tmp_path)
    for group in ("plan", "run"):
        more = ("--yes",) if group == "run" else ()
        status, text, _ = run(group, *words.split(), *more)
        assert (status, text) == (0, f"Nothing to do: {why}.\n")
        status, text, _ = run(group, *words.split(), *more, "--json")
        assert (status, json.loads(text)["nothing_to_do"], json.loads(text)["records"]) == (0, why, [])
    status, text, error = run("plan", *words.split(), "--script")
    assert (status, text) == (0, "")
    assert f"Nothing to do: {why}." in error


def test_what_was_not_reached_is_an_error(run: Run, tmp_path: Path) -> None:
    create(tmp_path / "a.qcow2")
    status, _, error = run("run", "pull", tmp_path / "a.qcow2", "--base", tmp_path / "a.qcow2", "--yes")
    assert (status, "choose an overlay" in error) == (2, True)


def test_an_error_after_something_was_finished_is_in_the_same_document(run: Run, tmp_path: Path) -> None:
    folders = interrupted(tmp_path / "one"), interrupted(tmp_path / "two")
    (folders[1] / "base.qcow2").unlink()
    status, text, _ = run("run", "finish", *folders, "--yes", "--json")
    whole = json.loads(text)
    assert (status, whole["error"]["kind"]) == (1, "PlanRefusedError")
    assert [report["as_predicted"] for report in whole["reports"]] == [True]


def test_run_asks_only_where_somebody_can_answer(run: Run, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, _, error = run("run", "commit", images / "c.qcow2")
    assert (status, "--yes" in error) == (2, True)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", lambda *_, **__: False)
    status, text, _ = run("run", "commit", images / "c.qcow2")
    assert (status, text.splitlines()[-1]) == (1, "Nothing was changed.")
    assert len(vs.chain(images / "c.qcow2")) == 4


def test_errors_say_what_why_and_what_next(run: Run, images: Path) -> None:
    assert run("scan", images / "none")[2] == (
        f"vmsnap-nb: cannot scan {images / 'none'}\n  why:  there is no such folder\n  next: check the path\n"
    )
    status, text, _ = run("plan", "commit", images / "c.qcow2", "--base", "zzz", "--json")
    whole = json.loads(text)
    assert (status, whole["command"], whole["error"]["kind"]) == (2, "plan commit", "NotFoundError")
    assert "available" in whole["error"]["next"]
    for words in (
        ("nonsense",),
        ("plan", "commit"),
        ("plan", "commit", "x", "--disk", "vda"),
        ("plan", "pull", "x", "--guest"),
        ("chain",),
        ("diff", "x"),
        ("files", "a", "b", "c"),
        ("scan", "--connect", "test:///default"),
        ("finish", "--guest", "", "--yes"),
        ("snapshots", ""),
        ("check", "--connect", ""),
        ("report", "-o", ""),
        ("plan", "shorten", "x", "--keep", "-1"),
        ("survey", "--connect", "a=test:///default", "--connect", "a=test:///other"),
        ("survey", "--connect", "a=", "--connect", "b=test:///default"),
    ):
        status, _, error = run(*words)
        assert status == 2, words
        assert "  next: " in error, words
        assert "Traceback" not in error


def test_a_defect_shows_no_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmsnap_nb.command.where.Where.forest", lambda *_: 1 / 0)
    status, _, error = run("space")
    assert status == 2
    assert "ZeroDivisionError" in error
    assert "Traceback" not in error


def test_check_is_one_line_and_a_status(run: Run, images: Path) -> None:
    status, text, _ = run("check", images)
    assert (status, text) == (0, "OK: no problems found in what could be checked | errors=0 warnings=0 notes=1\n")
    (images / "a.qcow2").unlink()
    status, text, _ = run("check", images)
    assert status == 2
    assert text.startswith(f"CRITICAL: missing-base {images / 'a.qcow2'}")
    assert text.count("\n") == 1
    status, text, _ = run("check", images, "--json")
    whole = json.loads(text)
    assert (status, whole["state"], whole["records"][0]["finding"]) == (2, "CRITICAL", "missing-base")
    status, text, _ = run("check", images / "none")
    assert (status, text) == (2, f"CRITICAL: cannot scan {images / 'none'}: there is no such folder\n")


def test_a_plan_over_a_connection_that_is_read_only(run: Run) -> None:
    place = ("--connect", "test:///default", "--readonly")
    assert run("plan", "snapshot", "test", *place)[0] in (0, 1)
    status, _, error = run("run", "snapshot", "test", *place)
    assert (status, "No such option" in error) == (2, True)


def test_a_host_is_named_by_option_or_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "test:///default"
    status, text, _ = run("survey", "--connect", uri, "--json")
    assert (status, [row["used_by"] for row in json.loads(text)["records"]]) == (0, ["test"])
    assert run("snapshots", "--connect", uri, "--readonly", "--table")[:2] == (0, "no results\n")
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", uri)
    assert run("check")[0] == 0
    monkeypatch.setenv("VIRSH_DEFAULT_CONNECT_URI", "nonsense")
    status, text, _ = run("check")
    assert (status, text) == (2, "CRITICAL: cannot connect to 'nonsense': it is not a libvirt URI\n")


def test_verbs_of_a_guest(run: Run, lab: Lab, base: Image) -> None:
    guest = lab.guest("commanded", backing=base)
    place = ("--connect", lab.uri)
    status, text, error = run("run", "snapshot", "commanded", "first", "--kind", "internal-disk", "--yes", *place)
    assert (status, text.splitlines()[-1:]) == (0, ["Done, as predicted."]), error
    assert guest.snapshots().names == ("first",)
    _, text, _ = run("snapshots", "commanded", "--json", *place)
    [row] = json.loads(text)["records"]
    assert (row["name"], row["kind"]) == ("first", "internal-disk")
    assert row["created"].endswith("Z")
    assert run("run", "revert", "commanded", "first", "--discard-current", "--yes", *place)[0] == 0
    assert run("run", "delete", "commanded", "first", "--yes", *place)[0] == 0
    assert guest.snapshots().names == ()
    run("run", "snapshot", "commanded", "--kind", "external-disk", "--no-metadata", "--yes", *place)
    assert len(guest.chain()) == 3
    assert run("run", "commit", "--guest", "commanded", "--remove", "--yes", *place)[0] == 0
    assert len(guest.chain()) == 2
    status, text, _ = run("chain", "--guest", "commanded", *place)
    assert (status, text.strip()) == (0, guest.chain().to_text())
    assert run("finish", "--guest", "commanded", "--yes", *place)[:2] == (
        0,
        "Nothing to do: there are no unfinished operations.\n",
    )
    assert not lab.closed


@pytest.mark.parametrize("words", [("scan", "--json"), ("plan", "cleanup", "--json")])
def test_a_closed_pipe_ends_it_quietly(words: tuple[str, ...], tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "vmsnap_nb", *words, *([] if words[0] == "plan" else [str(tmp_path)])],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=60,
    )
    os.close(writing)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert done.returncode == 141, done.stderr


def test_an_interrupt_ends_it_quietly(run: Run, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vmsnap_nb.command.where.Where.forest", interrupt)
    assert run("space", images) == (130, "", "vmsnap-nb: interrupted\n")


def test_colours_only_on_a_terminal_that_has_some(monkeypatch: pytest.MonkeyPatch) -> None:
    from vmsnap_nb.command.output import painted

    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert painted("x", "red", Terminal()) == "\x1b[31mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert painted("x", "red", Terminal()) == "x"
    monkeypatch.delenv("NO_COLOR")
    assert painted("x", "red", sys.stderr) == "x"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run: Run, shell: str) -> None:
    status, text, _ = run("completion", shell)
    assert status == 0
    assert "_VMSNAP_NB_COMPLETE" in text


def test_a_shell_is_offered_verbs_and_guests(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def offered(words: str) -> list[str]:
        monkeypatch.setenv("_VMSNAP_NB_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
        assert main([]) == 0
        return [line.partition(",")[2] for line in capfd.readouterr().out.split()]

    assert offered("vmsnap-nb plan re") == ["remove", "revert", "restore", "reconcile"]
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "test:///default")
    assert offered("vmsnap-nb snapshots ") == ["test"]
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "test:///no/such/file")
    monkeypatch.setenv("COMP_AFTER", " --connect test:///default")
    assert offered("vmsnap-nb snapshots ") == ["test"]
    monkeypatch.delenv("COMP_AFTER")
    assert offered("vmsnap-nb snapshots ") == []


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("vmsnap-nb chain --connect test:///default --guest t", ["test"]),
        ("vmsnap-nb chain --connect a=test:///default --connect b=test:///default --guest a/", ["a/test"]),
        ("vmsnap-nb chain --connect test:///default --guest=", ["test"]),
        ("vmsnap-nb chain --connect test:///default --js", ["--json"]),
        ("vmsnap-nb run revert --connect test:///default test ", []),
        ("vmsnap-nb snapshots t| --connect test:///default", ["test"]),
        ("vmsnap-nb snapshots | --json --connect=test:///default", ["test"]),
        ("vmsnap-nb chain --guest a/| --connect a=test:///default --connect b=test:///default", ["a/test"]),
    ],
)
def test_bash_is_offered_what_a_connection_has_wherever_it_is(line: str, offers: list[str], tmp_path: Path) -> None:
    """bash cuts words at ``:`` and ``=``."""
    assert completed(line, tmp_path, "printf '%s\\n' \"${COMPREPLY[@]}\"").split() == offers


def test_a_name_is_not_a_command_in_the_line_that_bash_completes(tmp_path: Path) -> None:
    names = ["a$(touch made)", "a;touch made;", "a 'b' \\\\", "a*", "a,", "客户机"]
    guests = "".join(
        f"<domain type='test'><name>{name}</name><memory>1</memory><os><type>hvm</type></os></domain>"
        for name in (*names, "a&#9;b")
    )
    (tmp_path / "node.xml").write_text(f"<node>{guests}</node>")
    (tmp_path / "plain,a.file").touch()
    line = f"vmsnap-nb chain --connect test://{tmp_path}/node.xml --guest "
    typed = completed(line, tmp_path, 'for one in "${COMPREPLY[@]}"; do eval "printf \'%s\\\\n\' $one"; done')
    assert sorted(typed.splitlines()) == sorted(names)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("word", "replaced"),
    [
        ("--guest My", r"My\ Guest"),
        (r"--guest My\ G", r"My\ Guest"),
        ('--guest "My G', "My Guest"),
        ("--guest 'My G", "My Guest"),
        (r"--guest=My\ G", r"My\ Guest"),
        ('--guest "a', r"a\"b\$c"),
        ("--guest 'a", 'a"b$c'),
        ("--guest a:b", r"b\'c"),
        ("--guest 'd", r"d'\''e"),
    ],
)
def test_a_name_is_completed_within_the_quotes_that_were_begun(word: str, replaced: str, tmp_path: Path) -> None:
    guests = "".join(
        f"<domain type='test'><name>{name}</name><memory>1</memory><os><type>hvm</type></os></domain>"
        for name in ("My Guest", 'a"b$c', "a:b'c", "d'e")
    )
    (tmp_path / "node.xml").write_text(f"<node>{guests}</node>")
    line = f"vmsnap-nb chain --connect test://{tmp_path}/node.xml {word}"
    assert replaced in completed(line, tmp_path, "printf '%s\\n' \"${COMPREPLY[@]}\"").splitlines()


def completed(line: str, tmp_path: Path, then: str) -> str:
    """Return what a bash says that has completed a line in a folder, with the cursor at ``|`` or at the end."""
    program = tmp_path / "vmsnap-nb"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m vmsnap_nb "$@"\n')
    program.chmod(0o755)
    script = f"""
        eval "$(vmsnap-nb completion bash)"
        compopt() {{ :; }}
        COMP_LINE=${{1/|/}} before=${{1%%|*}}
        COMP_POINT=${{#before}}
        _vmsnap_nb_completion vmsnap-nb
        {then}
    """
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
    words = ["bash", "-c", script, "bash", line]
    return subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, encoding="utf-8"
    ).stdout


def test_help_says_what_the_exit_status_tells(run: Run) -> None:
    for verb, told in (("plan", "0 if the plan can run"), ("run", "0 if the plan runs as predicted")):
        assert told in " ".join(run(verb, "--help")[1].split())
        assert "--waive NAME" in run(verb, "commit", "--help")[1]


def test_help_is_in_the_language_of_the_user(run: Run) -> None:
    assert run("--help")[1].startswith("Usage: vmsnap-nb COMMAND")
    vs.set_language("zh")
    try:
        _, text, _ = run("plan", "commit", "--help")
    finally:
        vs.set_language(None)
    own = [line for line in text.splitlines() if not line.strip().startswith(("vmsnap-nb", "--"))]
    assert "用法：vmsnap-nb plan commit" in text
    assert not any(word in line for line in own for word in ("the ", "image", "Options"))


def test_several_hosts(run: Run, images: Path) -> None:
    place = ("--connect", "a=test:///default", "--connect", "b=test:///no/such/file.xml")
    status, text, _ = run("survey", *place, "--json")
    rows = json.loads(text)["records"]
    assert (status, [row["host"] for row in rows]) == (0, ["a", "b"])
    assert rows[1]["status"].startswith("unreachable: ")
    _, text, _ = run("snapshots", *place, "--table")
    assert "unreachable" in text
    status, text, _ = run("check", *place)
    assert (status, text.startswith("CRITICAL: b did not respond: ")) == (2, True)
    status, text, _ = run("check", *place, "--json")
    assert json.loads(text)["state"] == "CRITICAL"
    status, _, error = run("plan", "commit", images / "c.qcow2", *place)
    assert (status, "specify the image as HOST:IMAGE" in error) == (2, True)
    status, _, error = run("plan", "commit", "--guest", "a/none", *place)
    assert (status, "find the guest none" in error) == (2, True)
    status, _, error = run("plan", "commit", "z:none", *place)
    assert (status, "find the host z" in error) == (2, True)
    status, _, error = run("plan", "finish", *place)  # of no image, so that HOST:IMAGE is no way
    assert (status, "specify one host: --connect test:///default" in error) == (2, True)


def test_the_image_of_a_named_host_is_read_there(run: Run, images: Path) -> None:
    status, _, error = run("chain", images / "c.qcow2", "--connect", "test:///default")
    assert (status, "find the image" in error) == (2, True)
    status, _, error = run("files", f"a:{images / 'c.qcow2'}", "--connect", "a=test:///default")
    assert (status, "find the image" in error) == (2, True)


def test_what_this_user_may_not_read_is_no_error_of_the_command_line() -> None:
    """Other users may read it, and libvirt."""
    files = [given for one in READS for given in one.givens if given.kind == "file"]
    assert files
    assert not any(given.parameter().type.readable for given in files)  # type: ignore[attr-defined]


def test_a_plan_as_a_script_or_as_tasks(run: Run, images: Path) -> None:
    status, script, _ = run("plan", "commit", images / "c.qcow2", "--script")
    assert (status, script.splitlines()[0]) == (0, "#!/bin/sh")
    assert subprocess.run(["/bin/sh"], input=script, text=True, check=False).returncode == 0
    assert vs.scan(images).status("c") == "invalid"
    status, text, _ = run("plan", "commit", images / "b.qcow2", "--ansible")
    assert (status, text.splitlines()[0]) == (0, "---")
    (images / "a.qcow2").unlink()
    assert run("plan", "commit", images / "b.qcow2", "--script")[0] == 1
    create(images / "other.qcow2", images / "base.qcow2")
    create(images / "top.qcow2", images / "base.qcow2")
    assert run("plan", "commit", images / "top.qcow2", "--script")[0] == 1
    _, shown, _ = run("plan", "commit", images / "top.qcow2")
    assert "(override with --waive shared-base)" in " ".join(shown.split())
    assert '(override with waive="shared-base")' in " ".join(vs.scan(images).commit("top").to_text().split())
    status, script, _ = run("plan", "commit", images / "top.qcow2", "--script", "--waive", "shared-base")
    assert (status, script.splitlines()[0]) == (0, "#!/bin/sh")


def test_names_do_not_act_on_the_terminal(run: Run, tmp_path: Path) -> None:
    name = "\x1b[2J\u202e"
    create(tmp_path / "base.qcow2").rename(tmp_path / f"{name}.qcow2")
    create(tmp_path / "over.qcow2", tmp_path / f"{name}.qcow2")
    shown = r"\x1b[2J\u202e"
    for words, last in ((("commit",), tmp_path), (("pull",), tmp_path), (("overlay", "--backing"), tmp_path / "new")):
        for image in (f"{name}.qcow2", "over", f"{name}x", f"{tmp_path}/{name}.qcow2"):
            _, out, err = run("plan", *words, image, last)
            assert {"\x1b", "\u202e"}.isdisjoint(out + err)
    for words in (("scan",), ("scan", "--table"), ("check",), ("leftovers",), ("findings",)):
        _, out, err = run(*words, tmp_path)
        assert {"\x1b", "\u202e"}.isdisjoint(out + err)
        assert shown in out or words != ("scan",)
