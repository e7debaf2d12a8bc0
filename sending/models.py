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
from sending.campaigns.models import Campaign, CampaignPart
from sending.content.models import CompiledVersion, Template
from sending.events.models import Attempt, Event, LinkStat, StatBucket
from sending.feedback.models import InboundMail, ProviderReport
from sending.lanes.models import LaneState, LimitOverride, ShapingAction
from sending.messages.models import (
    Batch,
    IdempotencyKey,
    Message,
    MessageContent,
    MessageSpan,
    QueueEntry,
)
from sending.routes.models import (
    DefaultRoute,
    Route,
    RouteRule,
    RouteSet,
    RouteSetMember,
    RouteStat,
    RouteWebhook,
)

__all__ = [
    "Attempt",
    "AttributeDefinition",
    "Batch",
    "Campaign",
    "CampaignPart",
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
    "MessageSpan",
    "ProviderReport",
    "QueueEntry",
    "Route",
    "RouteRule",
    "RouteSet",
    "RouteSetMember",
    "RouteStat",
    "RouteWebhook",
    "ShapingAction",
    "SignupForm",
    "StatBucket",
    "Subscription",
    "SubscriptionChange",
    "Suppression",
    "Template",
]
