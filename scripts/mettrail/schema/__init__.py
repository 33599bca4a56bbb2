"""Tables: their columns, the words people may write in theirs, and how all of them are read and written."""

from mettrail.schema.columns import BRAIN, COMPARISONS, LESIONS, MISSING, PATIENTS, SESSIONS, TREATED_LESIONS, Column
from mettrail.schema.io import (
    data_dictionary,
    empty,
    make_table,
    markdown_table,
    read_table,
    read_tables,
    read_tsv,
    read_tsvs,
    renew_markdown,
    write_csv_mirror,
    write_table,
    write_tsv,
)
from mettrail.schema.kinds import KEYS, KINDS, column, columns, levels

__all__ = [
    "BRAIN",
    "COMPARISONS",
    "KEYS",
    "KINDS",
    "LESIONS",
    "MISSING",
    "PATIENTS",
    "SESSIONS",
    "TREATED_LESIONS",
    "Column",
    "column",
    "columns",
    "data_dictionary",
    "empty",
    "levels",
    "make_table",
    "markdown_table",
    "read_table",
    "read_tables",
    "read_tsv",
    "read_tsvs",
    "renew_markdown",
    "write_csv_mirror",
    "write_table",
    "write_tsv",
]
