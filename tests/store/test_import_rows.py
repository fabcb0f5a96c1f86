"""Files of rows, before anything is stored: how they are opened, what their columns hold, and what refuses them."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector import errors
from connector.commands import import_options
from connector.commands.rows import Line, Shape, csv_rows, event_rows, message_rows, source, user_rows
from connector.commands.rows.source import DEFAULTS, Options


def ignore(_read: int, _total: int) -> None:
    """Progress that nobody looks at."""


def lines(path: Path, shape: Shape = user_rows.SHAPE, options: Options = DEFAULTS) -> list[Line]:
    with source.opened(path, shape, options, ignore) as opened:
        return list(opened.lines())


def values(tmp_path: Path, text: str | bytes, options: Options = DEFAULTS) -> list[Any]:
    path = tmp_path / "u.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [line.values for line in lines(path, options=options)]


@pytest.mark.parametrize(
    ("cells", "read"),
    [
        (("1", "20"), [1, 20]),
        (("1", "2.5", "-3"), [1, 2.5, -3]),
        (("56.92038748222122", "0.30000000000000004"), [56.92038748222122, 0.30000000000000004]),
        (("true", "FALSE", "True"), [True, False, True]),
        (("1", "true"), ["1", "true"]),
        (("01", "2"), ["01", "2"]),
        (("1", "1e5"), ["1", "1e5"]),
        (("1", "٣"), ["1", "٣"]),
        (("1234567890123456", "1"), ["1234567890123456", "1"]),
        (("", "7"), [None, 7]),
        (("", ""), [None, None]),
    ],
)
def test_a_column_is_what_all_of_its_cells_are(tmp_path: Path, cells: tuple[str, ...], read: list[Any]) -> None:
    found = values(tmp_path, "external_id,x\n" + "".join(f"{n},{cell}\n" for n, cell in enumerate(cells)))
    assert [each.get("x") for each in found] == read
    assert [type(each.get("x")) for each in found] == [type(each) for each in read]


def test_a_cell_in_the_last_row_decides_as_one_in_the_first(tmp_path: Path) -> None:
    found = values(tmp_path, "external_id,x\n" + "a,1\n" * 2500 + "a,x\n")
    assert {type(each["x"]) for each in found} == {str}


def test_a_row_of_another_width_says_nothing_about_the_columns(tmp_path: Path) -> None:
    assert values(tmp_path, "external_id,x\n1,2\n3,text,too many\n")[0] == {"external_id": "1", "x": 2}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_separator_is_the_one_that_finds_the_columns(tmp_path: Path, separator: str) -> None:
    rows = [["external_id", '"name, first"', "x"], ["1", '"a;b"', "2"]]
    text = "".join(separator.join(row) + "\r\n" for row in rows)
    assert values(tmp_path, text) == [{"external_id": "1", "name, first": "a;b", "x": 2}]


def test_a_renamed_column_helps_to_find_the_separator(tmp_path: Path) -> None:
    text = "No, of the customer;x\n7;8\n"
    assert values(tmp_path, text, Options(None, {"no, of the customer": "external_id"}, {})) == [
        {"external_id": "7", "x": 8}
    ]


def test_lines_are_numbered_by_where_a_row_begins(tmp_path: Path) -> None:
    path = tmp_path / "u.csv"
    path.write_text('external_id,note\n\n1,"two\nlines"\n2,x\n')
    assert [line.number for line in lines(path)] == [3, 5]


def test_rows_of_empty_cells_are_none_as_spreadsheets_leave_them(tmp_path: Path) -> None:
    assert values(tmp_path, "external_id;plan\n1;pro\n;\n;\n") == [{"external_id": "1", "plan": "pro"}]


def test_names_with_a_blank_part_are_taken_as_they_stand(tmp_path: Path) -> None:
    assert values(tmp_path, "external_id,a..b,.c\n1,2,3\n") == [{"external_id": "1", "a..b": 2, ".c": 3}]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("users.xlsx", b"x", "name the file .csv or .jsonl"),
        ("users.csv", b"", "is empty"),
        ("users.csv", b"name,plan\nx,y\n", "needs a column external_id, email or anonymous_id"),
        ("users.csv", b"external_id,plan, plan\n", "names a column twice: plan"),
        ("users.csv", b"email,E-mail,EMAIL\n", "names a column twice: email"),
        ("users.csv", b"external_id,,x\n1,here,2\n", "column 2 holds something and its header is blank"),
        ("users.csv", b"external_id," + b"a." * 100 + b"b\n", "100 dots or more"),
        ("users.csv", "external_id,n\n1,ä\n".encode("latin-1"), "is not UTF-8"),
        ("users.csv", "external_id,n\n1,2\n".encode("utf-16"), "is not UTF-8"),
        ("users.csv", b"external_id,n\n1," + b"x" * 200_000 + b"\n", "can't be read as CSV, line 2"),
        ("users.csv", b"external_id,n\n1," + b"x" * 1_200_000 + b"\n", "line 2 is longer than 1 MiB"),
        ("users.csv", b'external_id,n\n1,"never closed\n2,x\n', "line 3: .*; a quote there or further up may not"),
        ("users.csv", b'external_id,n\n1,"a"b\n', "can't be read as CSV, line 2"),
        ("users.csv.gz", b"external_id\n1\n", "is named .gz and is no gzip file"),
        ("users.csv.gz", gzip.compress(b"external_id\n1\n" * 99, mtime=0)[:-9], "can't be read: Compressed file ended"),
        ("users.csv.gz", gzip.compress(b"external_id\n1\n", mtime=0)[:9] + b"\xff" * 40, "can't be read: "),
        ("users.jsonl", b'\n[{"external_id": "1"}]', "begins with a JSON list"),
        ("absent.csv", None, "can't be read: No such file"),
    ],
)
def test_a_file_that_can_not_be_read_says_what_to_do(
    tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(errors.Misconfigured, match=words):
        lines(path)


@pytest.mark.parametrize(
    ("name", "content", "options", "words"),
    [
        ("u.csv", "external_id\n", Options(None, {"e-mail": "email"}, {}), "--map: .* has no column e-mail; it has"),
        ("u.csv", "external_id\n", Options(None, {}, {"age": "number"}), "--types: .* has no column age"),
        ("u.jsonl", "{}", Options(None, {"e-mail": "email"}, {}), "--map and --types are for CSV"),
    ],
)
def test_options_that_fit_nothing_are_refused(
    tmp_path: Path, name: str, content: str, options: Options, words: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(errors.Misconfigured, match=words):
        lines(path, options=options)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("external_id,name", "needs a column occurred_at"),
        ("external_id,occurred_at", "needs a column name"),
        ("name,occurred_at", "needs a column external_id"),
        ("external_id,name,occurred_at,total", "unknown_column: total .* --map 'total=properties.total'"),
        ("external_id,name,occurred_at,properties", "unknown_column: properties"),
    ],
)
def test_a_csv_that_can_not_hold_events_is_refused_before_it_starts(tmp_path: Path, header: str, words: str) -> None:
    path = tmp_path / "e.csv"
    path.write_text(header + "\n")
    with pytest.raises(errors.Misconfigured, match=words):
        lines(path, event_rows.SHAPE)


def test_messages_are_never_read_from_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("type\n")
    with pytest.raises(errors.Misconfigured, match="messages come one a line, as JSON"):
        lines(path, message_rows.SHAPE)


def test_options_are_read_as_people_write_them() -> None:
    assert import_options.renamed(["E-mail = email", "a=b=c"]) == {"e-mail": "email", "a=b": "c"}
    assert import_options.types("plan=text, Age = Number ,") == {"plan": "text", "Age": "number"}
    for wrong in ("email", "=email", "E-mail="):
        with pytest.raises(errors.Misconfigured, match="--map"):
            import_options.renamed([wrong])
    with pytest.raises(errors.Misconfigured, match="names X twice"):
        import_options.renamed(["x=a", "X=b"])
    for wrong in ("plan", "plan=money", "=text"):
        with pytest.raises(errors.Misconfigured, match="types are text, integer, number, boolean"):
            import_options.types(wrong)


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@given(
    rows=st.lists(st.tuples(CELL, CELL, CELL), min_size=1),
    separator=st.sampled_from(",;\t"),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_whatever_a_cell_says_is_what_is_read(rows: list[tuple[str, str, str]], separator: str, end: str) -> None:
    file = io.StringIO(newline="")
    written = csv.writer(file, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL)
    written.writerow(["external_id", "a", "b"])
    written.writerows(rows)
    file.seek(0)
    layout = csv_rows.layout(file, "u.csv", user_rows.SHAPE, {}, {"a": "text", "b": "text"}, lambda: None)
    file.seek(0)
    found = [line.values for line in csv_rows.lines(file, "u.csv", layout)]
    expected = [dict(zip(("external_id", "a", "b"), row, strict=True)) for row in rows]
    assert found == [{name: cell for name, cell in row.items() if cell} for row in expected if any(row.values())]
