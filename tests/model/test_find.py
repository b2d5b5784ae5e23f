"""Images and disks are found by their paths and by their names."""

from __future__ import annotations

import pytest
from support.forests import forest, image

from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.model.find import find_disk
from vmsnap_nb.model.guest import Use

TREE = forest(
    image("base.qcow2"),
    image("top.qcow2", "base.qcow2"),
    image("/j/base.qcow2"),
    image("nbd://box/disk"),
    uses=(Use("g", "vda", "/i/top.qcow2"), Use("g", "vdb", "/j/base.qcow2"), Use("h", "sda", "/i/top.qcow2")),
)


@pytest.mark.parametrize(
    ("name", "path"),
    [("/i/base.qcow2", "/i/base.qcow2"), ("top", "/i/top.qcow2"), ("top.qcow2", "/i/top.qcow2")],
)
def test_an_image_has_its_path_and_its_name(name: str, path: str) -> None:
    assert TREE.find(name) == path


def test_a_name_that_several_images_have_is_no_answer() -> None:
    with pytest.raises(NotFoundError, match=r"several images have that name: /i/base.qcow2, /j/base.qcow2"):
        TREE.find("base")
    with pytest.raises(NotFoundError, match=r"none of the 4 images that were read has that name"):
        TREE.find("nowhere")


def test_in_a_chain_a_name_means_its_layer_by_any_name_of_the_file() -> None:
    assert TREE.chain("/i/top.qcow2").find("base") == "/i/base.qcow2"
    linked = forest(
        image("base", identity=(1, 2)), image("/j/link", identity=(1, 2)), image("top", "base", identity=(1, 3))
    )
    assert linked.chain("/i/top").find("/j/link") == "/i/base"
    with pytest.raises(NotFoundError, match=r"none of the 2 images of the chain"):
        TREE.chain("/i/top.qcow2").find("/j/base.qcow2")


def test_the_first_disk_with_an_image_is_meant_where_none_is_named() -> None:
    assert find_disk(TREE, "g").target == "vda"
    assert find_disk(TREE, "g", "vdb").path == "/j/base.qcow2"
    with pytest.raises(NotFoundError, match="Available: vda, vdb"):
        find_disk(TREE, "g", "vdc")
    with pytest.raises(NotFoundError, match="the guest has no disk with an image"):
        find_disk(TREE, "nobody")
