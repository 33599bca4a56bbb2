"""Write what code lists once into the documentation: `python scripts/document_columns.py`.

The columns of the final tables go into docs/outputs.md; the settings and the words of people's tables into
docs/settings.md; the reasons for which something is not used into docs/faq.md.
"""

from collections.abc import Callable
from pathlib import Path

import yaml
from mettrail import reasons, schema, settings
from mettrail.schema import vocabulary

ROOT = Path(__file__).parents[1]
OUTPUTS, SETTINGS, FAQ = (ROOT / "docs" / f"{page}.md" for page in ("outputs", "settings", "faq"))


def renew_outputs(text: str) -> str:
    """Return docs/outputs.md with every column as it is now."""
    return schema.renew_markdown(text)


def renew_settings(text: str) -> str:
    """Return docs/settings.md with every setting, and every word of a table, as it is now."""
    rules = yaml.safe_load((ROOT / "workflow" / "schemas" / "config.yaml").read_text(encoding="utf-8"))
    defaults = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    return vocabulary.renew_markdown(settings.renew_markdown(text, rules, defaults))


def renew(page: Path, make: Callable[[str], str]) -> None:
    """Write a page anew."""
    page.write_text(make(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    renew(OUTPUTS, renew_outputs)
    renew(SETTINGS, renew_settings)
    renew(FAQ, reasons.renew_markdown)
