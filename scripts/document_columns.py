"""Write the columns of the final tables into the README, from their one list: `python scripts/document_columns.py`."""

from pathlib import Path

from mettrail import tables

if __name__ == "__main__":
    readme = Path(__file__).parents[1] / "README.md"
    readme.write_text(tables.renew_markdown(readme.read_text(encoding="utf-8")), encoding="utf-8")
