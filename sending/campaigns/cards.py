"""How far a draft is: which of the editor's cards are done. Cheap, it runs at every save.

It guides; what forbids sending is the review's business (`review`).
"""

from __future__ import annotations

from dataclasses import dataclass

from deliverability.domains.models import Domain
from sending.campaigns.models import Campaign
from sending.campaigns.preview import State, compile_state


@dataclass(frozen=True)
class Card:
    """One card: done or not, and what is to be done or what stands there."""

    key: str
    title: str
    done: bool
    hint: str
    waiting: bool = False  # the content is with the compiler


def cards_of(campaign: Campaign) -> list[Card]:
    """Return the five cards in their order."""
    return [_to(campaign), _from(campaign), _subject(campaign), _content(campaign), _when(campaign)]


def _to(campaign: Campaign) -> Card:
    names = list(campaign.lists.order_by("name").values_list("name", flat=True))
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return Card("to", "To", bool(names), shown or "Choose at least one list.")


def _from(campaign: Campaign) -> Card:
    sender = campaign.sender
    if sender is None:
        return Card("from", "From", False, "Choose a sender.")
    if sender.domain.status != Domain.Status.VERIFIED:
        return Card("from", "From", False, f"{sender.domain.name} is not verified yet.")
    return Card("from", "From", True, sender.email)


def _subject(campaign: Campaign) -> Card:
    done = bool(campaign.subject.strip())
    return Card("subject", "Subject", done, campaign.subject if done else "Write a subject.")


def _content(campaign: Campaign) -> Card:
    state, problem = compile_state(campaign)
    hints = {
        State.EMPTY: "Write the mail, or take a template.",
        State.COMPILING: "Being checked…",
        State.BROKEN: problem,
        State.READY: "Ready",
    }
    return Card(
        "content", "Content", state is State.READY, hints[state], waiting=state is State.COMPILING
    )


def _when(campaign: Campaign) -> Card:
    measured = [
        word
        for word, is_on in (("opens", campaign.track_opens), ("clicks", campaign.track_clicks))
        if is_on
    ]
    hint = f"Measures {' and '.join(measured)}" if measured else "Measures nothing"
    when = "Planned for a set time" if campaign.scheduled_at else "Sent at once"
    return Card("schedule", "Schedule and tracking", True, f"{when}. {hint}.")
