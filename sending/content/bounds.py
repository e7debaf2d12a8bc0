"""The limits that Liquid runs under: the output's size, loop turns, own variables, CPU time."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from liquid.context import RenderContext as LibraryContext
from liquid.context import builtin
from liquid.exceptions import ResourceLimitError
from liquid.template import BoundTemplate
from liquid.utils import ReadOnlyChainMap

from sending.content.filters import check_value

DEADLINE = 0.25  # seconds of CPU for one part of one message
MAX_OUTPUT = 512 * 1024
MAX_LOOP_TURNS = 2_000
MAX_LOCALS = 1024 * 1024
# A look at the clock is a system call of 0.4 to 1 µs; eight filters take 10 ms at the worst, and a
# short template never looks.
_TICKS = 8
_UNCOUNTED = 500  # parts of loops that are counted together; long values are counted at once

LinkWriter = Callable[[int], str]


class Buffer:
    """The output of a capture or a library node; raises when the limit is reached."""

    __slots__ = ("limit", "parts", "size")

    def __init__(self, limit: int) -> None:
        self.parts: list[str] = []
        self.size = 0
        self.limit = limit

    def write(self, text: str) -> int:
        # characters, not bytes: counting bytes costs a third of the rendering
        self.size += len(text)
        if self.size > self.limit:
            raise too_long()
        self.parts.append(text)
        return 0

    def getvalue(self) -> str:
        return "".join(self.parts)


def too_long() -> ResourceLimitError:
    """Return the error of an output beyond its limit."""
    return ResourceLimitError("the text grew beyond 512 KB", token=None)


class BoundedContext(LibraryContext):
    """A render context that counts loop turns, weighs local values and keeps a deadline.

    The library's constructor takes longer than a short template; here, what few templates need is
    made when it is asked for. `parts` is the output of the compiled steps, `frames` the globals and
    the variables of their loops, the outermost first.
    """

    __slots__ = (
        "_chain",
        "_tags",
        "counted",
        "deadline",
        "frames",
        "has_clean_urls",
        "limit",
        "link_writer",
        "locals_size",
        "now",
        "parts",
        "pixel_url",
        "size",
        "sizes",
        "ticks",
        "turns",
    )

    def __init__(self, template: BoundTemplate, variables: Mapping[str, object]) -> None:
        self.env = template.env
        self.template = template
        self.autoescape = template.env.autoescape
        self.locals = {}
        self.globals = variables
        self.counters = {}
        self.loops = []
        self.disabled_tags = []
        self.parent_context = None
        self.loop_iteration_carry = 1
        self.local_namespace_size_carry = 0
        self._copy_depth = 0
        self._chain: ReadOnlyChainMap | None = None
        self._tags: dict[str, Any] | None = None
        self.deadline = 0.0
        self.ticks = self.turns = self.locals_size = 0
        self.sizes: dict[str, int] = {}
        self.now: dt.datetime | None = None
        self.link_writer: LinkWriter | None = None
        self.has_clean_urls = False
        self.pixel_url = ""
        self.frames: list[Mapping[str, Any]] = [variables]
        self.parts: list[str] = []
        self.counted = self.size = 0
        self.limit = MAX_OUTPUT

    @property
    def scope(self) -> ReadOnlyChainMap:  # type: ignore[override]
        """The namespaces in the order of looking, the innermost loop's first."""
        if self._chain is None:
            outermost, *loops = self.frames
            outer = (self.locals, outermost, builtin, self.counters)
            self._chain = ReadOnlyChainMap(*reversed(loops), *outer)
        return self._chain

    @property
    def tag_namespace(self) -> dict[str, Any]:  # type: ignore[override]
        """The state of cycles and of loops that are continued."""
        if self._tags is None:
            self._tags = {"cycles": {}, "stopindex": {}}
        return self._tags

    def tick(self) -> None:
        """Raise when the time for this part is used up; the clock starts at the first look."""
        self.ticks += 1
        if self.ticks % _TICKS == 0:
            self._look_at_clock()

    def _look_at_clock(self) -> None:
        now = time.thread_time()
        if not self.deadline:
            self.deadline = now + DEADLINE
        if now > self.deadline:
            raise ResourceLimitError("the template takes too long", token=None)

    def count(self) -> None:
        """Count what the steps wrote since the last call; raises when it is too much."""
        parts = self.parts
        self.size += sum(map(len, parts[self.counted :]))
        self.counted = len(parts)
        self.check_size(self.size)

    def check_size(self, size: int) -> None:
        """Raise when an output of `size` characters is too much."""
        if size > self.limit:
            raise too_long()

    def assign(self, key: str, val: Any) -> None:
        self.tick()
        check_value(val)
        size: int = val.__sizeof__()  # sys.getsizeof takes ten times as long
        if isinstance(val, (list, tuple)):
            size += sum([item.__sizeof__() for item in val])
        self.locals_size += size - self.sizes.get(key, 0)
        self.sizes[key] = size
        if self.locals_size > MAX_LOCALS:
            raise ResourceLimitError("the template's own variables grew too large", token=None)
        self.locals[key] = val

    @contextmanager
    def loop(self, namespace: Mapping[str, object], forloop: Any) -> Iterator[LibraryContext]:
        """Run a loop of the library's own."""
        forloop.it = self._turning(forloop.it)
        with super().loop(namespace, forloop) as context:
            yield context

    def _turning(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            self.turn()
            yield item

    def enter(self, forloop: Any, frame: dict[str, Any]) -> None:
        """Begin a loop of the compiled steps, as `loop` does for the library's."""
        if self.loops:  # one loop alone cannot be too long
            self.raise_for_loop_limit(forloop.length)
        self.loops.append(forloop)
        self.frames.append(frame)
        self._chain = None  # made anew, with the frame, for whoever asks

    def leave(self) -> None:
        """End the loop that began last."""
        self._chain = None
        self.frames.pop()
        self.loops.pop()

    def turn(self) -> None:
        """Count a turn of a loop; raises when there were too many, or at the other limits."""
        self.turns += 1
        if self.turns > MAX_LOOP_TURNS:
            raise ResourceLimitError(f"loops may turn {MAX_LOOP_TURNS:,} times", token=None)
        if len(self.parts) - self.counted > _UNCOUNTED:
            self.count()
        self.ticks += 1  # as `tick` does, without the call
        if self.ticks % _TICKS == 0:
            self._look_at_clock()

    def get_buffer(self, buf: Any = None) -> Any:
        return Buffer(MAX_OUTPUT - (buf.size if isinstance(buf, Buffer) else 0))
