"""Every sentence and every advice that stands in the source, found by reading it: what varies is shown as "..."."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from muawrap.failure import Stage
from muawrap.submission import explain
from tests.support.program import REPOSITORY

SOURCE = REPOSITORY / "src" / "muawrap"

WORDS = {
    # who makes a failure, or a part of its sentence -> which arguments are its words
    **dict.fromkeys(
        ("Failure", "Divided", "Connection.failure", "_failed", "Bad", "Malformed", "AddressError", "MemberError"), (0,)
    ),
    "error": (1,),
    "trail": (0, 1),
}

Function = ast.FunctionDef | ast.Module


def sentences() -> dict[str, set[str]]:
    """Each sentence with the advice it may carry. A sentence that is passed on whole is found where it is made."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(SOURCE.rglob("*.py")):
        if "admin" not in path.parts:
            for sentence, advice in Module(path).failures():
                found[sentence] |= {advice} - {""}
    for stage in Stage:
        if stage.answered:
            found[f"... {stage.answered} ..."] = set()  # sendmail(8) has a table of its own for these
    for flaw in explain.FLAWS:
        found["the certificate is not good: ..."] |= {flaw.advice}
    for sign in explain.SIGNS:
        found[sign.what or "TLS failed: ..."] |= {sign.advice} - {""}
    return found


class Module:
    """One file of the source, and what is said in it."""

    def __init__(self, path: Path, source: Path = SOURCE) -> None:
        self.name = str(path.relative_to(source))
        self.tree = ast.parse(path.read_text(encoding="utf-8"))

    def failures(self) -> Iterator[tuple[str, str]]:
        for function in (node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef)):
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                arguments = WORDS.get(self.kind(call))
                if arguments is not None:
                    yield from self.failure(call, arguments, function)

    def kind(self, call: ast.Call) -> str:
        """Which row of WORDS a call belongs to, "" for none."""
        if isinstance(call.func, ast.Name):
            return call.func.id
        if not isinstance(call.func, ast.Attribute):
            return ""
        if call.func.attr == "failure":
            return {"routing/redirect.py": "trail", "sendmail.py": ""}.get(self.name, "Connection.failure")
        return call.func.attr if call.func.attr in ("error", "_failed") else ""

    def failure(self, call: ast.Call, arguments: tuple[int, ...], function: Function) -> Iterator[tuple[str, str]]:
        given = [call.args[number] for number in arguments if number < len(call.args)]
        advice = next((keyword.value for keyword in call.keywords if keyword.arg == "advice"), None)
        if arguments == (1,) and len(call.args) > 2:
            advice = call.args[2]
        advices = self.texts(advice, function) if advice is not None else {""}
        for parts in product(*(self.texts(part, function) for part in given)):
            sentence = " ".join(filter(None, parts))
            if any(char.isalpha() for char in sentence):
                for one in advices:
                    yield sentence, one if any(char.isalpha() for char in one) else ""

    def texts(self, expression: ast.expr, function: Function, within: tuple[str, ...] = ()) -> set[str]:
        """What an expression can say; `within` are the names it is the value of."""

        def texts(part: ast.expr) -> set[str]:
            return self.texts(part, function, within)

        match expression:
            case ast.Constant(value=str(text)):
                return {text}
            case ast.JoinedStr(values=parts):
                return {"".join(words) for words in product(*(sorted(texts(part)) for part in parts))}
            case ast.FormattedValue(value=ast.Name(id=name)) if name.isupper():
                return {"..."}
            case ast.FormattedValue(value=ast.IfExp(body=ast.Constant(), orelse=ast.Constant()) as choice):
                return texts(choice)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return {a + b for a, b in product(texts(left), texts(right))}
            case ast.IfExp(body=body, orelse=orelse):
                return texts(body) | texts(orelse)
            case ast.BoolOp(values=values):
                return {text for value in values for text in texts(value)}
            case ast.Name(id=name) if name not in within:
                assigned = self.assigned(name, function, expression.lineno)
                return {text for value in assigned for text in self.texts(value, function, (*within, name))} or {"..."}
            case ast.Call(func=ast.Name(id=name)) if (made := self.returned(name)) is not None:
                return self.texts(*made)
        return {"..."}

    def assigned(self, name: str, function: Function, before: int) -> Iterator[ast.expr]:
        """The values a name gets in the function before it is used in that line, or else in the module."""
        for place in (function, self.tree):
            values = []
            for node in ast.walk(place) if place is function else self.tree.body:
                if not isinstance(node, ast.Assign):
                    continue
                for target in node.targets:
                    pairs = [(target, node.value)]
                    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                        pairs = list(zip(target.elts, node.value.elts, strict=True))
                    values += [value for at, value in pairs if isinstance(at, ast.Name) and at.id == name]
            values = [value for value in values if place is self.tree or value.lineno <= before]
            if values:
                yield from values
                return

    def returned(self, name: str) -> tuple[ast.expr, Function] | None:
        """What a function of this module returns, where it is one expression."""
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef) and node.name == name and len(node.body) <= 2:
                last = node.body[-1]
                if isinstance(last, ast.Return) and last.value is not None:
                    return last.value, node
        return None
