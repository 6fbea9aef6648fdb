"""Whatever a test defines gets to another process, or there is one clear error that names what cannot."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import pickle
import socketserver
import subprocess
import sys
import threading
import types
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from servertest import servers
from servertest._support import UsageError
from servertest.launch import _process_pickle
from servertest.launch._process_pickle import dump_exception, dump_plan, load_exception, load_plan

LOCK = threading.Lock()
GREETING = b"hello "


class ModuleLevel(servers.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(GREETING)


class OddError(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")
        self.first = first


def elsewhere(data: bytes, expression: str) -> str:
    """Load in an interpreter that knows nothing of this test, and evaluate an expression of the plan."""
    program = (
        "import pickle, sys; from servertest.launch._process_pickle import load_plan; "
        "plan, carried = load_plan(sys.stdin.buffer.read()); print(eval(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, expression],
        input=data,
        capture_output=True,
        check=True,
        timeout=30,
        cwd="/",
    )
    return done.stdout.decode().strip()


def foreign_module(tmp_path: Path, source: str, name: str = "no_import_finds_me") -> ModuleType:
    """A module as pytest's importlib mode makes them: in sys.modules, under a name that no path leads to."""
    path = tmp_path / "foreign.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_all_sorts_of_handlers_load_in_a_process_that_knows_nothing(tmp_path: Path) -> None:
    module = foreign_module(tmp_path, "SIZE = 3\nclass Handler:\n    def handle(self): return b'x' * SIZE\n")
    suffix = b"!"

    class Local(servers.StreamRequestHandler):
        def handle(self) -> None: ...

        def greet(self) -> bytes:
            return GREETING + suffix

    try:
        data, _ = dump_plan([ModuleLevel, Local, module.Handler], "handlers")
    finally:
        del sys.modules[module.__name__]

    expression = (
        "plan[1].greet(None), plan[2]().handle(), plan[0].__mro__[1].__module__, plan[0].__mro__[1].wbufsize"
    )
    assert elsewhere(data, expression) == "(b'hello !', b'xxx', 'socketserver', 0)"


@pytest.mark.parametrize("name", [name for name in dir(servers) if isinstance(getattr(servers, name), type)])
def test_classes_of_the_framework_stay_themselves(name: str) -> None:
    cls = getattr(servers, name)

    assert load_plan(dump_plan(cls, name)[0]) == (cls, [])


def test_the_standard_module_stays_the_standard_module() -> None:
    assert load_plan(dump_plan(socketserver.TCPServer, "standard")[0])[0] is socketserver.TCPServer


def test_installed_modules_travel_as_names() -> None:
    data, carried = dump_plan(logging.StreamHandler, "handler")

    assert carried == []
    assert len(data) < 200


