"""Pages of tables in Chinese: those that `scripts/kinds.py` and `scripts/places.py` generate from results of tests."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["chinese_page", "in_chinese"]

SECTIONS = {
    "# What works on which libvirt": """\
# 各版本 libvirt 支持的操作

每个单元格都是在该版本的 libvirt 上用真实客户机测试的结果。*已关机*和*运行中*是操作开始时客户机的状态；\
暂停的客户机算作运行中，因为 QEMU 打开着它的镜像。*斜体*的单元格表示不适用，并说明原因。\
“分步执行”表示本工具不使用 libvirt 自己的命令，而是分成单独的步骤完成。`python scripts/kinds.py` 根据测试结果生成本页。
""",
    "## Create": "## 创建\n",
    "## List": "## 列出\n",
    "## Revert": "## 恢复\n",
    "## Delete": "## 删除\n",
    "## What a disk can be": """\
## 磁盘的各种形式

以下是使用 libvirt 9.0 和 QEMU 7.2 的测试结果。如果快照被拒绝，则用 virsh 创建的快照测试向下合并、向上合并、恢复和\
删除，只要可能就在客户机运行时进行。其他格式的基础镜像中，只有 vmdk 用客户机测试过。
""",
    "# What runs from where": """\
# 不同用户和连接方式可以执行的操作

