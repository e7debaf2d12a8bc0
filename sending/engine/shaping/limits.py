"""What a lane may take, and what a receiver's reply calls for: values, nothing else."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

ReactionKind = Literal[
    "slow_down", "one_connection", "suspend", "other_source", "hold_batch", "hold_tenant"
]
REACTION_KINDS: tuple[ReactionKind, ...] = get_args(ReactionKind)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one lane may take; None is unlimited.

    `connections` are open at once, `connections_per_minute` are newly opened ones, the rates count
    messages (tries, whatever came of them).
    """

    connections: int
    messages_per_connection: int
    connections_per_minute: int | None = None
    per_second: float | None = None
    per_minute: int | None = None
    per_hour: int | None = None
    per_day: int | None = None

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is not None and value <= 0:
                raise ValueError(f"{entry.name} must be above zero, not {value}")

    @property
    def rate_per_second(self) -> float | None:
        """The tightest of the message rates, spread evenly; None when all are unlimited."""
        rates = [
            count / seconds
            for count, seconds in (
                (self.per_second, 1),
                (self.per_minute, 60),
                (self.per_hour, 3600),
                (self.per_day, 86400),
            )
            if count is not None
        ]
        return min(rates, default=None)


@dataclass(frozen=True, slots=True)
class Reaction:
    """What a rule asks for after a reply.

    - `slow_down`: the lane's rate and connections are multiplied by `factor` for `seconds`;
    - `one_connection`: the lane keeps one connection for `seconds`;
    - `suspend`: the lane rests for `seconds`;
    - `other_source`: this source leaves the site alone for `seconds`, others of its pool go on;
    - `hold_batch`, `hold_tenant`: what the message belongs to is held for `seconds`; 0 means until
      somebody lets it go.

    It is due once `times` replies of this rule came within `within_seconds` in one lane (for the
    holds: in one batch or tenant); `tally.Tally` counts that. `rule` is the rule's id, `title` its
    plain words.
    """

    kind: ReactionKind
    rule: str
    title: str
    seconds: float
    factor: float = 1.0
    times: int = 1
    within_seconds: float = 0.0
