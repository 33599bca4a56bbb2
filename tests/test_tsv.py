"""Tables as spreadsheets, editors and converters leave them: read as they stand, or refused by line."""

import pytest
from mettrail.errors import InputError
from mettrail.schema import tsv

TEXT = 'name\tage\tnote\nA\t61\tn/a\nB\t\tsaid "no"\n'
ROWS = [{"name": "A", "age": "61", "note": "n/a"}, {"name": "B", "age": "", "note": 'said "no"'}]


def read(tmp_path, data, **columns):
    path = tmp_path / "table.tsv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return tsv.read_table(path, **({"needed": ["name"]} | columns))


@pytest.mark.parametrize(
    "data",
    [
        TEXT,
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        TEXT.replace("\n", "\r\n"),
        TEXT.replace("\n", "\r"),
        TEXT.rstrip("\n"),
        TEXT + "\n\n",
        TEXT + "\t\t\n  \n",
        TEXT.replace("\t", " \t "),
        TEXT.replace("\n", "\t\n"),
        "\n" + TEXT,
    ],
    ids=["plain", "bom", "utf16", "utf16be", "crlf", "cr", "no last break", "blank lines", "empty rows", "blanks",
         "a tab too many in all lines", "blank line before"],
)  # fmt: skip
def test_one_table_saved_in_many_ways_reads_the_same(tmp_path, data):
    assert read(tmp_path, data, needed=[]).rows == ROWS


def test_rows_know_the_line_they_stand_in(tmp_path):
    assert read(tmp_path, "name\r\nA\r\n\r\nB\r\n").lines == [2, 4]
    (tmp_path / "t.tsv").write_text("name\nA\n\nB\n")
    assert tsv.read_frame(tmp_path / "t.tsv").index.tolist() == [2, 4]


def test_letters_of_an_8_bit_code_harm_no_other_cell(tmp_path):
    table = read(tmp_path, "name\tnote\nA\tMélanome\nB\tx\n".encode("cp1252"))
    assert table.rows == [{"name": "A", "note": "Mélanome"}, {"name": "B", "note": "x"}]


def test_signs_that_break_lines_elsewhere_stay_in_their_cell(tmp_path):
    assert (
        read(tmp_path, "name\tnote\nA\tone\u2028two\x0cthree\x85four\n").rows[0]["note"]
        == "one\u2028two\x0cthree\x85four"
    )


@pytest.mark.parametrize("header", ["Name", "NAME ", '"name"', " na-me", "#name"])
def test_a_column_is_known_in_any_spelling(tmp_path, header):
    assert read(tmp_path, f"{header}\tage\nA\t61\n").columns == ["name", "age"]


@pytest.mark.parametrize(
    ("data", "where", "found"),
    [
        ("name\tage\nA\t61\t\n", "line 2", "3 cells, the last of them empty"),
        ("name\tage\nA\t61\nB\n", "line 3", "1 cells"),
        ("name\tage\nA\t61\tx\n", "line 2", "3 cells"),
        ("name\tnote\nA\t\"two\nlines\"\n", "line 3", "1 cells"),
        ("name\t\tage\nA\tx\t61\n", "line 1", "no name for column 2"),
        ("name\tage\tAge\nA\t61\t62\n", "line 1", "more than one column age"),
        ("name,age\nA,61\n", "table.tsv", "separated by commas"),
        ("name;age\nA;61\n", "table.tsv", "separated by semicolons"),
        ("name   age\nA   61\n", "table.tsv", "separated by blanks"),
        ("age\tnote\n61\tx\n", "line 1", "columns age, note"),
        ("# exported by hand\nname\tage\nA\t61\n", "line 1", "columns # exported by hand"),
        ("# exported by hand\nA\n", "line 1", "columns # exported by hand"),
        ("", "table.tsv", "an empty file"),
        (" \n\t\n", "table.tsv", "an empty file"),
        (b"name\tage\nA\t6\x001\n", "table.tsv", "zero bytes"),
        (TEXT.encode("utf-16-le"), "table.tsv", "zero bytes"),
        (TEXT.encode("utf-16")[:-1], "table.tsv", "zero bytes"),
        (TEXT.encode("utf-32"), "table.tsv", "zero bytes"),
        (b"PK\x03\x04\x14\x00\x06\x00", "table.tsv", "zero bytes"),
    ],
)  # fmt: skip
def test_what_could_be_read_wrongly_is_refused_by_line(tmp_path, data, where, found):
    with pytest.raises(InputError) as error:
        read(tmp_path, data, known=["age"])
    assert error.value.what.endswith(where)
    assert found in error.value.found
    assert error.value.reason == "bad_table"


@pytest.mark.parametrize("name", ["treatment_start_data", "treatmnt_start_date", "treatment_start_dates"])
def test_a_column_that_is_nearly_a_known_one_is_asked_for(tmp_path, name):
    with pytest.raises(InputError, match=r"did you mean treatment_start_date\?") as error:
        read(tmp_path, f"name\t{name}\nA\t2031-01-15\n", known=["treatment_start_date"])
    assert error.value.reason == "unknown_column"


@pytest.mark.parametrize("name", ["treatment_end_date", "treatment_stop_date", "treatment_start_date_2", "start_date"])
def test_other_columns_are_left_alone(tmp_path, name):
    header = f"name\t{name}" + "\ttreatment_start_date" * name.endswith("_2")
    assert name in read(tmp_path, f"{header}\n", known=["treatment_start_date"]).columns


def test_a_table_that_is_no_file_is_said_to_be_none(tmp_path):
    (tmp_path / "link.tsv").symlink_to(tmp_path / "nowhere.tsv")
    (tmp_path / "folder.tsv").mkdir()
    assert tsv.is_given(tmp_path / "link.tsv")
    with pytest.raises(InputError, match="leads nowhere"):
        tsv.read_table(tmp_path / "link.tsv")
    with pytest.raises(InputError, match="no file that can be read"):
        tsv.read_table(tmp_path / "folder.tsv")
