"""A stand-in that leans on the module which it is to replace."""

from socketserver import *  # noqa: F403
