"""Messages read back by the standard library say what was put in."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import re
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import escape

from esp.lib.addresses import Address, parse_address
from esp.lib.errors import InvalidInput
from sending.content import headers
from sending.content.coded import CodedRenderer, _tidied
from sending.content.headers import RESERVED, check_custom_header
from sending.content.mime import Attachment, frame
from sending.content.outgoing import Addressed, Outgoing, Stationery
from sending.content.render import Renderer, tidy
from sending.content.types import CompiledContent, RenderContext, Rendered
from sending.engine.dkim.signing import canonical_body

ALICE = parse_address("Alice <alice@acme.example>")
BOB = parse_address("bob@acme.example")
DATE = dt.datetime(2026, 11, 22, 1, 2, 3, tzinfo=dt.UTC)
RENDERED = Rendered("Hello", "<p>Hi</p>", "Hi\n")
SEED = "abcdef0123456789"


def addressed(**kwargs: Any) -> Addressed:
    values: dict[str, Any] = {
        "to": BOB,
        "to_name": "",
        "message_id": "<01h455vb4pex5vsknk084sn02q@bounce.acme.example>",
        "date": int(DATE.timestamp()),
        "feedback_id": "a:b:c:acme",
    }
    return Addressed(**(values | kwargs))


def written(rendered: Rendered = RENDERED, **kwargs: Any) -> bytes:
    """Return a message whose subject and text are values, and whose HTML is the content's."""
    files = kwargs.pop("attachments", ())
    own = {name: kwargs.pop(name) for name in Addressed.__slots__ if name in kwargs}
    renderer = CodedRenderer(
        CompiledContent("{{ subject }}", "", rendered.html, "{{ text }}"), pixel=False
    )
    around = frame(
        text_encoding=renderer.text_encoding,
        html_encoding=renderer.html_encoding,
        attachments=files,
        seed=SEED,
    )
    outgoing = Outgoing(renderer, around, Stationery(**{"sender": ALICE, **kwargs}))
    values = {"subject": rendered.subject, "text": rendered.text}
    message = outgoing.write(RenderContext(variables=values), addressed(**own))
    assert canonical_body(message.body) in (message.body, b"")  # what a SigningPlan relies on
    return outgoing.assembled(message)


def build(rendered: Rendered = RENDERED, **kwargs: Any) -> bytes:
    raw = written(rendered, **kwargs)
    assert_lawful(raw)
    return raw


def assert_lawful(raw: bytes) -> None:
    assert raw.isascii()
    assert b"\x00" not in raw
    assert raw.endswith(b"\r\n")
    assert raw.replace(b"\r\n", b"").count(b"\r") == 0
    assert raw.replace(b"\r\n", b"").count(b"\n") == 0
    assert max(map(len, raw.split(b"\r\n"))) <= 998


