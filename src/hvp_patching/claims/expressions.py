"""What an expression of queries.yaml may say: arithmetic and comparisons of a table's columns.

pandas evaluates it, and would also call any method (one that writes a file) and read the names of
our own modules. Only what is listed here reaches it.
"""

from __future__ import annotations

import ast

from hvp_patching.failures import one_line, shown

LONGEST = 500  # characters
LARGEST = 1e15  # of a number
FUNCTIONS = ("abs", "sqrt", "log", "log10", "log1p", "exp", "floor", "ceil")
OF_COLUMNS = (
    *("abs", "astype", "between", "clip", "count", "cummax", "cummin", "cumsum", "diff", "fillna"),
    *("groupby", "iloc", "isin", "isna", "max", "mean", "median", "min", "notna", "nunique"),
    *("quantile", "rank", "round", "shift", "std", "sum", "transform"),
)
OF_TEXTS = ("cat", "contains", "endswith", "len", "lower", "replace", "startswith", "upper")
OPERATIONS = (
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Mod, ast.FloorDiv, ast.Pow, ast.BitAnd, ast.BitOr),
    *(ast.BitXor, ast.USub, ast.UAdd, ast.Not, ast.Invert, ast.And, ast.Or),
    *(ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn),
)
PARTS = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.List, ast.Tuple),
    *(ast.keyword, ast.Load, *OPERATIONS),
)


def fault_of(expression: str) -> str:
    """What in an expression is not allowed, in words; "" where nothing is."""
    if not isinstance(expression, str):
        return f"{shown(expression)} is no text"
    if len(expression) > LONGEST or "\n" in expression:
        return f"it is longer than one line of {LONGEST} characters"
    try:
        tree = ast.parse(expression.strip(), mode="eval")
        faults = [_fault(node) for node in ast.walk(tree)]
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        return f"it cannot be read ({one_line(error)})"
    if (
        sum(isinstance(node, ast.Attribute) and node.attr == "replace" for node in ast.walk(tree))
        > 1
    ):
        faults.append("more than one replace")
    return next(filter(None, faults), "")


def _fault(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return f"{node.id} begins with '_'" if node.id.startswith("_") else ""
    if isinstance(node, ast.Constant):
        return _of_constant(node.value)
    if isinstance(node, ast.Attribute):
        return _of_attribute(node)
    if isinstance(node, ast.Call):
        return _of_call(node)
    if isinstance(node, ast.Subscript):
        picked = isinstance(node.value, ast.Attribute) and node.value.attr == "iloc"
        return "" if picked else "only iloc takes brackets"
    if isinstance(node, ast.BinOp):
        return _of_operation(node)
    return "" if isinstance(node, PARTS) else f"{type(node).__name__} is not allowed"


def _of_constant(value: object) -> str:
    if isinstance(value, bool | str) or value is None:
        return ""
    if isinstance(value, int | float) and abs(value) <= LARGEST:
        return ""
    return f"{shown(value)} is no number up to {LARGEST:g}"


def _of_attribute(node: ast.Attribute) -> str:
    of_text = isinstance(node.value, ast.Attribute) and node.value.attr == "str"
    known = OF_TEXTS if of_text else (*OF_COLUMNS, "str")
    return "" if node.attr in known else f".{node.attr} is not allowed"


def _of_call(node: ast.Call) -> str:
    if isinstance(node.func, ast.Name) and node.func.id not in FUNCTIONS:
        return f"{node.func.id}() is not allowed"
    if not isinstance(node.func, ast.Name | ast.Attribute):
        return "a call of what is no function"
    if any(isinstance(part, ast.Starred) or part is None for part in node.args):
        return "* in a call is not allowed"
    return "" if all(word.arg for word in node.keywords) else "** in a call is not allowed"


def _of_operation(node: ast.BinOp) -> str:
    """Texts times numbers, and powers of powers, can be as long as memory is."""
    sides = (node.left, node.right)
    if any(isinstance(side, ast.Constant) and isinstance(side.value, str) for side in sides):
        return "a text in arithmetic"
    if isinstance(node.op, ast.Pow):
        power = node.right
        small = isinstance(power, ast.Constant) and type(power.value) in (int, float)
        inner = [part for part in ast.walk(node.left) if isinstance(part, ast.Pow)]
        if not small or inner or abs(power.value) > 10:  # type: ignore[attr-defined]
            return "a power is a number up to 10, and of no other power"
    return "" if isinstance(node.op, OPERATIONS) else f"{type(node.op).__name__} is not allowed"
