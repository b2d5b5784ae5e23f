"""Scripts of the checkout, as modules."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from types import ModuleType

from support import ROOT


@cache
def script(name: str) -> ModuleType:
    """Return a script of the folder `scripts` as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    if str(ROOT / "scripts") not in sys.path:  # scripts import one another, as Python finds them when one is run
        sys.path.append(str(ROOT / "scripts"))
    spec.loader.exec_module(module)
    return module
