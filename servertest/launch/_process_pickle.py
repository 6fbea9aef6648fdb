"""Taking a handler to another process, wherever it was defined; and bringing exceptions back.

A server process has not imported the test's modules, and often could not: pytest may have loaded them under names
that no import finds. So what a test module defines travels *by value*, as code, together with the globals that it
uses; what an installed module defines travels by reference, as its name. cloudpickle does both. This module decides
which, and cares for:

* the public classes of `servertest.servers`, which say that they are from `socketserver` (so that they can stand in
  for it): by reference, but to where they are, not to where they say;
* test modules that hold something that cannot travel (a lock, an open file) but that the server process can import:
  if sending by value fails, they are sent by reference;
* saying which thing it is that cannot travel, when nothing helps;
* classes that have travelled by value: an exception that comes back is an instance of the test's own class.
"""

from __future__ import annotations

import contextlib
import functools
import io
import pickle
import sys
import threading
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import cloudpickle

from .._support import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from importlib.machinery import ModuleSpec

__all__ = ("dump_exception", "dump_plan", "load_exception", "load_plan", "refuse_while_loading")

#: How far to look for the thing that cannot travel.
_DEEPEST = 12
#: Modules of the standard library whose objects hold what users put into them.
_CONTAINERS = {"builtins", "collections", "functools", "types"}
_registry_lock = threading.Lock()
_loading = False


def dump_plan(plan: object, name: str) -> tuple[bytes, list[type]]:
    """Pickle what a server process is to build.

    Args:
        plan: Anything that pickles, or consists of what does.
        name: What messages call it.

    Returns:
        The bytes, and the classes that travel by value (for `load_exception`).

    Raises:
        UsageError: Something in it cannot travel; the message names that thing and says what to do.
    """
    try:
        return _dump(plan, _travels_by_value)
    except Exception as error:  # noqa: BLE001 - reducers of any class may raise anything
        first = error
    try:
        return _dump(plan, _cannot_be_imported)
    except Exception:  # noqa: BLE001 - the first attempt's error is the one that tells
        raise UsageError(_explain(plan, name, first)) from first


def load_plan(data: bytes) -> tuple[Any, list[type]]:
    """What `dump_plan` has dumped: the plan, and the classes that have travelled by value, in the same order."""
    global _loading
    _loading = True
    try:
        return pickle.loads(data)  # type: ignore[no-any-return]  # noqa: S301 - from the test's own process
    finally:
        _loading = False


def refuse_while_loading() -> None:
    """Refuse to launch in a server process that is only importing what it is to serve: it would do so for ever.

    Raises:
        UsageError: It says which line launches.
    """
    if not _loading:
        return
    frame: Any = sys._getframe(1)  # noqa: SLF001 - inspect costs too much to be imported for this
    while frame is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    where = "" if frame is None else f" ({frame.f_code.co_filename}, line {frame.f_lineno})"
    raise UsageError(
        f"a module that launches a server when it is imported{where} was imported by the server process, which needs what the "
        'module defines: launch in a function, or below if __name__ == "__main__"'
    )


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """cloudpickle's, with a say in what travels by value, and a list of the classes that did."""

    def __init__(self, file: io.BytesIO, by_value: Callable[[ModuleType], bool]) -> None:
        super().__init__(file)
        self.by_value = by_value
        self.carried: list[type] = []
        self.registered: list[ModuleType] = []
        self.decided: set[str | None] = set()

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type):
            if (name := _name_in_servers(obj)) is not None:
                return _server_class, (name,)
            self._register(obj.__module__)
            reduced = super().reducer_override(obj)
            if reduced is not NotImplemented and len(reduced) > 2:
                self.carried.append(obj)
            return reduced
        if isinstance(obj, FunctionType):
            self._register(obj.__module__)
        elif isinstance(obj, ModuleType) and _cannot_be_imported(
            obj
        ):  # a test's own is left to be found by name
            self._register(obj.__name__)
        return super().reducer_override(obj)

    def _register(self, name: str | None) -> None:
        if name in self.decided:
            return
        self.decided.add(name)
        module = sys.modules.get(name or "")
        if module is None or name in cloudpickle.list_registry_pickle_by_value() or not self.by_value(module):
            return
        cloudpickle.register_pickle_by_value(module)
        self.registered.append(module)

    def unregister(self) -> None:
        for module in self.registered:
            cloudpickle.unregister_pickle_by_value(module)


def _dump(value: object, by_value: Callable[[ModuleType], bool]) -> tuple[bytes, list[type]]:
    file = io.BytesIO()
    with _registry_lock:  # cloudpickle's list of modules is one for the whole process
        pickler = _Pickler(file, by_value)
        try:
            # The list is written after the plan, and by then it is complete.
            pickler.dump((value, pickler.carried))
        finally:
            pickler.unregister()
    return file.getvalue(), pickler.carried


# -- which way


def _name_in_servers(cls: type) -> str | None:
    """The name of a public class of `servertest.servers`, whatever its `__module__` says."""
    if cls.__module__ != "socketserver":
        return None
    from .. import servers

    return cls.__qualname__ if getattr(servers, cls.__qualname__, None) is cls else None


def _server_class(name: str) -> type:
    from .. import servers

    found: type = getattr(servers, name)
    return found


def _travels_by_value(module: ModuleType) -> bool:
    """Whether it is a test's own: pytest has rewritten it, or a server process could not import it.

    pytest also rewrites the packages of its plugins, of which this is one; those are installed.
    """
    loader = getattr(module, "__loader__", None)
    rewritten = type(loader).__module__.startswith("_pytest.") and not _is_installed(module)
    return rewritten or _cannot_be_imported(module)


