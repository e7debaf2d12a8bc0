"""Make an operator, or make an operator of someone who has an account."""

from __future__ import annotations

import getpass
import sys
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_email

from tenants.accounts.models import User
from tenants.directory.models import Membership
from tenants.directory.permissions import Role
from tenants.directory.services import get_or_create_system_tenant


class Command(BaseCommand):
    """`manage.py create_operator EMAIL`: asks for the password, or reads it from standard input."""

    help = "Make an operator: someone who runs tenants, source IPs and pools."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--name", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        email = options["email"].strip()
        try:
            validate_email(email)
        except ValidationError as error:
            raise CommandError(f"{email} is not an email address.") from error
        user = User.objects.filter(email__iexact=email).first()
        if user is not None:
            User.objects.filter(pk=user.pk).update(is_operator=True)
            self._join_system_workspace(user)
            self.stdout.write(f"{user.email} has an account, and is an operator now.")
            return
        person = User(email=email, name=options["name"], is_operator=True)
        person.set_password(self._password(person))
        person.save()
        self._join_system_workspace(person)
        self.stdout.write(f"{email} is an operator now.")

    @staticmethod
    def _join_system_workspace(person: User) -> None:
        """Make the person an owner of the workspace that the product's own mail belongs to.

        There its domain is added and verified like any other: until then no invitation and no
        password mail can leave.
        """
        Membership.unscoped.get_or_create(
            user=person, tenant=get_or_create_system_tenant(), defaults={"role": Role.OWNER}
        )

    @staticmethod
    def _password(person: User) -> str:
        if sys.stdin.isatty():
            password = getpass.getpass("Password: ")
            if getpass.getpass("The same once more: ") != password:
                raise CommandError("The two passwords are not the same.")
        else:
            password = sys.stdin.readline().rstrip("\n")
        try:
            validate_password(password, person)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        return password
