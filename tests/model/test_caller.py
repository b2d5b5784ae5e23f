"""A warning names the line of the user, also through decorators and inner calls."""

from __future__ import annotations

import inspect
import warnings

from vmsnap_nb.model import caller
from vmsnap_nb.model.arguments import checked


def test_the_line_is_the_one_outside_of_the_package() -> None:
    """A public function is wrapped by one of the package, which is not named."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        wrapped = checked(caller.warn_caller)
        wrapped("said")
        here = inspect.currentframe()
    assert here is not None
    assert [(one.filename, one.lineno) for one in found] == [(__file__, here.f_lineno - 3)]
