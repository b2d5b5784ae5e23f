"""The handout's starting states as real images: drawn as in the handout, each layer with data of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support import GOLDEN
from support.handout import normal

import vmsnap_nb as vs
from vmsnap_nb.lab.scenarios import PATTERN_SIZE, SCENARIOS, build_scenario, pattern_of
from vmsnap_nb.live.forest import LiveForest

pytestmark = pytest.mark.system


@pytest.fixture
def built(tmp_path: Path, request: pytest.FixtureRequest) -> LiveForest:
    build_scenario(request.param, tmp_path / request.param)
    return vs.scan(tmp_path / request.param)


def reads(path: str, image_format: str, pattern: int, offset: int) -> bool:
    command = f"read -q -P {pattern} {offset} {PATTERN_SIZE}"
    done = subprocess.run(["qemu-io", "-r", "-f", image_format, "-c", command, path], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.parametrize("built", ["figure-1"], indirect=True)
def test_figure_1_of_real_images_is_the_handouts(built: LiveForest) -> None:
    handout = normal((GOLDEN / "figure-1.txt").read_text())
    options = {"details": "format", "labels": {"RootBase": "(raw/qcow2)"}}
    assert normal(built.to_text(**options)) == handout
    assert normal(built.chain(built.find("Overlay-1B")).to_text(**options)) == handout


@pytest.mark.parametrize("built", ["figure-2"], indirect=True)
def test_figure_2_of_real_images_is_the_handouts(built: LiveForest) -> None:
    handout = (
        (GOLDEN / "figure-2.txt").read_text().replace("(Active)", " " * len("(Active)"))
    )  # no guest writes to them
    assert normal(built.to_text(details="none")) == normal(handout)


@pytest.mark.parametrize("built", ["template"], indirect=True)
def test_the_template_has_a_raw_base_and_two_guests(built: LiveForest) -> None:
    frame = built.to_frame()
    assert list(frame[frame["depth"] == 1]["format"]) == ["raw"]
    assert sorted(built.depth(leaf) for leaf in built.leaves) == [4, 4]
    assert all(word in built.to_text() for word in ("(raw)", "Fedora-guest-1", "Fedora-guest-with-updates-2A"))


@pytest.mark.parametrize("built", list(SCENARIOS), indirect=True)
def test_every_layer_has_data_of_its_own(built: LiveForest) -> None:
    layers = SCENARIOS[Path(built.folders[0]).name]
    assert len(built) == len(layers)
    below: dict[str, list[int]] = {}
    for number, layer in enumerate(layers):
        path = f"{built.folders[0]}/{layer.file}"
        below[layer.file] = [*below.get(layer.backing, []), number]
        assert reads(path, layer.format, pattern_of(number), 0)  # its own hides what is below
        for seen in below[layer.file]:
            assert reads(path, layer.format, pattern_of(seen), (seen + 1) << 20)
        assert not reads(path, layer.format, pattern_of(number) + 1, 0)
    assert all(image.status == "ok" for image in built)
