"""What the audience's API takes (`…In`, strict) and returns (`…Out`)."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from esp.kit.drf import StrictSerializer
from sending.audience.models import Contact, ContactList, Subscription, Suppression


class ContactIn(StrictSerializer):
    """A new contact."""

    email = serializers.CharField(max_length=320)
    first_name = serializers.CharField(max_length=100, allow_blank=True, default="")
    last_name = serializers.CharField(max_length=100, allow_blank=True, default="")
    attributes = serializers.DictField(child=serializers.JSONField(), default=dict)


class ContactPatch(StrictSerializer):
    """Changes to a contact; an attribute given as null is removed."""

    email = serializers.CharField(max_length=320, required=False)
    first_name = serializers.CharField(max_length=100, allow_blank=True, required=False)
    last_name = serializers.CharField(max_length=100, allow_blank=True, required=False)
    attributes = serializers.DictField(child=serializers.JSONField(allow_null=True), required=False)


class ContactOut(serializers.Serializer[Contact]):
    """A contact."""

    id = serializers.CharField(source="public_id")
    email = serializers.CharField()
    first_name = serializers.CharField()
    last_name = serializers.CharField()
    attributes = serializers.DictField(child=serializers.JSONField())
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class ListIn(StrictSerializer):
    """A new list."""

    name = serializers.CharField(max_length=120)
    description = serializers.CharField(max_length=300, allow_blank=True, default="")
    opt_in = serializers.ChoiceField(choices=ContactList.OptIn.choices, default="single")


class ListPatch(StrictSerializer):
    """Changes to a list."""

    name = serializers.CharField(max_length=120, required=False)
    description = serializers.CharField(max_length=300, allow_blank=True, required=False)
    opt_in = serializers.ChoiceField(choices=ContactList.OptIn.choices, required=False)
    archived = serializers.BooleanField(required=False)


class ListOut(serializers.Serializer[ContactList]):
    """A list."""

    id = serializers.CharField(source="public_id")
    name = serializers.CharField()
    description = serializers.CharField()
    opt_in = serializers.CharField()
    archived = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()

    def get_archived(self, item: ContactList) -> bool:
        return item.archived_at is not None


class SubscriptionIn(StrictSerializer):
    """Who shall be on the list: a contact's id, or an address (made a contact when unknown)."""

    contact_id = serializers.CharField(required=False)
    email = serializers.CharField(max_length=320, required=False)
    consent_text = serializers.CharField(max_length=500, allow_blank=True, default="")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("contact_id" in attrs) == ("email" in attrs):
            raise serializers.ValidationError("Give either contact_id or email.")
        return attrs


class SubscriptionOut(serializers.Serializer[Subscription]):
    """One contact on one list."""

    contact_id = serializers.CharField(source="contact.public_id")
    email = serializers.CharField(source="contact.email")
    status = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class SuppressionIn(StrictSerializer):
    """An address to suppress."""

    email = serializers.CharField(max_length=320)
    scope = serializers.ChoiceField(choices=Suppression.Scope.choices, default="all")
    detail = serializers.CharField(max_length=500, allow_blank=True, default="")


class SuppressionOut(serializers.Serializer[Suppression]):
    """A suppressed address."""

    id = serializers.CharField(source="public_id")
    email = serializers.CharField(source="email_norm")
    scope = serializers.CharField()
    reason = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]
    detail = serializers.CharField()
    created_at = serializers.DateTimeField()
