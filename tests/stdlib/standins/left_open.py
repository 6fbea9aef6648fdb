"""A stand-in with one small fault: leaving a ``with`` block closes nothing."""

import sys

import same_again  # type: ignore[import-not-found]  # beside this file, on PYTHONPATH

same_again.BaseServer.__exit__ = lambda self, *exc_info: None
sys.modules[__name__] = same_again
