"""Modules own what they export; packages only pass it on."""

import ast
import pkgutil
import socketserver as standard
import sys
from importlib import import_module
from types import ModuleType

import pytest

import servertest
from servertest import servers
from servertest.clients.behaviours import Behaviour
from servertest.faults import Fault

MODULES = sorted(
    [
        "servertest",
        *(info.name for info in pkgutil.walk_packages(servertest.__path__, "servertest.")),
    ]
)
PACKAGES = [name for name in MODULES if hasattr(import_module(name), "__path__")]
FORKING_UNIX = {"ForkingUnixStreamServer", "ForkingUnixDatagramServer"}  # in the standard module from 3.12


def star_imports(package: ModuleType) -> list[str]:
    """The modules from which a package takes everything, those that it loads late included."""
    assert package.__file__ is not None
    with open(package.__file__, encoding="utf-8") as source:
        tree = ast.parse(source.read())
    return [
        f"{package.__name__}.{node.module}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.names[0].name == "*"
    ]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_every_module_owns_a_tuple_of_names_that_exist(name: str) -> None:
    module = import_module(name)
    exported = module.__dict__.get("__all__")

    # The front of the framework stands in for the standard module, whose __all__ is a list that programs add to.
    assert isinstance(exported, list if module is servers else tuple), f"{name}.__all__ is {exported!r}"
    assert len(set(exported)) == len(exported)
    missing = [each for each in exported if not hasattr(module, each)]
    assert not missing, f"{name} exports what it has not"


@pytest.mark.parametrize(
    "name", [name for name in PACKAGES if name not in ("servertest", "servertest.servers")]
)
def test_a_package_exports_exactly_what_its_modules_do(name: str) -> None:
    package = import_module(name)
    sources = star_imports(package)
    owned = [each for source in sources for each in import_module(source).__all__]

    assert len(set(owned)) == len(owned), "two of its modules export the same name"
    assert set(package.__all__) == set(owned)


def test_the_root_reaches_all_that_it_exports_and_says_so() -> None:
    exported = vars(servertest).get("__all__", ())

    assert exported
    assert set(exported) <= set(dir(servertest))


def test_a_star_import_of_the_framework_brings_the_standard_names() -> None:
    added = (
        FORKING_UNIX if sys.version_info < (3, 12) and hasattr(servers, "ForkingUnixStreamServer") else set()
    )

    assert set(servers.__all__) == set(standard.__all__) | added


def test_what_the_framework_has_beyond_the_standard_is_reached_by_name() -> None:
    extras = {each for source in star_imports(servers) for each in import_module(source).__all__}

    assert extras >= {"ThreadPoolTCPServer", "PreForkTCPServer", "SelectorTCPServer", "TLSMixIn"}
    assert extras <= set(dir(servers))
    for name in extras:
        assert getattr(servers, name).__name__ == name


def test_a_name_that_nobody_has_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="NoSuchServer"):
        _ = servers.NoSuchServer


def kinds_of(base: type) -> set[type]:
    found = {base}
    derived: list[type] = type.__subclasses__(base)
    for each in derived:
        found |= kinds_of(each)
    return found


@pytest.mark.parametrize("base", [Fault, Behaviour])
def test_every_fault_and_every_behaviour_is_reached_from_its_package(base: type) -> None:
    ours = {cls for cls in kinds_of(base) if cls.__module__ in MODULES and not cls.__name__.startswith("_")}
    assert len(ours) > 10

    forgotten = [
        f"{cls.__module__}.{cls.__name__}"
        for cls in ours
        if not hasattr(import_module(cls.__module__.rpartition(".")[0]), cls.__name__)
    ]
    assert not forgotten, (
        "not in the __init__ beside them, so nobody finds them by name or puts them to the laws"
    )
