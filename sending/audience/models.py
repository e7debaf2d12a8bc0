"""Contacts, lists, subscriptions with their history, imports, sign-up forms and suppressions."""

from __future__ import annotations

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Value
from django.db.models.functions import Concat, Lower, Trim

from esp.lib.ids import to_public
from tenants.scoping.models import HotTenantModel, TenantModel


class Contact(HotTenantModel):
    """A person that a tenant may write to. The normalised address is unique in the tenant."""

    PREFIX = "con"

    email = models.EmailField(max_length=254)
    email_norm = models.CharField(max_length=254)  # `esp.lib.addresses`: A-label domain, lower case
    first_name = models.CharField(max_length=100, blank=True)
    last_name = models.CharField(max_length=100, blank=True)
    attributes = models.JSONField(default=dict)  # key -> value as its AttributeDefinition says
    # The last open or click by a person: the most engaged go first while an address warms up.
    engaged_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    search_text = models.GeneratedField(
        expression=Lower(
            Trim(Concat(F("first_name"), Value(" "), F("last_name"), Value(" "), F("email_norm")))
        ),
        output_field=models.TextField(),
        db_persist=True,
    )

    class Meta(HotTenantModel.Meta):
        constraints = [
            models.UniqueConstraint(fields=["tenant", "email_norm"], name="contact_email_unique"),
        ]
        indexes = [
            models.Index(fields=["tenant", "-id"], name="contact_newest"),
            # Search by a part of name or address (`selectors.search_contacts`).
            GinIndex(
                fields=["tenant", "search_text"],
                name="contact_search",
                opclasses=["uuid_ops", "gin_trgm_ops"],
            ),
        ]

    @property
    def public_id(self) -> str:
        """The identifier that people see."""
        return to_public("con", self.pk)

    @property
    def name(self) -> str:
        """First and last name, or an empty text."""
        return f"{self.first_name} {self.last_name}".strip()


class AttributeDefinition(TenantModel):
    """A custom attribute of contacts: its key in templates, its type, what stands in for none."""

    PREFIX = "att"

    class Kind(models.TextChoices):
        TEXT = "text", "Text"
        NUMBER = "number", "Number"
        DATE = "date", "Date"
        BOOLEAN = "boolean", "Yes or no"

    key = models.SlugField(max_length=40)
    label = models.CharField(max_length=80)
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.TEXT)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        constraints = [
            models.UniqueConstraint(fields=["tenant", "key"], name="attribute_unique"),
        ]

    @property
    def public_id(self) -> str:
        """The identifier that people see."""
        return to_public("att", self.pk)


