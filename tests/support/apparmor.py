"""Rules of AppArmor as libvirt makes them: by its own helper, which writes nothing in a dry run."""

from __future__ import annotations

import subprocess
from pathlib import Path

HELPER = Path("/usr/lib/libvirt/virt-aa-helper")

_XML = """<domain type='qemu'><name>demo</name><uuid>{uuid}</uuid><memory>65536</memory><vcpu>1</vcpu>
<os><type arch='x86_64'>hvm</type></os><devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
<source file='{path}'/>{more}<target dev='vda' bus='virtio'/></disk></devices></domain>"""


def real_rules(uuid: str, path: Path | str, more: str = "") -> str:
    """Return the rules for a guest with this image as its disk, of which more may be said."""
    xml = _XML.format(uuid=uuid, path=path, more=more)
    argv = [str(HELPER), "--dryrun", "--replace", "--uuid", f"libvirt-{uuid}"]
    done = subprocess.run(argv, input=xml, capture_output=True, text=True, check=True)
    return done.stderr
