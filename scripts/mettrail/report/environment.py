"""Pages from templates.

A page is one file: styles, script and pictures are inside it, nothing is loaded from anywhere, and it forbids itself
to. It works from a disk, on paper, in the light and in the dark, and without JavaScript.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def environment() -> Environment:
    """Make the environment of the templates: pages escape all text, a name that is not given is an error."""
    return Environment(
        loader=PackageLoader("mettrail.report"),
        autoescape=lambda name: name is None or not name.endswith(".md.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(template: str, **shown: Any) -> str:
    """Fill a template.

    Parameters
    ----------
    template : str
        Name of a file in ``templates``.
    **shown
        What it shows.

    Raises
    ------
    jinja2.UndefinedError
        The template shows something that is not given.
    """
    return environment().get_template(template).render(shown)
