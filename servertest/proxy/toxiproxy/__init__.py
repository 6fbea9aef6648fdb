"""Toxiproxy's HTTP API over links: existing Toxiproxy clients work unchanged, and there is more for those who ask."""

from ._collection import *
from ._config import *
from ._problem import *
from ._server import *

__all__ = ("ApiProblem", "ApiServer", "Collection", "Config", "load_config")
