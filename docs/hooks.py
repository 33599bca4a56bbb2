"""Pages that live beside the code are part of the site, and links work on the site as they do in the repository."""

import posixpath
import re
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
SITE_FOLDER = "repository"
FIGURES = ("resources/figures/*.svg", "resources/figures/*.png")
_LINK = re.compile(r"(\]\()([^)\s:#]+)(#[^)\s]*)?(\))")


def on_files(files, config):
    """Add the figures, and the pages that the navigation takes from outside docs/."""
    pages = [page for page in _pages(config["nav"]) if page.startswith(f"{SITE_FOLDER}/")]
    figures = [path.relative_to(ROOT).as_posix() for pattern in FIGURES for path in sorted(ROOT.glob(pattern))]
    for path in [*(page.removeprefix(f"{SITE_FOLDER}/") for page in pages), *figures]:
        files.append(File.generated(config, f"{SITE_FOLDER}/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown, page, files, **_):
    """Point links at places in the repository to where these are on the site."""
    here = _in_repository(page.file.src_uri)

    def moved(match):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), match[2]))
        on_site = _on_site(target)
        if on_site not in files.src_uris:
            raise PluginError(f"{here} links to {match[2]}, which is no page: name it in `code` instead.")
        return f"{match[1]}{posixpath.relpath(on_site, posixpath.dirname(page.file.src_uri) or '.')}{match[3] or ''})"

    return _LINK.sub(moved, markdown)


def _pages(nav):
    for item in nav:
        for value in item.values():
            yield from [value] if isinstance(value, str) else _pages(value)


def _in_repository(uri):
    return uri.removeprefix(f"{SITE_FOLDER}/") if uri.startswith(f"{SITE_FOLDER}/") else f"docs/{uri}"


def _on_site(path):
    return path.removeprefix("docs/") if path.startswith("docs/") else f"{SITE_FOLDER}/{path}"