def parsed(raw: bytes) -> EmailMessage:
    message = message_from_bytes(raw, policy=default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    for part in message.walk():
        assert not part.defects
    return message


def test_it_carries_text_and_html() -> None:
    message = parsed(build())
    assert message.get_content_type() == "multipart/alternative"
    text, html = message.iter_parts()
    assert text.get_content().splitlines() == ["Hi"]
    assert html.get_content().splitlines() == ["<p>Hi</p>"]
    assert message["From"] == "Alice <alice@acme.example>"
    assert message["To"] == "bob@acme.example"
    assert message["Date"].datetime == DATE
    assert message["Message-ID"] == "<01h455vb4pex5vsknk084sn02q@bounce.acme.example>"
    assert message["MIME-Version"] == "1.0"


def test_a_text_message_is_one_part() -> None:
    message = parsed(build(Rendered("s", None, "Grüße\n")))
    assert message.get_content_type() == "text/plain"
    assert message.get_content().splitlines() == ["Grüße"]


def test_list_headers() -> None:
    message = parsed(
        build(
            is_list=True,
            unsubscribe=["https://u.example/" + "x" * 90, "mailto:u.x@bounce.acme.example"],
            list_id="News <news.acme.example>",
            cfbl_address="fbl@mailwright.test; report=arf",
        )
    )
    https = "https://u.example/" + "x" * 90
    assert message["List-Unsubscribe"] == f"<{https}>, <mailto:u.x@bounce.acme.example>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert message["List-Id"] == "News <news.acme.example>"
    assert message["Feedback-ID"] == "a:b:c:acme"
    assert message["CFBL-Address"] == "fbl@mailwright.test; report=arf"


def test_one_click_is_not_promised_without_https() -> None:
    message = parsed(build(is_list=True, one_click=False, unsubscribe=["mailto:u@b.example"]))
    assert message["List-Unsubscribe"] == "<mailto:u@b.example>"
    assert "List-Unsubscribe-Post" not in message


def test_a_single_message_offers_no_unsubscribing() -> None:
    message = parsed(build(unsubscribe=["https://u.example/"]))
    assert not {"List-Unsubscribe", "List-Unsubscribe-Post"} & set(message.keys())


def test_names_outside_ascii_and_domains_as_a_labels() -> None:
    sender = parse_address("Zoë, Müller <zoe@bücher.example>")
    raw = build(sender=sender, reply_to=[parse_address('"A, B" <r@acme.example>'), BOB])
    message = parsed(raw)
    address = message["From"].addresses[0]
    assert address.display_name == "Zoë, Müller"
    assert address.addr_spec == "zoe@xn--bcher-kva.example"
    assert [a.display_name for a in message["Reply-To"].addresses] == ["A, B", ""]


def test_attachments_and_inline_images() -> None:
    files = [
        Attachment("Rechnung für März.pdf", bytes(range(256)) * 20, "application/pdf"),
        Attachment("logo.png", b"\x89PNG", "image/png", content_id="logo@acme"),
    ]
    message = parsed(build(Rendered("s", '<img src="cid:logo@acme">', "t"), attachments=files))
    assert message.get_content_type() == "multipart/mixed"
    alternative, pdf = message.iter_parts()
    assert pdf.get_filename() == "Rechnung für März.pdf"
    assert pdf.get_content() == bytes(range(256)) * 20
    related = list(alternative.iter_parts())[1]
    assert related.get_content_type() == "multipart/related"
    image = list(related.iter_parts())[1]
    assert image["Content-ID"] == "<logo@acme>"
    assert image.get_content_disposition() == "inline"


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert build() == build()


INJECTIONS = [
    "a\r\nBcc: charlie@globex.example",
    "a\nb",
    "a\rb",
    "a\x00b",
    "a\x1bb",
    "a\u2028b",
    "a\x85b",
    "a\x0bb",
    "a\x0cb",
]


@pytest.mark.parametrize("bad", INJECTIONS)
def test_header_injection_is_refused_in_every_field(bad: str) -> None:
    evil = Address("alice", "acme.example", "alice@acme.example", bad)
    for kwargs in (
        {"sender": evil},
        {"reply_to": [evil]},
        {"sender": Address(bad, "acme.example", "x")},
        {"list_id": bad},
        {"cfbl_address": bad},
        {"custom": {"X-Note": bad}},
        {"custom": {f"X-{bad}": "v"}},
    ):
        with pytest.raises(InvalidInput):
            Stationery(**{"sender": ALICE, **kwargs}).lines()
    for kwargs in (
        {"to_name": bad},
        {"to": Address(bad, "acme.example", "x")},
        {"to": Address("a", bad, "x")},
        {"message_id": f"<{bad}@x.example>"},
        {"unsubscribe": [f"https://x.example/{bad}"], "is_list": True},
        {"feedback_id": bad},
    ):
        with pytest.raises(InvalidInput):
            written(**kwargs)
    with pytest.raises(InvalidInput):
        headers.subject_line(bad)
    assert "Bcc" not in parsed(build(Rendered(bad, "<p>x</p>", "x")))  # made one line before
    for attachment in (
        Attachment(bad, b""),
        Attachment("a", b"", bad),
        Attachment("a", b"", content_id=bad),
    ):
        with pytest.raises(InvalidInput):
            written(attachments=[attachment])


@pytest.mark.parametrize(
    "name",
    [
        *sorted(RESERVED),
        "Content-Type",
        "ARC-Seal",
        "FROM",
        "a b",
        "x:y",
        "",
        "ü",
        "X-Mailwright-Tenant",
    ],
)
def test_tenants_cannot_set_reserved_headers(name: str) -> None:
    with pytest.raises(InvalidInput):
        check_custom_header(name, "x")


def test_tenants_can_set_their_own_headers() -> None:
    message = parsed(build(custom={"X-Order": "17", "References": "<a@b.example>"}))
    assert message["X-Order"] == "17"
    assert message["References"] == "<a@b.example>"


printable = st.text(
    st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), min_size=0, max_size=300
)


@settings(max_examples=150, deadline=None)
@given(printable)
def test_any_subject_reads_back(subject: str) -> None:
    message = parsed(build(Rendered(subject, None, "x")))
    assert str(message["Subject"]).split() == subject.split()


@settings(max_examples=100, deadline=None)
@given(st.text("abc äü\U0001f600=?_ ", min_size=1, max_size=200).map(str.strip).filter(bool))
def test_subjects_near_the_encoding_read_back_exactly(subject: str) -> None:
    line = headers.subject_line(subject)
    assert str(parsed(f"{line}\r\n\r\n".encode())["Subject"]) == subject


@settings(max_examples=150, deadline=None)
@given(printable.map(str.strip).filter(lambda name: "\ufffd" not in name))
def test_any_display_name_reads_back(name: str) -> None:
    sender = Address("alice", "acme.example", "alice@acme.example", name)
    address = parsed(build(sender=sender))["From"].addresses[0]
    assert address.addr_spec == "alice@acme.example"
    # the standard library leaves a blank between two encoded words of a phrase, against RFC 2047
    assert "".join(address.display_name.split()) == "".join(name.split())