class ContactList(TenantModel):
    """A list that people subscribe to."""

    PREFIX = "lst"

    class OptIn(models.TextChoices):
        SINGLE = "single", "Single opt-in"
        DOUBLE = "double", "Double opt-in"

    name = models.CharField(max_length=120)
    description = models.CharField(max_length=300, blank=True)  # people see it on hosted pages
    opt_in = models.CharField(max_length=8, choices=OptIn, default=OptIn.SINGLE)
    archived_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        constraints = [
            models.UniqueConstraint("tenant", Lower("name"), name="list_name_unique"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def public_id(self) -> str:
        """The identifier that people see."""
        return to_public("lst", self.pk)


class Subscription(HotTenantModel):
    """One contact on one list. Its history is in `SubscriptionChange`."""

    PREFIX = "sbn"

    class Status(models.TextChoices):
        UNCONFIRMED = "unconfirmed", "Unconfirmed"
        SUBSCRIBED = "subscribed", "Subscribed"
        UNSUBSCRIBED = "unsubscribed", "Unsubscribed"

    contact = models.ForeignKey(Contact, on_delete=models.CASCADE, related_name="subscriptions")
    # Lists are archived, never deleted: the database need not check each row of an import.
    contact_list = models.ForeignKey(
        ContactList,
        on_delete=models.PROTECT,
        related_name="subscriptions",
        db_index=False,
        db_constraint=False,
    )
    status = models.CharField(max_length=14, choices=Status)
    source = models.CharField(max_length=60)  # "import:<id>", "form:<id>", "api", "manual"
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta(HotTenantModel.Meta):
        constraints = [
            models.UniqueConstraint(fields=["contact_list", "contact"], name="subscription_unique"),
        ]
        indexes = [
            # A campaign's audience, chunk by chunk (keyset on contact).
            models.Index(
                fields=["contact_list", "status", "contact"], name="subscription_audience"
            ),
        ]


class SubscriptionChange(HotTenantModel):
    """A change of a subscription, with the consent it rests on. Rows are only ever added."""

    # Unchecked by the database, as above; `delete_contact` takes history and subscription together.
    subscription = models.ForeignKey(
        Subscription, on_delete=models.CASCADE, related_name="changes", db_constraint=False
    )
    at = models.DateTimeField(auto_now_add=True)
    status = models.CharField(max_length=14, choices=Subscription.Status)
    source = models.CharField(max_length=60)
    consent_text = models.CharField(max_length=500, blank=True)  # what the person agreed to
    ip_address = models.GenericIPAddressField(null=True)
    user_agent = models.CharField(max_length=300, blank=True)

    class Meta(HotTenantModel.Meta):
        pass


class SignupForm(TenantModel):
    """A hosted form for one list."""

    PREFIX = "frm"

    contact_list = models.ForeignKey(ContactList, on_delete=models.CASCADE, related_name="forms")
    sender = models.ForeignKey("deliverability.Sender", on_delete=models.PROTECT)
    title = models.CharField(max_length=120)
    intro = models.CharField(max_length=500, blank=True)
    consent_text = models.CharField(max_length=500)
    asks_name = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        pass

    @property
    def public_id(self) -> str:
        """The identifier that people see."""
        return to_public("frm", self.pk)


class Suppression(TenantModel):
    """An address not to be written to. Permanent, until a person with the right removes it."""

    PREFIX = "sup"

    class Scope(models.TextChoices):
        ALL = "all", "All mail"
        BROADCAST = "broadcast", "Marketing mail"

    class Reason(models.TextChoices):
        BOUNCE = "bounce", "Hard bounce"
        COMPLAINT = "complaint", "Complaint"
        UNSUBSCRIBE = "unsubscribe", "Unsubscribed from everything"
        MANUAL = "manual", "Added by hand"
        IMPORT = "import", "Imported"

    email_norm = models.CharField(max_length=254)
    scope = models.CharField(max_length=10, choices=Scope, default=Scope.ALL)
    reason = models.CharField(max_length=12, choices=Reason)
    source = models.CharField(max_length=120, blank=True)  # a message's id, a person, an import
    detail = models.CharField(max_length=500, blank=True)  # the reply or report in short
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "email_norm", "scope"], name="suppression_unique"
            ),
        ]
        indexes = [models.Index(fields=["tenant", "-id"], name="suppression_newest")]

    @property
    def public_id(self) -> str:
        """The identifier that people see."""
        return to_public("sup", self.pk)


class Import(TenantModel):
    """A CSV file on its way into contacts: uploaded, mapped, tried, then run in the background."""

    PREFIX = "imp"

    class Status(models.TextChoices):
        UPLOADED = "uploaded", "Uploaded"
        CHECKING = "checking", "Checking"
        CHECKED = "checked", "Checked"
        RUNNING = "running", "Importing"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"

    class OnDuplicate(models.TextChoices):
        UPDATE = "update", "Update the contact"
        SKIP = "skip", "Leave the contact as it is"

    status = models.CharField(max_length=10, choices=Status, default=Status.UPLOADED)
    filename = models.CharField(max_length=255)
    path = models.CharField(max_length=300)  # below MEDIA_ROOT, made by us
    size_bytes = models.BigIntegerField()
    dialect = models.JSONField(default=dict)  # encoding, delimiter, header, first rows
    mapping = models.JSONField(default=list)  # a target for each column (`import_mapping`)
    contact_list = models.ForeignKey(ContactList, on_delete=models.SET_NULL, null=True)
    on_duplicate = models.CharField(max_length=8, choices=OnDuplicate, default=OnDuplicate.UPDATE)
    consent_text = models.CharField(max_length=500, blank=True)
    bytes_done = models.BigIntegerField(default=0)  # whole rows before this offset are committed
    cursor = models.JSONField(default=dict)  # row number and error file's length at `bytes_done`
    claim = models.UUIDField(null=True)  # the run that holds the import; another one stops
    counts = models.JSONField(default=dict)  # rows, valid, new, updated, skipped, bad, by reason
    problem = models.CharField(max_length=500, blank=True)
    errors_path = models.CharField(max_length=300, blank=True)
    created_by = models.ForeignKey("tenants.User", on_delete=models.SET_NULL, null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    heartbeat_at = models.DateTimeField(null=True)  # a dead worker's import is taken up again

    class Meta(TenantModel.Meta):
        indexes = [models.Index(fields=["tenant", "-id"], name="import_newest")]

    @property
    def public_id(self) -> str:
        """The identifier that people see."""
        return to_public("imp", self.pk)
