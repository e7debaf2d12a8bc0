"""CSS rules into style attributes, because several mail programs drop the style element.

Rules that cannot be inlined (media queries, :hover) stay where they are.
"""

from __future__ import annotations

import css_inline

from sending.content.errors import ContentError
from sending.content.native import panics_refused

# remote stylesheets are fetched by default: a tenant could make the worker read internal addresses
_INLINER = css_inline.CSSInliner(
    load_remote_stylesheets=False,
    keep_style_tags=True,
    keep_link_tags=True,
    keep_at_rules=True,
    remove_inlined_selectors=True,
)


def inline_css(html: str) -> str:
    """Return the whole document with its CSS inlined; raises ContentError for unreadable CSS."""
    try:
        with panics_refused("The CSS of this page cannot be read."):
            return str(_INLINER.inline(html))
    except css_inline.InlineError as error:
        raise ContentError(
            f"The CSS cannot be read ({error}): check style elements and style attributes.",
            code="css",
        ) from error
