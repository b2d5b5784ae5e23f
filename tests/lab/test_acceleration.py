"""The choice of acceleration, and what is remembered of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.lab import acceleration
from vmsnap_nb.lab.acceleration import Acceleration, choose_acceleration


def boot_files() -> tuple[Path, Path]:
    return Path("/k"), Path("/i")


def not_asked_for() -> tuple[Path, Path]:
    raise AssertionError("not asked for")


class TestAcceleration:
    """QEMU is played by a script here; the real one is booted by the tests of guests."""

    @pytest.fixture
    def qemu(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        program = tmp_path / "qemu-system-x86_64"
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.delenv("VMSNAP_ACCEL", raising=False)
        monkeypatch.setattr(acceleration, "_SECONDS", 30.0)
        monkeypatch.setattr(acceleration, "_KVM", str(tmp_path / "kvm"))
        (tmp_path / "kvm").touch()
        return program

    def choose(self, program: Path, script: str, cache: Path) -> Acceleration:
        program.write_text(f"#!/bin/sh\necho run >>{program}.runs\n{script}\n")
        program.chmod(0o755)
        return choose_acceleration(boot_files, cache)

    def test_a_boot_that_speaks_means_kvm_and_is_remembered(self, qemu: Path, tmp_path: Path) -> None:
        cache = tmp_path / "cache" / "a.json"
        chosen = self.choose(qemu, "echo '[ 0.0] Linux version 6'; exec sleep 60", cache)
        assert chosen.kind == "kvm"
        with pytest.raises(AssertionError, match="not asked for"):
            choose_acceleration(not_asked_for, tmp_path / "empty")
        assert choose_acceleration(not_asked_for, cache) == chosen
        assert Path(f"{qemu}.runs").read_text() == "run\n"
        os.utime(qemu, ns=(1, 1))  # another QEMU: try again
        assert choose_acceleration(boot_files, cache).kind == "kvm"
        assert Path(f"{qemu}.runs").read_text() == "run\nrun\n"
        cache.write_text("{broken")
        assert choose_acceleration(boot_files, cache).kind == "kvm"
        assert json.loads(cache.read_text())["boot"]["outcome"] == "booted"

    def test_a_boot_that_hangs_or_fails_means_tcg(
        self, qemu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patient:
            patient.setattr(acceleration, "_SECONDS", 1.0)
            hung = self.choose(qemu, "exec sleep 60", tmp_path / "1")
        assert (hung.kind, "printed nothing" in hung.reason) == ("tcg", True)
        failed = self.choose(qemu, "echo 'failed to initialize kvm' >&2; exit 1", tmp_path / "2")
        assert failed == Acceleration("tcg", "QEMU does not start with KVM: failed to initialize kvm")

    def test_a_machine_without_kvm(self, qemu: Path, tmp_path: Path) -> None:
        (tmp_path / "kvm").unlink()
        assert self.choose(qemu, "exit 1", tmp_path / "c") == Acceleration("tcg", f"this machine has no {tmp_path}/kvm")
        assert not Path(f"{qemu}.runs").exists()

    def test_a_word_of_the_user_goes_before(self, qemu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for wish in ("kvm", "tcg"):
            monkeypatch.setenv("VMSNAP_ACCEL", wish)
            assert self.choose(qemu, "exit 1", tmp_path / "c").kind == wish
        assert not Path(f"{qemu}.runs").exists()
        monkeypatch.setenv("VMSNAP_ACCEL", "warp")
        with pytest.raises(InvalidRequestError, match="neither kvm nor tcg"):
            self.choose(qemu, "exit 1", tmp_path / "c")
