"""What replies call for in a lane: carried out here, told to all workers, kept for the database."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

from esp.lib.clock import Clock
from sending.engine.ports import Demand, Outcome
from sending.engine.shaping.limits import Reaction
from sending.engine.shaping.tally import Tally
from sending.lanes.grants import Stop
from sending.lanes.types import Action

# Which field of a lane's shared state a reaction stands in.
FIELDS = {
    "slow_down": "slow",
    "one_connection": "one",
    "suspend": "suspend",
    "other_source": "suspend",
}
_ADDRESS = re.compile(r"[^\s<>\"'(),;:\[\]]+@[^\s<>\"'(),;:\[\]]+")
_REPLY_LENGTH = 500


def without_addresses(text: str) -> str:
    """Return a reply with mail addresses taken out, on one line, cut: fit for every tenant."""
    return _ADDRESS.sub("[address]", " ".join(text[:2000].split()))[:_REPLY_LENGTH]


@dataclass(slots=True)
class Counted:
    """Replies that met a rule which needs several, to be counted with those of other workers.

    `is_due_here`: this worker alone has met as many as the rule wants.
    """

    name: str
    reaction: Reaction
    demand: Demand
    outcome: Outcome
    replies: int = 1
    is_due_here: bool = False


class Reactions:
    """Decides what is due and remembers what was done until the database has it.

    One action a rule and lane (or tenant, batch) while it is in force.
    """

    def __init__(self, *, clock: Clock, tally: Tally | None = None) -> None:
        self._clock = clock
        self._tally = tally or Tally()
        self._in_force: dict[tuple[str, str, str], float] = {}
        self._actions: list[Action] = []
        self._told: list[tuple[str, str, Stop]] = []
        self._counted: dict[str, Counted] = {}

    def due(
        self, reactions: tuple[Reaction, ...], demand: Demand, outcome: Outcome, *, now: float
    ) -> list[Reaction]:
        """Return the reactions that one reply makes due; those that need several are counted.

        What was counted is for `take_counted`: all workers together decide.
        """
        lane = demand.lane
        due: list[Reaction] = []
        for reaction in reactions:
            if reaction.times <= 1:
                due.append(reaction)
                continue
            name = f"{lane.source_id}|{lane.site}"
            if reaction.kind == "hold_batch":
                name = f"batch:{demand.batch}"
            elif reaction.kind == "hold_tenant":
                name = f"tenant:{demand.tenant}"
            key = f"{name}/{reaction.rule}/{reaction.kind}/{reaction.times}"
            counted = self._counted.get(key)
            if counted is None:
                counted = self._counted[key] = Counted(key, reaction, demand, outcome, 0)
            counted.replies += 1
            counted.demand, counted.outcome = demand, outcome
            if self._tally.due(name, (reaction,), now=now):
                counted.is_due_here = True
        return due

    def take_counted(self) -> list[Counted]:
        """Return what was counted since the last time."""
        taken, self._counted = list(self._counted.values()), {}
        return taken

    def carry_out(
        self, reaction: Reaction, demand: Demand, outcome: Outcome, *, source: str, now: float
    ) -> bool:
        """Note `reaction`; False when the same is in force already, so that nothing is new."""
        lane = demand.lane
        key = (reaction.kind, reaction.rule, f"{lane.source_id}|{lane.site}")
        if reaction.kind in ("hold_batch", "hold_tenant"):
            whom = demand.batch if reaction.kind == "hold_batch" else demand.tenant
            if not whom:
                return False
            key = (reaction.kind, reaction.rule, whom)
        if self._in_force.get(key, -1.0) > now:
            return False
        if len(self._in_force) > 10_000:
            self._in_force = {k: ends for k, ends in self._in_force.items() if ends > now}
        # A hold without end is said once an hour at most.
        self._in_force[key] = now + (reaction.seconds or 3600.0)
        wall = self._clock.now()
        self._actions.append(
            Action(
                at=wall,
                action=reaction.kind,
                rule=reaction.rule,
                title=reaction.title,
                lane=lane,
                source_address=source,
                tenant=demand.tenant,
                batch=demand.batch,
                message_id=None,
                reply=without_addresses(outcome.text),
                until=wall + dt.timedelta(seconds=reaction.seconds) if reaction.seconds else None,
            )
        )
        field = FIELDS.get(reaction.kind)
        if field is not None and reaction.seconds:
            stop = Stop(
                reaction.seconds, reaction.factor, reaction.kind, reaction.rule, reaction.title
            )
            self._told.append((f"lane:{lane.source_id}|{lane.site}", field, stop))
        return True

    def take_actions(self) -> list[Action]:
        """Return what happened since the last time."""
        taken, self._actions = self._actions, []
        return taken

    def put_back(self, actions: list[Action]) -> None:
        """Keep what the database did not take."""
        self._actions = (actions + self._actions)[:10_000]

    def take_told(self) -> list[tuple[str, str, Stop]]:
        """Return what other workers must hear: (meter's key, field, what)."""
        taken, self._told = self._told, []
        return taken

    def tell_again(self, told: list[tuple[str, str, Stop]]) -> None:
        """Keep what Valkey did not take; what is too old by then is only kept too long."""
        self._told = (told + self._told)[:1000]
