"""Every name that the installed SDK's source defines: functions, parameters, fields, attributes.

Names in running text are looked up here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import daytona
import daytona_api_client.models
import daytona_toolbox_api_client.models


def defined_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        ):
            yield node.attr


@cache
def sdk_names() -> frozenset[str]:
    """Names of the `daytona` package and of the models that it hands out."""
    packages = [
        Path(str(module.__file__)).parent
        for module in (daytona, daytona_api_client.models, daytona_toolbox_api_client.models)
    ]
    names = {
        name
        for package in packages
        for path in package.rglob("*.py")
        for name in defined_in(ast.parse(path.read_text("utf-8")))
    }
    return frozenset(name for name in names if not name.startswith("_"))