def test_what_cannot_travel_by_value_travels_by_name_if_the_other_side_can_import_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "holds_a_lock.py").write_text(
        "import threading\nLOCK = threading.Lock()\nclass Handler:\n    def handle(self):\n        with LOCK: return 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import holds_a_lock  # type: ignore[import-not-found]

    # As if pytest had rewritten it.
    monkeypatch.setattr(_process_pickle, "_travels_by_value", lambda module: module is holds_a_lock)
    data, carried = dump_plan(holds_a_lock.Handler, "handler")

    assert carried == []
    assert load_plan(data)[0] is holds_a_lock.Handler


def test_modules_are_registered_with_cloudpickle_only_meanwhile() -> None:
    import cloudpickle

    before = cloudpickle.list_registry_pickle_by_value()
    dump_plan(ModuleLevel, "handler")

    assert cloudpickle.list_registry_pickle_by_value() == before


# -- what cannot travel


def test_the_closure_variable_that_cannot_travel_is_named() -> None:
    done = threading.Event()

    class Local(servers.StreamRequestHandler):
        def handle(self) -> None:
            done.set()

    with pytest.raises(UsageError) as caught:
        dump_plan(Local, "Local")

    message = str(caught.value)
    assert message.startswith("Local cannot be sent to a server process: Local.handle")
    assert "variable 'done' of" in message
    assert "(of type Event)" in message
    assert 'host="thread"' in message


def test_the_global_that_cannot_travel_is_named() -> None:
    class Local(servers.StreamRequestHandler):
        def handle(self) -> None:
            with LOCK:
                pass

    with pytest.raises(UsageError, match=r"global 'LOCK' of .*handle \(of type lock\)"):
        dump_plan(Local, "Local")


def test_the_attribute_that_cannot_travel_is_named() -> None:
    @dataclasses.dataclass
    class Holder:
        parts: dict[str, Any]

    with pytest.raises(UsageError, match=r"\.parts.* -> \['lock'\] \(of type lock\)"):
        dump_plan(Holder({"fine": 1, "lock": LOCK}), "Holder")


@pytest.mark.parametrize(
    ("sort", "part"),
    [
        ("a static method", r"Uses.static -> function -> global 'LOCK' of "),
        ("a class method", r"Uses.made -> function -> global 'LOCK' of "),
        ("a function inside a function", r"Uses.outer -> global 'LOCK' of "),
        ("a default", r"Uses.default -> a default of "),
        ("a keyword's default", r"Uses.keyword -> a default of "),
        ("an attribute of a function", r"Uses.marked -> .*<lambda>\.lock "),
        ("a base class", r"base class Base -> Base\.lock "),
        ("a class attribute", r"Uses.attribute "),
        ("a bound method", r"\.handler -> instance -> \.lock "),
        ("a slot", r"\.slot "),
    ],
)
def test_wherever_it_is_it_is_found(sort: str, part: str) -> None:
    def holding(value: Any) -> Any:
        value.lock = LOCK
        return value

    class Slotted:
        __slots__ = ("slot",)

    class Plain:
        def method(self) -> None: ...

    class Base:
        lock = LOCK

    members: dict[str, Any] = {
        "a static method": {"static": staticmethod(lambda: LOCK)},
        "a class method": {"made": classmethod(lambda cls: LOCK)},
        "a function inside a function": {"outer": lambda: lambda: LOCK},
        "a default": {"default": lambda lock=LOCK: lock},
        "a keyword's default": {"keyword": lambda *, lock=LOCK: lock},
        "an attribute of a function": {"marked": holding(lambda: None)},
        "a class attribute": {"attribute": LOCK},
    }
    plan: Any
    if sort == "a bound method":
        plan = types.SimpleNamespace(handler=holding(Plain()).method)
    elif sort == "a slot":
        plan = Slotted()
        plan.slot = LOCK
    else:
        plan = types.SimpleNamespace(
            handler=type("Uses", (Base,) if sort == "a base class" else (), members.get(sort, {}))
        )

    with pytest.raises(UsageError, match=part):
        dump_plan(plan, "plan")


def test_a_finder_of_an_editable_install_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = foreign_module(tmp_path, "class Handler: pass", "provided_by_a_finder")
    monkeypatch.delitem(sys.modules, module.__name__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert _process_pickle._cannot_be_imported(module)

    class Finder:
        @staticmethod
        def find_spec(name: str, path: object) -> Any:
            return module.__spec__ if name == module.__name__ else None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert not _process_pickle._cannot_be_imported(module)


def test_what_refers_to_itself_ends() -> None:
    loop: list[Any] = [LOCK]
    loop.append(loop)

    with pytest.raises(UsageError, match=r"\[0\] \(of type lock\)"):
        dump_plan(loop, "loop")


# -- exceptions on their way back


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), OSError(2, "no"), KeyError("k"), UnicodeDecodeError("utf-8", b"x", 0, 1, "why")],
    ids=repr,
)
def test_an_exception_comes_back_as_it_was(error: Exception) -> None:
    data = dump_exception(error, ())
    assert data is not None
    copy = load_exception(data, ())

    assert type(copy) is type(error)
    assert copy.args == error.args
    assert str(copy) == str(error)


def test_an_exception_with_an_init_of_its_own_comes_back() -> None:
    data = dump_exception(OddError(1, 2), ())
    assert data is not None
    copy = load_exception(data, ())

    assert type(copy) is OddError
    assert str(copy) == "1 and 2"
    assert copy.first == 1


def test_notes_come_back() -> None:
    error = ValueError("x")
    error.add_note("seen by the way")
    data = dump_exception(error, ())
    assert data is not None

    assert load_exception(data, ()).__notes__ == ["seen by the way"]


def test_an_exception_of_a_class_that_was_sent_is_of_the_tests_own_class() -> None:
    class LocalError(Exception):
        pass

    data, ours = dump_plan(LocalError, "LocalError")
    theirs_class, theirs = load_plan(data)
    theirs_error = theirs_class("x")
    assert ours == [LocalError]
    reply = dump_exception(theirs_error, theirs)
    assert reply is not None

    assert type(load_exception(reply, ours)) is LocalError


def test_an_exception_that_cannot_be_pickled_is_none() -> None:
    class Holding(Exception):
        def __init__(self) -> None:
            self.lock = threading.Lock()
            super().__init__("has a lock")

    assert dump_exception(Holding(), ()) is None


def test_what_breaks_on_loading_is_found_out_where_it_is_dumped() -> None:
    class Breaks(Exception):
        def __reduce__(self) -> tuple[Any, ...]:
            return pickle.loads, (b"nonsense",)

    data = dump_exception(Breaks("x"), ())

    assert data is not None  # in its bare form
    assert type(load_exception(data, ())).__name__ == "Breaks"
