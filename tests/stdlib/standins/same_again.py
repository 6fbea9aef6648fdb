"""The standard module once more, from its own file, as another module object: what a perfect stand-in looks like."""

import importlib.util
import os
import sys

_spec = importlib.util.spec_from_file_location(
    "socketserver", os.path.join(os.path.dirname(os.__file__), "socketserver.py")
)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
sys.modules[__name__] = _module
