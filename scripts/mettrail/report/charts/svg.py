"""Charts as SVG: marks that say what they are, colours of the reader's screen, and how a page takes a chart in.

A mark has a title, which browsers show where it is pointed at. Alone, a chart is a file in ``figures``; inside a page
its marks are links, and the page's script makes them readable by touch and by keyboard, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from matplotlib.artist import Artist

from mettrail.report.figures import BAND, GRID, INK, MUTED, PAPER, RESPONSE_COLOURS

# The colours of charts on dark screens.
_DARK = {INK: "#e7eaee", MUTED: "#98a2b0", GRID: "#30363f", PAPER: "#15181c", BAND: "#23282f"}
_FONTS = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
ElementTree.register_namespace("", _SVG[1:-1])
ElementTree.register_namespace("xlink", _LINK[1:-5])


def say(artist: Artist, words: str, place: str = "") -> None:
    """Let a mark say what it is; `place` is what it is about, for the page to lead there (`embed`)."""
    # Matplotlib writes this as the id of the mark's group, `finish` makes a title of it.
    artist.set_gid(json.dumps([words, place]))


def finish(svg: str) -> str:
    """Give Matplotlib's SVG titles of its marks, the reader's fonts and colours, and take out what nothing needs."""
    root = ElementTree.fromstring(re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL))
    # Matplotlib's own styles speak of all elements, also of those of a page.
    for defs in root.findall(f"{_SVG}defs"):
        if defs.find(f"{_SVG}style") is not None:
            root.remove(defs)
    used = set(re.findall(r"#([\w.-]+)", svg))
    for element in root.iter():
        _tidy(element)
        name = element.get("id", "")
        if name.startswith("["):
            _entitle(element, *json.loads(name))
        if name not in used:
            element.attrib.pop("id", None)
    style = ElementTree.Element(f"{_SVG}style")
    style.text = _theme()
    root.insert(0, style)
    root.set("style", f"font-family: {_FONTS}; stroke-linejoin: round")
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _entitle(group: ElementTree.Element, words: str, place: str) -> None:
    """Make a group a mark."""
    group.set("class", "mark")
    if place:
        group.set("data-place", place)
    title = ElementTree.Element(f"{_SVG}title")
    title.text = words
    group.insert(0, title)


def _tidy(element: ElementTree.Element) -> None:
    """Take out blanks, digits that no screen shows, and fonts, which the whole chart has."""
    element.tail = None
    if not (element.text or "").strip():
        element.text = None
    for name in ("d", "x", "y"):
        if name in element.attrib:
            digits = re.sub(r"(\.\d\d)\d+", r"\1", element.attrib[name])
            element.set(name, " ".join(digits.split()))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    if "style" in element.attrib:
        element.set("style", re.sub(r"font-family: [^;]*(; |$)", "", element.attrib["style"]))


def embed(path: str | Path, alt: str, address_of: Callable[[str], str]) -> str:
    """Return a chart as a part of a page; its marks lead where `address_of` says, which is empty for no link.

    Parameters
    ----------
    path : path
        An SVG that `finish` has made.
    alt : str
        What the chart shows, for those who do not see it.
    address_of : callable
        Address of what a mark is about.
    """
    root = ElementTree.parse(path).getroot()
    any_mark = False
    for element in root.iter():
        if element.get("class") == "mark":
            any_mark = True
            address = address_of(element.attrib.pop("data-place", ""))
            if address:
                element.tag = f"{_SVG}a"
                element.set("href", address)
        if _LINK in element.attrib:
            element.set("href", element.attrib.pop(_LINK))
    # What is inside a picture cannot be reached.
    root.set("role", "group" if any_mark else "img")
    root.set("aria-label", alt)
    return ElementTree.tostring(root, encoding="unicode")


def _theme() -> str:
    """Return rules that give an SVG dark colours on dark screens."""
    rules = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark} !important}}'
        for light, dark in _DARK.items()
        for kind in ("fill", "stroke")
    )
    # Text in the colour of a response is too dark on black; its marks and bars are not.
    rules += "".join(
        f'text[style*="fill: {RESPONSE_COLOURS[response][0]}"]{{fill:{light} !important}}'
        for response, light in (("PD", "#ec8a76"), ("CR", "#4fc3b5"))
    )
    return f"@media screen and (prefers-color-scheme: dark){{{rules}}}"
