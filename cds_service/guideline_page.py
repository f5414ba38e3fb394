"""``GET /guideline``: the tables as a page that a clinician reads, made from the tables that this process runs.

No script, no patient data. Without the examples, which live beside the tests and not in the package; the page
``docs/guideline.md`` has them.
"""

from __future__ import annotations

from pathlib import Path

from flask import Response, render_template

from guideline.render import HOW_TO_READ, NO_ROW, page_of
from guideline.tables import Tables

_STYLE = Path(__file__).parent / "templates" / "guideline.css"
# Stricter than it looks: nothing may be loaded but the style sheet of this service.
_POLICY = {"Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'"}


def guideline_page(tables: Tables) -> Response:
    """The page in HTML. Jinja escapes every text."""
    page = page_of(tables, {})
    html = render_template("guideline.html", page=page, how_to_read=HOW_TO_READ, no_row=NO_ROW)
    return Response(html, content_type="text/html; charset=utf-8", headers=_POLICY)


def guideline_style() -> Response:
    return Response(_STYLE.read_bytes(), content_type="text/css; charset=utf-8")
