"""The sending app's tables, gathered for Django from its rooms."""

from __future__ import annotations

from sending.audience.models import (
    AttributeDefinition,
    Contact,
    ContactList,
    Import,
    SignupForm,
    Subscription,
    SubscriptionChange,
    Suppression,
)
from sending.campaigns.models import Campaign
from sending.content.models import CompiledVersion, Template
from sending.events.models import Attempt, Event, LinkStat, StatBucket
from sending.feedback.models import InboundMail
from sending.lanes.models import LaneState, LimitOverride, ShapingAction
from sending.messages.models import Batch, IdempotencyKey, Message, MessageContent, QueueEntry
from sending.routes.models import (
    DefaultRoute,
    Route,
    RouteRule,
    RouteSet,
    RouteSetMember,
    RouteStat,
)

__all__ = [
    "Attempt",
    "AttributeDefinition",
    "Batch",
    "Campaign",
    "CompiledVersion",
    "Contact",
    "ContactList",
    "DefaultRoute",
    "Event",
    "IdempotencyKey",
    "Import",
    "InboundMail",
    "LaneState",
    "LimitOverride",
    "LinkStat",
    "Message",
    "MessageContent",
    "QueueEntry",
    "Route",
    "RouteRule",
    "RouteSet",
    "RouteSetMember",
    "RouteStat",
    "ShapingAction",
    "SignupForm",
    "StatBucket",
    "Subscription",
    "SubscriptionChange",
    "Suppression",
    "Template",
]
