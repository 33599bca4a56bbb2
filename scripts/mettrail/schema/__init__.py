"""Tables: their columns, the words people may write in theirs, and how all of them are read and written."""

from mettrail.schema.columns import DTYPES, MISSING, WHOSE, Column
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
from mettrail.schema.lesions import COMPARISONS, LESIONS, of_stage
from mettrail.schema.patients import PATIENTS, TREATED_LESIONS
from mettrail.schema.sessions import BRAIN, SESSIONS

__all__ = [
    "BRAIN",
    "COMPARISONS",
    "DTYPES",
    "KEYS",
    "KINDS",
    "LESIONS",
    "MISSING",
    "PATIENTS",
    "SESSIONS",
    "TREATED_LESIONS",
    "WHOSE",
    "Column",
    "column",
    "columns",
    "data_dictionary",
    "empty",
    "levels",
    "make_table",
    "markdown_table",
    "of_stage",
    "read_table",
    "read_tables",
    "read_tsv",
    "read_tsvs",
    "renew_markdown",
    "write_csv_mirror",
    "write_table",
    "write_tsv",
]