每个单元格都是在 libvirt 9.0 上用真实客户机测试的结果。镜像属于运行 QEMU 的账户，所在目录是存储池。\
*本机 root* 可以打开文件。*本机普通用户*在同一台机器上，可以使用 libvirt，但不能打开镜像。\
*TCP* 和 *ssh* 连接到另一台机器，不打开那里的任何文件。\
*本进程*指本工具自己的进程。被拒绝的计划会给出单元格中的问题名称、原因和可行的办法。\
`python scripts/places.py` 根据测试结果生成本页。
""",
    "## The guest is running": "## 客户机运行中\n",
    "## The guest is off": "## 客户机已关机\n",
}
"""By the English heading: the heading, and the text below it."""

WORDS = {
    "kind": "类型",
    "guest": "客户机",
    "disk": "磁盘",
    "verb": "操作",
    "off": "已关机",
    "running": "运行中",
    "local root": "本机 root",
    "local plain user": "本机普通用户",
    # what is done
    "external snapshot": "外部快照",
    "internal snapshot": "内部快照",
    "commit": "向下合并",
    "pull": "向上合并",
    "revert": "恢复",
    "shorten": "缩短",
    "save": "保存",
    "restore": "从保存的状态恢复",
    "delete a snapshot": "删除快照",
    "create an overlay": "创建叠加层",
    "delete an external snapshot": "删除外部快照",
    "delete an internal snapshot": "删除内部快照",
    "revert to an external snapshot": "恢复到外部快照",
    "revert to an external snapshot, and remove the current overlay": "恢复到外部快照，并删除当前的叠加层",
    "revert to an internal snapshot": "恢复到内部快照",
    "take an external checkpoint": "创建外部检查点",
    "take an external disk snapshot": "创建外部磁盘快照",
    "take an internal checkpoint": "创建内部检查点",
    "take an internal disk snapshot": "创建内部磁盘快照",
    # what a disk can be
    "LUKS inside qcow2": "qcow2 中的 LUKS",
    "base in vmdk, vdi, vhdx, vpc, qed, qcow or parallels": (
        "vmdk、vdi、vhdx、vpc、qed、qcow 或 parallels 格式的基础镜像"
    ),
    "features that QEMU does not know": "带有 QEMU 不支持的特性的镜像",
    "network disk (NBD)": "网络磁盘（NBD）",
    "part of a file (`<slices>`)": "文件的一部分（`<slices>`）",
    "qcow2 on a block device": "块设备上的 qcow2",
    "qcow2 with an external data file": "带外部数据文件的 qcow2",
    "raw LUKS": "raw 格式的 LUKS",
    "raw block device": "raw 格式的块设备",
    # how it ends
    "works": "可以",
    "works if you specify a file for the overlay": "可以，但须指定叠加层的文件名",
    "works, but only in the layers above the disk": "可以，但只限它上面的层",
    "works, in single steps": "可以，分步执行",
    "works from a managed save": "从保存的虚拟机状态（managed save）恢复时可以",
    "works from a snapshot of the memory alone, in single steps": "从只含内存的快照恢复时可以，分步执行",
    "works, into an overlay on the device": "可以，合并到基于它的叠加层",
    "works, with a warning: the overlay is not encrypted": "可以，并警告：叠加层没有加密",
    "works, using libvirt": "可以，由 libvirt 执行",
    "works, using libvirt, if unknown-image is waived": "可以，由 libvirt 执行，需放行 unknown-image",
    "finds nothing: the journal is in files that cannot be opened from there": "查不到：以这种方式无法打开日志文件",
    "clean up after a merge": "合并后清理",
    "complete an interrupted operation": "完成被中断的操作",
    "reconcile the records": "使记录与实际一致",
    "remove unneeded files": "删除不再需要的文件",
    "works, using this process": "可以，由本进程执行",
    "works, using libvirt and qemu-img": "可以，由 libvirt 和 qemu-img 执行",
    "works, using libvirt and this process": "可以，由 libvirt 和本进程执行",
    "works, using libvirt, qemu-img and this process": "可以，由 libvirt、qemu-img 和本进程执行",
    "works, using qemu-img": "可以，由 qemu-img 执行",
    "*a guest resumes from saved memory only after it was shut off*": "*关机之后才能从保存的内存继续运行*",
    "*a managed save is used up when its guest starts*": "*客户机启动后，保存的状态（managed save）即不复存在*",
    "*libvirt gives QEMU no access to the data file*": "*libvirt 不允许 QEMU 访问数据文件*",
    "*libvirt keeps saved memory only for a guest that is off*": "*libvirt 只为已关机的客户机保留内存*",
    "*QEMU does not open this image*": "*QEMU 无法打开它*",
    "*no snapshot of this disk can be taken*": "*无法为它创建快照*",
    "*the state is one file: remove a managed save with `virsh managedsave-remove`, and other files with `rm`*": (
        "*只有一个文件，由 libvirt 删除：`virsh managedsave-remove`；指定了文件名的用 `rm`*"
    ),
    "*only a qcow2 layer above the disk can hold an internal snapshot*": "*只有它上面的 qcow2 层才能保存内部快照*",
}
"""By the English text: that of a cell, or of a part of it between semicolons."""

WHEN = {
    " when merging into the base": "合并到基础镜像时",
    " above parallels": "在 parallels 之上合并时",
    " if only a header names the device": "如果只有文件头提到该设备，则",
    " if the base is included": "如果包括基础镜像，则",
    " if the device is too small": "如果设备空间不足，则",
    " when merging into the disk itself": "合并到磁盘本身时",
    " for the disk itself": "对磁盘本身则",
}
"""When something is refused, which comes first in Chinese: by the English text after the name of the refusal."""

REASONS = {
    "": "",
    ", as the snapshot could not be deleted": "：之后将无法删除",
    ", as QEMU does not support this": "：QEMU 不支持",
    ", as QEMU does not open this image": "：QEMU 不会打开它",
    ", as QEMU would exit": "：QEMU 会异常终止",
    ", as an overlay can only be based on the whole file": "：叠加层只能基于整个文件",
    ", as libvirt could not save the memory": "：libvirt 无法保存内存",
    ", as libvirt takes such a snapshot only with the memory": "：libvirt 只能连同内存一起创建",
    ", as libvirt would not start the guest": "：libvirt 将无法启动客户机",
    ", as only qcow2 can hold internal snapshots": "：只有 qcow2 能保存内部快照",
    ", as qemu-img has no key": "：qemu-img 没有密钥",
    ", as qemu-img would need both files": "：qemu-img 需要两个文件",
    ", as the data would no longer be encrypted": "：数据将不再加密",
    ", as the header names the part of the file": "：文件头写明了文件的哪一部分",
    ", as there is no memory to hold": "：没有内存可以保存",
    ", as there is no memory to save": "：没有内存可以保存",
}
"""Why something is refused: by the English text after the name of the refusal."""

REFUSED = re.compile(r"refused: ([a-z-]+)( \(can be waived\))?(.*)")
SAME = re.compile(r"[a-z]+-[a-z]+|libvirt [\d.]+|TCP|ssh|-+")  # a name, as in code; the line below the heads


def in_chinese(page: str) -> str:
    """Return a page in Chinese.

    Raises
    ------
    KeyError
        There is no Chinese for a heading or for a cell.
    """
    return "\n".join(_section(part) for part in re.split(r"(?m)^(?=#)", page) if part)


def chinese_page(page: Path) -> Path:
    """Return where the Chinese version of a page is."""
    return page.parent / "zh" / page.name


def _section(text: str) -> str:
    heading, *lines = text.splitlines()
    rows = [_row(line) for line in lines if line.startswith("|")]
    return "\n".join((SECTIONS[heading], *rows, *([""] if rows else [])))


def _row(line: str) -> str:
    return f"| {' | '.join(_cell(cell.strip()) for cell in line[1:-1].split('|'))} |"


def _cell(text: str) -> str:
    return WORDS[text] if text.startswith("*") else "；".join(map(_part, text.split("; ")))


def _part(text: str) -> str:
    if refused := REFUSED.fullmatch(text):
        name, waivable, why = refused.groups()
        refusal = f"拒绝（{name}{'，可以放行' if waivable else ''}）"
        return WHEN[why] + refusal if why in WHEN else refusal + REASONS[why]
    return text if SAME.fullmatch(text) else WORDS[text]
