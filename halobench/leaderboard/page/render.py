"""Templates to HTML: everything escaped, one script and one style for all pages, and nothing else may run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from halobench.leaderboard.stats import LEVEL, MIN_SEEDS, POWER

_FOLDER = Path(__file__).parent
# What no page or parser should meet: control characters but tab and line feed, and halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_SLUG_LENGTH = 40


def render(template: str, path: str, version: str, **context: Any) -> str:
    """Render a page.

    Args:
        template: name of its template, without suffix.
        path: of the page within the leaderboard's folder; it says where the other pages are from there.
        version: digest of the results.
        context: of the template.
    """
    return (
        _environment()
        .get_template(f"{template}.html.jinja")
        .render(root="../" * path.count("/"), path=path, version=version, alone=False, **context)
    )


def render_alone(template: str, version: str, **context: Any) -> str:
    """Render a page that stands for itself: it leads to no other one."""
    return (
        _environment()
        .get_template(f"{template}.html.jinja")
        .render(root="", path="", version=version, alone=True, **context)
    )


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=printable,
        auto_reload=False,
    )
    script = (_FOLDER / "script.js").read_text(encoding="utf-8")
    style = (_FOLDER / "style.css").read_text(encoding="utf-8")
    environment.filters |= {"href": quote, "json": json_data}
    environment.globals |= {
        "script": Markup(script),
        "style": Markup(style),
        "script_hash": csp_hash(script),
        "style_hash": csp_hash(style),
        "level": f"{LEVEL:.0%}",
        "power": f"{POWER:.0%}",
        "min_seeds": MIN_SEEDS,
    }
    return environment


def printable(value: Any) -> Any:
    """Replace what a page cannot hold, such as NUL; markup of ours and other types pass."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _UNPRINTABLE.sub("\ufffd", value.replace("\r\n", "\n"))
    return value


def csp_hash(text: str) -> str:
    """Name of an inline script or style in the Content-Security-Policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def json_data(value: Any) -> Markup:
    """Render as JSON that can stand in a script element: no text in it can end the element."""
    text = _UNPRINTABLE.sub("\ufffd", json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def slug(name: str) -> str:
    """Name a file or an anchor after any text: safe on every file system, whatever else there is.

    A name that is one already stays as it is; any other gets the beginning of its digest, so that no two
    names give the same.
    """
    plain = re.sub(r"[^a-z0-9_.]+", "-", name.lower()).strip("-.")[:_SLUG_LENGTH].rstrip("-.")
    if plain and plain == name and "-vs-" not in f"-{name}-":
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain}-".replace("-vs-", "-").lstrip("-") + digest
