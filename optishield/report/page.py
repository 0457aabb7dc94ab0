"""The pages of reports: one template environment and one way to put the style sheets inside a page."""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

_FOLDER = "templates"


@cache
def environment() -> jinja2.Environment:
    """The environment of all templates: texts are escaped, and a name that is not defined is an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("optishield.report", _FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_page(template: str, sheets: tuple[str, ...], context: dict[str, Any]) -> str:
    """A whole page as text.

    Args:
        template: Name of the template.
        sheets: Names of the style sheets, which are written into the page so that it needs no other file.
        context: Values that the template shows, by name.

    Returns:
        The HTML of the page.
    """
    made = environment()
    styles = [made.loader.get_source(made, name)[0] for name in sheets if made.loader is not None]
    return made.get_template(template).render(style=Markup("\n".join(styles)), **context)
