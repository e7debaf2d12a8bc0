"""Fills compiled content for one recipient after the other: Liquid, links, pixel."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial

from sending.content.errors import ContentError
from sending.content.liquid import Template, compile_template
from sending.content.types import CompiledContent, RenderContext, Rendered

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\s]+")
_URL_UNSAFE = re.compile(r"[\x00-\x20\x7f\"<>\\^`{|}]")
_GAPS = re.compile(r"\n{3,}")
_WEB = re.compile(r"^https?://[^/?#]", re.IGNORECASE)


def missing_fields(compiled: CompiledContent, variables: Mapping[str, object]) -> tuple[str, ...]:
    """Return the merge fields without default that `variables` leave undefined or empty."""
    return tuple(name for name in compiled.fields if _is_blank(variables.get(name)))


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


class _Addresses(dict[int, str]):
    """The addresses of one message's links, each made when it is asked for."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[int], str]) -> None:
        self._make = make

    def __missing__(self, index: int) -> str:
        url = self[index] = self._make(index)
        return url


class Renderer:
    """Parses the compiled content once and renders it for any number of recipients."""

    def __init__(self, compiled: CompiledContent) -> None:
        self.compiled = compiled
        self._subject = compile_template(compiled.subject, html=False)

    @cached_property
    def _html(self) -> tuple[Template, Template] | None:
        """The HTML without and with the pixel."""
        html = self.compiled.html
        if not html:
            return None
        return compile_template(html, html=True), compile_template(html, html=True, pixel=True)

    @cached_property
    def _text(self) -> Template:
        return compile_template(self.compiled.text, html=False)

    @cached_property
    def _links(self) -> tuple[Template, ...]:
        return tuple(compile_template(link.url, html=False) for link in self.compiled.links)

    def render(self, context: RenderContext) -> Rendered:
        """Return subject, HTML and text for one recipient; raises ContentError at a limit.

        The subject is one line whatever the values hold.
        """
        variables = variables_of(context)
        fill = partial(
            Template.render,
            variables=variables,
            link_writer=self.link_writer(variables, context),
            pixel_url=context.pixel_url or "",
            now=context.now,
        )
        html = self._html
        return Rendered(
            subject=self.subject(variables, context),
            html=fill(html[bool(context.pixel_url)]) if html else None,
            text=tidy(fill(self._text)),
        )

    def subject(self, variables: Mapping[str, object], context: RenderContext) -> str:
        """Return the subject on one line."""
        subject = self._subject.render(variables, now=context.now)
        if not subject.isprintable() or "  " in subject:
            subject = _CONTROL.sub(" ", subject)
        return subject.strip()

    def link_writer(
        self, variables: Mapping[str, object], context: RenderContext
    ) -> Callable[[int], str]:
        """Return a function with a link's address, which is made once for all parts."""
        make = context.link_url
        if make is None:
            make = partial(self._target_or_blank, variables=variables, context=context)
        return _Addresses(make).__getitem__

    def link_target(self, index: int, context: RenderContext) -> str:
        """Return where link `index` leads for this recipient.

        Raises ContentError when there is no such link, or when the values make something of it
        that is not a web address.
        """
        if not 0 <= index < len(self._links):
            raise ContentError("There is no such link.", code="link-unknown")
        return self._target(index, variables_of(context), context)

    def _target(self, index: int, variables: Mapping[str, object], context: RenderContext) -> str:
        url = self._links[index].render(variables, now=context.now).strip()
        url = _URL_UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", url)
        if not _WEB.match(url):
            raise ContentError("This link does not lead to a web address.", code="link-scheme")
        return url

    def _target_or_blank(
        self, index: int, variables: Mapping[str, object], context: RenderContext
    ) -> str:
        try:
            return self._target(index, variables, context)
        except ContentError:
            return "#"


def variables_of(context: RenderContext) -> dict[str, object]:
    """Attributes stand at top level and under `contact`; the product's own names win."""
    return {
        **context.variables,
        "contact": context.variables,
        "unsubscribe_url": context.unsubscribe_url,
        "preferences_url": context.preferences_url,
        "view_url": context.view_url,
        "postal_address": context.postal_address,
    }


def tidy(text: str) -> str:
    """Close the gaps that conditions without effect leave: at most one empty line, no blank end."""
    return _GAPS.sub("\n\n", text).strip("\n") + "\n"


def render(compiled: CompiledContent, context: RenderContext) -> Rendered:
    """Render once; a Renderer is the way for many recipients."""
    return Renderer(compiled).render(context)


def without_tracking(context: RenderContext) -> RenderContext:
    """Return the context for previews: links as they were written, no pixel."""
    return replace(context, link_url=None, pixel_url=None)
