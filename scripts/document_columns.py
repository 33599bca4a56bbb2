"""Write what code lists once into the documentation: `python scripts/document_columns.py`.

The columns of the final tables go into README.md, the words of people's tables into config/README.md.
"""

from pathlib import Path

from mettrail import schema
from mettrail.schema import vocabulary

if __name__ == "__main__":
    root = Path(__file__).parents[1]
    readme, settings = root / "README.md", root / "config" / "README.md"
    readme.write_text(schema.renew_markdown(readme.read_text(encoding="utf-8")), encoding="utf-8")
    settings.write_text(vocabulary.renew_markdown(settings.read_text(encoding="utf-8")), encoding="utf-8")
