"""Sign people in, help those who forgot their password, keep their profile."""

from __future__ import annotations

import hashlib
import logging

from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth.tokens import default_token_generator
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from esp.kit.mail import send_system_mail
from esp.kit.valkey import take
from esp.lib.errors import InvalidInput, LimitReached
from tenants.accounts.models import User

log = logging.getLogger(__name__)

_MINUTE = 60.0


def _limit(name: str, *parts: str, burst: int, minutes: float, sentence: str) -> None:
    """Take one try from a bucket of `burst` that refills in `minutes`; raises LimitReached."""
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    answer = take(f"{name}:{key}", rate=burst / (minutes * _MINUTE), burst=burst)
    if not answer.allowed:
        wait = max(1, round(answer.retry_after / _MINUTE))
        unit = "minute" if wait == 1 else "minutes"
        raise LimitReached(
            f"{sentence} Try again in {wait} {unit}.", retry_after=answer.retry_after
        )


def authenticate_person(*, email: str, password: str, ip_address: str) -> User:
    """Return the person with this address and password.

    Raises InvalidInput, in the same words and after the same hashing whether the address or the
    password is wrong or the account is closed, and LimitReached after ten tries for one address
    from one client (or a hundred for any) in a quarter of an hour.
    """
    too_many = "Too many sign-in attempts."
    address = email.strip().lower()
    _limit("signin", ip_address, burst=100, minutes=15, sentence=too_many)
    _limit("signin", ip_address, address, burst=10, minutes=15, sentence=too_many)
    user = authenticate(username=address, password=password)
    if not isinstance(user, User):
        raise InvalidInput("The email address or the password is not right.", code="sign-in-failed")
    return user


def request_password_reset(*, email: str, ip_address: str) -> None:
    """Send a link to choose a new password, if the address belongs to an active person.

    Whether it does is never told. Raises LimitReached.
    """
    too_many = "Too many requests for a new password."
    address = email.strip().lower()
    _limit("reset", ip_address, burst=30, minutes=60, sentence=too_many)
    _limit("reset", address, burst=5, minutes=60, sentence=too_many)
    user = User.objects.filter(email__iexact=address, is_active=True).first()
    if user is None:
        log.info("a new password was asked for an address that nobody has")
        return
    path = reverse(
        "accounts-password-reset-confirm",
        kwargs={
            "uidb64": urlsafe_base64_encode(force_bytes(user.pk)),
            "token": default_token_generator.make_token(user),
        },
    )
    send_system_mail(
        "password_reset",
        to=user.email,
        context={
            "person": user,
            "link": f"{settings.SITE_URL}{path}",
            "minutes": settings.PASSWORD_RESET_TIMEOUT // 60,
        },
    )


def update_profile(*, user: User, name: str) -> None:
    """Change the person's name."""
    user.name = " ".join(name.split())
    user.save(update_fields=["name"])