def _is_installed(module: ModuleType) -> bool:
    if module.__name__.partition(".")[0] == "servertest":
        return True
    return (getattr(module, "__file__", None) or "").startswith(_installed_places())


@functools.cache
def _installed_places() -> tuple[str, ...]:
    import sysconfig

    return tuple(sysconfig.get_path(name) for name in ("stdlib", "platlib", "purelib"))


def _cannot_be_imported(module: ModuleType) -> bool:
    """Whether an import of its name, with today's path, would find something else or nothing."""
    top = module.__name__.partition(".")[0]
    if top in sys.stdlib_module_names or top == "servertest":
        return False
    own = getattr(sys.modules.get(top), "__spec__", None)
    found = None if own is None else _find_anew(top)
    if own is None or found is None:
        return True
    # A namespace package has no origin, and what is in it may come from several places.
    return found.origin is not None and found.origin != own.origin


def _find_anew(name: str) -> ModuleSpec | None:
    """What an import in a server process would find: it has all finders that this process has, except pytest's."""
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if find is None or type(finder).__module__.startswith("_pytest."):
            continue
        spec: ModuleSpec | None = find(name, None)
        if spec is not None:
            return spec
    return None


# -- what is to blame


def _explain(plan: object, name: str, error: BaseException) -> str:
    where = " -> ".join(_blame(plan)) or "the plan"
    return (
        f"{name} cannot be sent to a server process: {where} cannot be pickled ({error}). "
        "A server process gets a copy of the handler and of all that it uses: make that thing inside the handler or at the "
        'server, or run the server in this process with host="thread" and a kind that does not fork'
    )


def _blame(value: object) -> list[str]:
    """The way from a value to the innermost thing in it that does not pickle."""
    way: list[str] = []
    seen: set[int] = set()
    while len(way) < _DEEPEST:
        found = next(((k, v) for k, v in _parts(value) if id(v) not in seen and not _pickles(v)), None)
        if found is None:
            break
        label, value = found
        seen.add(id(value))
        way.append(label)
        if type(value).__module__.partition(".")[0] in sys.stdlib_module_names - _CONTAINERS:
            break  # what is inside an Event, say, is nobody's business
    if way:
        way[-1] += f" (of type {type(value).__name__})"
    return way


def _pickles(value: object) -> bool:
    try:
        _dump(value, _travels_by_value)
    except Exception:  # noqa: BLE001 - as above
        return False
    return True


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """What pickling a value would visit, with names."""
    if isinstance(value, FunctionType):
        yield from _parts_of_function(value)
    elif isinstance(value, staticmethod | classmethod):
        yield "function", value.__func__
    elif isinstance(value, type):
        yield from ((f"{value.__name__}.{k}", v) for k, v in vars(value).items() if k not in _MACHINERY)
        yield from ((f"base class {base.__name__}", base) for base in value.__bases__)
    elif isinstance(value, dict):
        yield from ((f"[{k!r}]", v) for k, v in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{i}]", v) for i, v in enumerate(value))
    else:
        yield from _parts_of_instance(value)


_MACHINERY = ("__dict__", "__weakref__")


def _parts_of_function(function: FunctionType) -> Iterator[tuple[str, object]]:
    name = function.__qualname__
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # empty yet
            yield f"variable {variable!r} of {name}", cell.cell_contents
    for used in _names_in(function.__code__):
        if used in function.__globals__:
            yield f"global {used!r} of {name}", function.__globals__[used]
    for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        yield f"a default of {name}", value
    yield from ((f"{name}.{attribute}", value) for attribute, value in vars(function).items())


def _names_in(code: CodeType) -> Iterator[str]:
    """Names that a function's code may look up, those of the functions inside it included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


def _parts_of_instance(value: object) -> Iterator[tuple[str, object]]:
    if (function := getattr(value, "__func__", None)) is not None:
        yield "method", function
        yield "instance", getattr(value, "__self__", None)
    slots = [s for cls in type(value).__mro__ for s in getattr(cls, "__slots__", ()) if isinstance(s, str)]
    names = [*getattr(value, "__dict__", {}), *slots]
    yield from ((f".{name}", getattr(value, name)) for name in names if hasattr(value, name))


# -- exceptions


class _ReplyPickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Names the classes that came by value, so that the test gets its own class back and not a copy."""

    def __init__(self, file: io.BytesIO, carried: Sequence[type]) -> None:
        super().__init__(file)
        self.numbers = {cls: number for number, cls in enumerate(carried)}

    def persistent_id(self, obj: Any) -> int | None:
        return self.numbers.get(obj) if isinstance(obj, type) else None


class _ReplyUnpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, carried: Sequence[type]) -> None:
        super().__init__(file)
        self.carried = carried

    def persistent_load(self, pid: Any) -> type:
        found: type = self.carried[pid]
        return found


def dump_exception(error: BaseException, carried: Sequence[type]) -> bytes | None:
    """Pickle an exception for the test's process; None if it cannot be done so that it can be undone."""
    for form in (error, _Bare(error)):
        file = io.BytesIO()
        try:
            _ReplyPickler(file, carried).dump(form)
            load_exception(file.getvalue(), carried)
        except Exception:  # noqa: BLE001, S112 - whatever an attribute's class does, the error itself must get through
            continue
        return file.getvalue()
    return None


def load_exception(data: bytes, carried: Sequence[type]) -> BaseException:
    """The exception that `dump_exception` has dumped, as an instance of the test's own class."""
    value: BaseException = _ReplyUnpickler(io.BytesIO(data), carried).load()
    return value


class _Bare:
    """An exception whose `__init__` does not take its `args`: made without it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_bare, (type(self.error), self.error.args, self.error.__dict__)


def _make_bare(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error