@settings(max_examples=150, deadline=None)
@given(printable.map(str.strip))
def test_any_file_name_reads_back(name: str) -> None:
    if len(name) > 255:
        return
    message = parsed(build(attachments=[Attachment(name, b"x")]))
    wanted = name.replace("\\", "/").rpartition("/")[2].strip() or "attachment"
    part = list(message.iter_parts())[1]
    assert part.get_filename() == wanted


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(blacklist_categories=("Cs",)), max_size=400))
def test_any_text_reads_back(text: str) -> None:
    wanted = tidy(text.replace("\r\n", "\n").replace("\r", "\n"))
    message = parsed(build(Rendered("s", None, text)))
    raw = message.get_payload(decode=True)
    assert isinstance(raw, bytes)
    got = raw.decode().replace("\r\n", "\n")
    assert got == wanted


@settings(max_examples=150, deadline=None)
@given(printable)
def test_any_recipient_name_reads_back(name: str) -> None:
    addresses = parsed(build(to_name=name.strip()))["To"].addresses
    assert [address.addr_spec for address in addresses] == ["bob@acme.example"]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("short\n", "quoted-printable"),
        ("x" * 5_000, "quoted-printable"),
        ("Grüße aus dem Norden, wir freuen uns sehr. " * 20, "quoted-printable"),
        ("пример " * 100, "base64"),
        ("привет\n", "quoted-printable"),
        ("trailing \nspaces\t\n" + "x" * 100, "quoted-printable"),
    ],
)
def test_it_chooses_the_encoding(text: str, encoding: str) -> None:
    content = CompiledContent("s", "", f"<p>{text}</p>", text + "{{ name }}")
    renderer = CodedRenderer(content, pixel=True)
    assert (renderer.text_encoding, renderer.html_encoding) == (encoding, encoding)
    context = RenderContext(variables={"name": "Zoë"}, pixel_url="https://p.example/?a=1&b=2")
    coded = renderer.render(context)
    for code in (coded.text, coded.html or ""):
        assert max(map(len, code.split("\r\n"))) <= 76
    decode = base64.b64decode if encoding == "base64" else binascii.a2b_qp
    assert decode(coded.text).decode().replace("\r\n", "\n") == tidy(text + "Zoë")
    html = decode(coded.html or "").decode().replace("\r\n", "\n")
    assert html.startswith(f'<p>{text}</p><img src="https://p.example/?a=1&amp;b=2" width="1"')


@pytest.mark.parametrize("site", ["https://t.example/", "https://t.example/?a=1&b='ü'&", "x" * 200])
def test_the_products_urls_arrive_whole_whatever_they_hold(site: str) -> None:
    names = ("unsubscribe_url", "preferences_url", "view_url")
    source = "".join(f"a {{{{ {name} }}}} b{{{{ {name} }}}}" for name in names)
    source += "{% tracked_link 0 %} {% tracked_link 1 %}\n"
    renderer = CodedRenderer(CompiledContent("s", "", f"<p>{source}", source), pixel=True)
    for token in ("Ab-_9", "Ab-_9" * 30):
        urls = {name: site + token for name in names if name != "view_url"}
        context = RenderContext(
            link_url=lambda index, token=token: f"{site}{token}{index}",  # type: ignore[misc]
            pixel_url=None if len(token) > 5 else site + token,
            **urls,  # type: ignore[arg-type]
        )
        coded = renderer.render(context)
        plain = Renderer(renderer._plain.compiled).render(context)
        assert binascii.a2b_qp(coded.text).decode().replace("\r\n", "\n") == plain.text
        html = binascii.a2b_qp(coded.html or "").decode().replace("\r\n", "\n")
        assert html.partition("<img")[0] == (plain.html or "").partition("<img")[0]
        assert f'<img src="{escape(context.pixel_url or "")}"' in html
        for code in (coded.text, coded.html or ""):
            assert max(map(len, code.split("\r\n"))) <= 76


def test_an_unencodable_recipient_or_sender_is_refused() -> None:
    wide = parse_address("ü@acme.example", allow_smtputf8=True)
    for kwargs in ({"to": wide}, {"sender": wide}):
        with pytest.raises(InvalidInput):
            written(**kwargs)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("a=\r\n", "a\n"),
        ("a =\r\n", "a \n"),
        ("a=\r\n\r\n\r\n", "a\n"),
        ("\r\n\r\na\r\n\r\n\r\n\r\nb\r\n", "a\n\nb\n"),
        ("a=\r\n\r\n\r\nb\r\n", "a\n\nb\n"),
        ("a=\r\n\r\n\r\n\r\nb=\r\n", "a\n\nb\n"),
        ("a=3D\r\n", "a=\n"),
        ("", "\n"),
    ],
)
def test_gaps_are_closed_in_code_as_in_text(code: str, text: str) -> None:
    found = _tidied(code)
    assert binascii.a2b_qp(found).decode() == text.replace("\n", "\r\n")
    assert tidy(binascii.a2b_qp(code).decode().replace("\r\n", "\n")) == text
    assert not re.search(r"[ =]\r\n\Z", found)
