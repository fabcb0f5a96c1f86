"""Where each key of a TOML text stands: `tomllib` keeps values without positions, tree-sitter knows the positions."""

from __future__ import annotations

import tomllib

import tree_sitter_toml
from tree_sitter import Language, Node, Parser

from connector.settings.faults import Path

_KEYS = ("bare_key", "quoted_key", "dotted_key")


def of(text: str) -> dict[Path, int]:
    """The line, counted from 1, of every table, key and list entry in a text that `tomllib` has accepted."""
    parser = Parser(Language(tree_sitter_toml.language()))
    lines: dict[Path, int] = {}
    entries: dict[Path, int] = {}  # how many [[tables]] each list of tables has so far
    for node in parser.parse(text.encode()).root_node.named_children:
        if node.type == "pair":
            _pair(node, (), lines)
        elif node.type in ("table", "table_array_element"):
            _table(node, lines, entries)
    return lines


def line(lines: dict[Path, int], where: Path) -> int | None:
    """The line of a place; of the table or list around it, when it is missing from the text itself."""
    for length in range(len(where), 0, -1):
        if where[:length] in lines:
            return lines[where[:length]]
    return None


def _table(node: Node, lines: dict[Path, int], entries: dict[Path, int]) -> None:
    at: Path = ()
    header, *pairs = (child for child in node.named_children if child.type in (*_KEYS, "pair"))
    for name in _names(header):
        at += (name,)
        lines.setdefault(at, header.start_point.row + 1)
        if at in entries:
            # [list.key] after [[list]] means the newest entry.
            at += (entries[at] - 1,)
    if node.type == "table_array_element":
        at = at[:-1] if isinstance(at[-1], int) else at
        entries[at] = entries.get(at, 0) + 1
        at += (entries[at] - 1,)
    # [a.b] may stand before [a]: the header itself is the better place.
    lines[at] = header.start_point.row + 1
    for pair in pairs:
        _pair(pair, at, lines)


def _pair(pair: Node, table: Path, lines: dict[Path, int]) -> None:
    """Notes a key and all that is inside its value. A loop, as nesting may be deeper than Python's stack."""
    waiting: list[tuple[Node, Path]] = [(pair, table)]
    while waiting:
        node, at = waiting.pop()
        if node.type == "pair":
            key, *values = (child for child in node.named_children if child.type != "comment")
            for name in _names(key):
                at += (name,)
                lines.setdefault(at, key.start_point.row + 1)
            waiting += [(value, at) for value in values]
        elif node.type == "inline_table":
            waiting += [(child, at) for child in node.named_children if child.type == "pair"]
        elif node.type == "array":
            listed = [child for child in node.named_children if child.type not in ("comment", "ERROR")]
            for index, child in enumerate(listed):
                lines[*at, index] = child.start_point.row + 1
                waiting.append((child, (*at, index)))


def _names(key: Node) -> list[str]:
    """The names in a dotted key, unquoted and unescaped by TOML's own rules."""
    names = []
    value: object = tomllib.loads(f"{(key.text or b'').decode()} = 0")
    while isinstance(value, dict):
        name, value = next(iter(value.items()))
        names.append(name)
    return names
