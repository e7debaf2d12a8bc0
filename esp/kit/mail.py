"""Mail that the product itself sends to people: sign-in matters, never a tenant's campaigns."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string


def send_system_mail(name: str, *, to: str, context: dict[str, Any]) -> None:
    """Send the mail `templates/emails/<name>/{subject.txt,body.txt,body.html}` to one address.

    The backend puts it into our own queue in the running transaction: it leaves when that is
    committed, and never when it is not. Line breaks in the subject become spaces.
    """
    context = {"site_url": settings.SITE_URL, **context}
    subject = " ".join(render_to_string(f"emails/{name}/subject.txt", context).split())
    mail = EmailMultiAlternatives(
        subject=subject, body=render_to_string(f"emails/{name}/body.txt", context), to=[to]
    )
    mail.attach_alternative(render_to_string(f"emails/{name}/body.html", context), "text/html")
    mail.send()
