"""The house stands as it is drawn: imports only run down, and a delivery loads what it needs and no more."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from tests.support.program import Program
from tests.support.server import Server

SOURCE = Path(__file__).parents[1] / "src" / "muawrap"

# From the ground up; a module may import from floors below its own, and within its own folder.
FLOORS = (
    {"mail"},
    {"failure", "addresses"},
    {"trust", "extras", "charset", "signals", "sysexits"},
    {"schema"},
    {"document"},
    {"environment"},
    {"config"},
    {"report"},
    {"reading", "routing", "submission"},  # the stations: none imports another
    {"batch"},
    {"keeping"},
    {"errand"},
    {"session"},
    {"sendmail"},
    {"holding"},
    {"admin"},
)

HOLDING = (
    {"held", "clock", "durable", "mta", "rules"},
    {"settings", "formats"},
    {"asking", "store"},
    {"hold", "shipping"},
    {"listing", "lmtp", "waiting"},
)
"""The same within `holding`, which is a house of its own."""

NOT_IN_A_PLAIN_DELIVERY = (
    "click",
    "dns",
    "keyring",
    "asyncio",
    "logging",
    "argparse",
    "subprocess",
    "stringprep",
    "muawrap.holding",
    "muawrap.admin",
    *(f"muawrap.submission.{name}" for name in ("scram", "oauth", "binding", "netrc", "keyrings", "helper")),
)


def modules() -> dict[str, Path]:
    """Every module by its dotted name below muawrap; a folder's __init__ by the folder's name."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":
            found[name] = path
    return found


def imports(path: Path, known: set[str]) -> set[str]:
    """The modules of ours that a file imports, wherever in the file, under TYPE_CHECKING too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            base = node.module or ""
            names = [f"{base}.{alias.name}" for alias in node.names]
            found |= {name if name.removeprefix("muawrap.") in known else base for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name.removeprefix("muawrap.") for name in found if name.startswith("muawrap.")}


def floor(name: str) -> tuple[int, int]:
    """That of the station, and within `holding` that of the room."""
    station, _, rest = name.partition(".")
    number = next(number for number, rooms in enumerate(FLOORS) if station in rooms)
    room = rest.split(".")[0]
    return number, next((inner for inner, rooms in enumerate(HOLDING) if station == "holding" and room in rooms), 0)


def folder(name: str) -> str:
    """The folder a module stands in, "" for one on its own; the rooms of `holding` are folders, too."""
    parts = name.split(".")
    return ".".join(parts[:2] if parts[0] == "holding" else parts[:-1])


MODULES = modules()


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_only_run_down(name: str) -> None:
    """DESIGN: rules of the house."""
    for target in imports(MODULES[name], set(MODULES)):
        same_folder = folder(name) != "" and folder(target) == folder(name)
        assert same_folder or floor(target) < floor(name), f"{name} imports {target}, which is not below it"


def test_no_two_modules_import_each_other() -> None:
    """Within a folder the arrows have a direction, too."""
    graph = {name: imports(path, set(MODULES)) for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in done:
            for target in graph.get(name, ()):
                visit(target, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_says_in_one_sentence_what_it_is(name: str) -> None:
    """The first line of the docstring is the module's line in the plan of the house."""
    docstring = ast.get_docstring(ast.parse(MODULES[name].read_text()))
    assert docstring is not None
    assert docstring.splitlines()[0].endswith(".")


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name != "report" and floor(name) < floor("admin")))
def test_only_the_report_writes_to_people_and_ends_the_program(name: str) -> None:
    """One funnel: nothing else prints or exits (the muawrap program has a terminal of its own)."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("print", "sys.exit", "exit", "os._exit", "sys.stderr.write", "sys.stdout.write"), (
                called
            )


def test_a_plain_delivery_loads_no_more_than_it_needs(program: Program) -> None:
    """DESIGN: a plain delivery never imports what another configuration needs."""
    with Server() as server:
        program.configure(f'{program.smart_hosts(server)}from = "me@client.example"\n')
        said = program.script(
            "import json;"
            "from muawrap import sendmail;"
            "status = sendmail.run(['sendmail', '-C', sys.argv[1], 'you@example.net']);"
            "print(json.dumps([status, sorted(sys.modules)]))",
            b"Subject: hello\n\nHello.\n",
        )
    status, loaded = json.loads(said)
    assert status == 0
    assert [len(session.messages) for session in server.sessions] == [1]
    assert "muawrap.submission.deliver" in loaded
    for name in NOT_IN_A_PLAIN_DELIVERY:
        assert not [module for module in loaded if module == name or module.startswith(name + ".")]
