"""The checks, one module a family. They are found by looking into this package: see `_registry`."""

__all__ = ()
