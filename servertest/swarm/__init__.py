"""Swarms."""

__all__ = ()
