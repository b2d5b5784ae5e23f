"""A fleet of hosts that need no daemon: tables and figures by host, names, and work in other processes."""

from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.images import create

import vmsnap_nb as vs
from vmsnap_nb.fleet.slots import names_of
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.report import Report
from vmsnap_nb.system.libvirt.library import library

pytestmark = pytest.mark.system

TEST = "test:///default"
GONE = "test:///no/such/file.xml"


def test_tables_have_a_column_for_the_host() -> None:
    with vs.connect({"a": TEST, "b": TEST, "c": GONE}) as fleet:
        one = fleet["a"]
        for found, alone in (
            (fleet.survey(), one.survey()),
            (fleet.snapshots(), one.snapshots()),
            (fleet.space(), one.space()),
            (fleet.findings(), one.findings()),
            (fleet.leftovers(), one.leftovers()),
        ):
            frame, own = found.to_frame(), alone.to_frame().reset_index()
            assert frame.index.name == "host"
            assert list(frame.columns) == [*own.columns, *(() if "status" in own.columns else ("status",))]
            assert len(frame.loc[["a"]] if len(own) else []) == len(own)
            assert frame.loc["c", "status"].startswith("unreachable: cannot connect to test:///no/such/file.xml")
            assert frame.dtypes.to_dict().items() >= own.dtypes.to_dict().items()
            assert "c" in found.problems
            with pytest.raises(vs.VmsnapError):
                found["c"]
        assert "a: 1 guest<br>b: 1 guest<br>c did not respond" in fleet.guests()._repr_mimebundle_()["text/html"]
        no = "No unneeded files were found in /default-pool. 1 image or folder could not be read"
        assert f"a: {no}<br>b: {no}<br>c did not respond" in fleet.leftovers()._repr_mimebundle_()["text/html"]
        assert fleet.guests().to_frame()["guest"].dropna().to_list() == ["test", "test"]


@pytest.mark.parametrize("answer", ["", "<domain", "<a>" * 5000 + "</a>" * 5000, "<domain id='x'>&#0;</domain>"])
def test_a_host_with_unreadable_answers_keeps_no_other_from_being_read(
    monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    libvirt, bad = library(), f"{TEST}?bad"
    read = libvirt.virDomain.XMLDesc

    def xml(domain: Any, *given: Any) -> str:
        return answer if domain.connect().getURI() == bad else str(read(domain, *given))

    monkeypatch.setattr(libvirt.virDomain, "XMLDesc", xml)
    monkeypatch.setattr(libvirt.virConnect, "getURI", lambda one: getattr(one, "of", TEST))
    opened = libvirt.open

    def marked(uri: str) -> Any:
        connection = opened(TEST)
        connection.of = uri
        return connection

    monkeypatch.setattr(libvirt, "open", marked)
    with vs.connect({"a": TEST, "b": bad}) as fleet:
        for found in (fleet.guests(), fleet.survey(), fleet.snapshots(), fleet.findings()):
            assert "cannot parse" in str(found.problems["b"])
            assert "a" not in found.problems


def test_figures_are_grouped_by_host() -> None:
    with vs.connect({"a": TEST, "<b>": TEST, "c": GONE}) as fleet:
        found = fleet.survey()
        text = found.to_text()
        assert [line for line in text.split("\n") if line in ("a", "<b>")] == ["<b>", "a"]
        assert "* c did not respond" in text
        assert "<b>" not in found._repr_mimebundle_()["text/html"]


def test_guests_are_named_with_their_hosts() -> None:
    with vs.connect({"a": TEST, "b": TEST}) as fleet:
        assert fleet.guests().names == ("a/test", "b/test")
        assert fleet.guest("b/test").host is fleet["b"]
        assert fleet.guests()["a/test"].name == "test"
        with pytest.raises(vs.NotFoundError, match="several hosts have a guest with that name: a, b"):
            fleet.guest("test")
        with pytest.raises(vs.NotFoundError, match="no guest has that name"):
            fleet.guest("none")
        with pytest.raises(vs.NotFoundError, match="no host has that name"):
            fleet.guest("z/test")


def test_hosts_of_a_list_are_named_after_their_machines() -> None:
    uris = ["qemu+ssh://root@box/system", "qemu:///system", "qemu+tcp://box:16509/system", "qemu:///session"]
    assert names_of(uris) == dict(zip(("box", "localhost", "box:16509", "localhost-2"), uris, strict=True))
    for wrong in ({}, {"a/b": TEST}, {"": TEST}):
        with pytest.raises(vs.InvalidRequestError):
            vs.connect(wrong)
    with pytest.raises(vs.InvalidRequestError, match="these options require several hosts"):
        vs.connect(TEST, shared=["/srv"])  # type: ignore[call-overload]


def test_other_processes_read_the_hosts() -> None:
    context = multiprocessing.get_context("spawn")
    uris = {"a": TEST, "b": GONE}
    with ProcessPoolExecutor(1, mp_context=context) as executor, vs.connect(uris, executor=executor) as fleet:
        found = fleet.survey()
        assert type(found["a"]) is vs.LiveForest
        assert found.to_frame().loc["b", "status"].startswith("unreachable: ")
        with vs.connect(uris) as threads:
            assert found.to_frame().equals(threads.survey().to_frame())
            for name in ("guests", "snapshots", "space", "findings", "leftovers"):
                expected = getattr(threads, name)().to_frame()
                assert getattr(fleet, name)().to_frame().equals(expected), name


def test_forests_plans_and_reports_can_be_sent_to_another_process(tmp_path: Path) -> None:
    base = create(tmp_path / "base.qcow2")
    create(tmp_path / "top.qcow2", base)
    forest = vs.scan(tmp_path)
    plan = forest.overlay("new", "top")
    report = plan.run(progress=False)
    forest.depth("top")  # something is worked out

    def sent(thing: Any) -> Any:
        data = pickle.dumps(thing)
        assert len(data) < 5000
        return pickle.loads(data)

    assert type(sent(forest)) is Forest
    assert sent(forest).to_frame().equals(forest.to_frame())
    assert type(sent(plan)) is Plan
    assert sent(plan).commands == plan.commands
    assert sent(plan).to_text() == plan.to_text()
    assert type(sent(report)) is Report
    assert sent(report).as_predicted
    assert sent(forest.leftovers()).files == forest.leftovers().files
    (tmp_path / "base.qcow2").unlink()
    refused = forest.refresh().commit("top")
    assert sent(refused).concerns == refused.concerns
    with pytest.raises(vs.PlanRefusedError) as error:
        refused.run()
    assert str(sent(error.value)) == str(error.value)
    assert sent(error.value).concerns == error.value.concerns


def test_a_report_has_a_chapter_for_each_host(tmp_path: Path) -> None:
    with vs.connect({"a": TEST, "b": GONE}) as fleet:
        page = Path(fleet.to_html(tmp_path / "fleet.html")).read_text()
    assert '<h2 id="chapter-0">a</h2>' in page
    assert "connect to test:///no/such/file.xml" in page
