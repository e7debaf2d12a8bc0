"""What is this mail? One answer for whatever arrives; it never raises for what a mail contains."""

from __future__ import annotations

from sending.feedback import arf, autoreply, textbounce
from sending.feedback.dsn import status_reports
from sending.feedback.mailparts import MAX_READ, Mail, read_mail
from sending.feedback.originals import original_message_id, original_return_path
from sending.feedback.types import MailKind, ParsedMail, RecipientReport


def parse_mail(raw: bytes) -> ParsedMail:
    """Return what `raw`, a whole mail of any size, is and says."""
    raw = raw[:MAX_READ]
    mail = read_mail(raw)
    subject = mail.header("subject")[:200]
    message_id = original_message_id(mail)
    return_path = original_return_path(mail)
    complaint = arf.read_complaint(mail)
    if complaint is not None:
        return ParsedMail(
            kind="arf",
            recipients=complaint.recipients,
            message_id=message_id,
            return_path=complaint.mail_from or return_path,
            feedback_type=complaint.feedback_type[:40],
            subject=subject,
        )
    reports = status_reports(mail) or _from_words(mail, raw)
    if reports and not all(autoreply.is_challenge(report.diagnostic) for report in reports):
        recipients = tuple(report.address for report in reports if report.address)
        return ParsedMail("dsn", reports, recipients, message_id, return_path, subject=subject)
    kind: MailKind = "auto-reply" if reports or autoreply.is_auto_reply(mail) else "other"
    return ParsedMail(kind, message_id=message_id, subject=subject)


def _from_words(mail: Mail, raw: bytes) -> tuple[RecipientReport, ...]:
    if not textbounce.looks_like_bounce(mail):
        return ()
    if autoreply.says_vacation(mail) and "x-failed-recipients" not in mail.headers:
        return ()
    reports = textbounce.text_reports(mail, raw)
    if reports:
        return reports
    # It is a bounce that names nobody: the return path that it came to says whom it is about.
    words = textbounce.reporter_words(mail)
    return (textbounce.report_without_address(mail, words),)
