"""Run one of the interpreter's own test modules, unmodified, with a stand-in for ``socketserver``.

A file that is started, never imported: nothing may have imported the standard module before the stand-in takes its
place. Usage: ``_child.py TARGET WAY TEST_MODULE RESOURCES SECONDS EVENTS``.

TARGET is the module under test by name. WAY says how it takes the place of the standard module: ``injected`` puts it
into ``sys.modules`` first; ``shim`` expects a folder on PYTHONPATH whose ``socketserver.py`` replaces itself; ``plain``
leaves everything as it is. One JSON line for each event is appended to EVENTS, so that a run which dies or hangs
still tells what it was doing. Not run through regrtest: on 3.13 ``test_pyclbr`` (pulled in by some modules) fails
under any ``-c`` start, and a result class of our own gives every outcome by test id on all versions alike.
"""

import sys

if sys.path and sys.path[0] and __file__.startswith(sys.path[0]):
    del sys.path[0]  # the folder of this file must not offer modules to the tests

import faulthandler
import importlib
import json
import os
import types
import unittest
from typing import Any


class Events:
    """Appends JSON lines. Unbuffered: a child that a test forks must not write our lines a second time."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, event: str, **fields: object) -> None:
        os.write(self._fd, (json.dumps({"event": event, **fields}) + "\n").encode())


class Recorder(unittest.TextTestResult):
    """The usual text result, which also reports every outcome by test id."""

    events: Events

    def startTest(self, test: Any) -> None:
        self.events.write("start", id=test.id())
        super().startTest(test)

    def stopTest(self, test: Any) -> None:
        self.events.write("stop", id=test.id())
        super().stopTest(test)

    def _outcome(self, test: Any, outcome: str, detail: str = "") -> None:
        self.events.write("outcome", id=test.id(), outcome=outcome, detail=detail)

    def addSuccess(self, test: Any) -> None:
        self._outcome(test, "ok")
        super().addSuccess(test)

    def addFailure(self, test: Any, err: Any) -> None:
        super().addFailure(test, err)
        self._outcome(test, "failure", self.failures[-1][1])

    def addError(self, test: Any, err: Any) -> None:
        super().addError(test, err)
        self._outcome(test, "error", self.errors[-1][1])

    def addSkip(self, test: Any, reason: str) -> None:
        self._outcome(test, "skip", reason)
        super().addSkip(test, reason)

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        self._outcome(test, "expected failure")
        super().addExpectedFailure(test, err)

    def addUnexpectedSuccess(self, test: Any) -> None:
        self._outcome(test, "unexpected success")
        super().addUnexpectedSuccess(test)

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if (
            err is not None
        ):  # passing ones are counted nowhere by unittest, and their ids may hold random values
            self._outcome(test, "failed subtest", self._exc_info_to_string(err, test))  # type: ignore[attr-defined]


def stand_in(target: str, way: str) -> types.ModuleType:
    """Put ``target`` in the place of ``socketserver``; return what stands there now."""
    if "socketserver" in sys.modules:
        raise RuntimeError("socketserver was imported before its stand-in could take its place")
    if way == "injected":
        replacement = importlib.import_module(target)
        if "socketserver" in sys.modules:
            raise RuntimeError(f"{target} imports the standard socketserver that it is to replace")
        sys.modules["socketserver"] = replacement
    elif way == "shim":
        importlib.import_module("socketserver")
        replacement = sys.modules[target]
    else:
        replacement = importlib.import_module("socketserver")
    if sys.modules["socketserver"] is not replacement:
        raise RuntimeError(f"{target} did not take the place of socketserver")
    return replacement


def users_and_strangers(replacement: types.ModuleType, target: str) -> tuple[list[str], list[str]]:
    """Who holds the stand-in or one of its classes, and who holds another socketserver's."""
    users: set[str] = set()
    strangers: set[str] = set()
    for name, module in list(sys.modules.items()):
        if (
            name == "socketserver"
            or name.startswith((target, "__main__"))
            or not isinstance(module, types.ModuleType)
        ):
            continue
        for value in list(vars(module).values()):
            if isinstance(value, types.ModuleType) and value.__name__ in ("socketserver", target):
                (users if value is replacement else strangers).add(name)
            elif isinstance(value, type) and value.__name__ in replacement.__all__:
                if getattr(replacement, value.__name__) is value:
                    users.add(name)
                elif value.__module__ == "socketserver":
                    strangers.add(name)
    return sorted(users), sorted(strangers)


def main(target: str, way: str, test_module: str, resources: str, seconds: str, path: str) -> int:
    events = Events(path)
    replacement = stand_in(target, way)

    from test import support

    support.use_resources = resources.split(",")  # nothing that leaves this machine, and no windows
    support.verbose = 0
    suite = unittest.defaultTestLoader.loadTestsFromName(test_module)
    Recorder.events = events
    events.write("loaded", count=suite.countTestCases())
    faulthandler.dump_traceback_later(float(seconds), exit=True)
    runner: Any = unittest.TextTestRunner
    result = runner(resultclass=Recorder, verbosity=0).run(suite)
    faulthandler.cancel_dump_traceback_later()
    users, strangers = users_and_strangers(replacement, target)
    events.write(
        "end",
        run=result.testsRun,
        file=getattr(sys.modules["socketserver"], "__file__", None),
        kept=sys.modules["socketserver"] is replacement,
        users=users,
        strangers=strangers,
        altered=bool(getattr(support, "environment_altered", False)),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
