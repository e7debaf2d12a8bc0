"""The letter of the delivery benchmark: about 7 KB of HTML as tools of today write it.

Ten variables, a loop, a condition, five links, and the standard footer with its address and
unsubscribe link. The text part is made from the HTML.
"""

from __future__ import annotations

SUBJECT = "{{ first_name | default: 'Hello' }}, {{ points }} points wait for you"
PREVIEW = "Three ideas for the first warm weekend, and what to plant now."

_CELL = (
    "font-family:Helvetica,Arial,sans-serif;font-size:16px;line-height:1.55;color:#24292f;"
    "padding:12px 24px;text-align:left"
)
_BUTTON = (
    "display:inline-block;background-color:#21543d;color:#ffffff;font-weight:bold;"
    "text-decoration:none;padding:12px 28px;border-radius:6px"
)
_STORIES = (
    ("Sow peas and broad beans",
     ("They like it cool. Draw a line two fingers deep, lay the seeds a hand apart, and firm the "
     "soil with the back of the rake. A fleece keeps the pigeons off until the plants have four "
     "leaves, and the first pods are ready before the summer holidays begin."), "peas"),
    ("Cut roses back",
     ("To three or four buds, just above one that faces outward. Take out what is dead, thin or "
     "crossing first; then there is little left to decide. Feed them once the new shoots are as "
     "long as a finger, and water at the foot rather than over the leaves."), "roses"),
    ("Feed the soil, not the plant",
     ("A finger of compost on every bed, and leave the rest to the worms. Dig only where you "
     "plant: undisturbed soil holds more water in July, and weeds need light to germinate which "
     "they do not get under a mulch of leaves, straw or the first cut of the lawn."), "compost"),
)  # fmt: skip


def _story(title: str, text: str, page: str) -> str:
    return (
        f'<tr><td style="{_CELL};font-size:20px;font-weight:bold">{title}</td></tr>'
        f'<tr><td style="{_CELL}">{text} '
        f'<a href="https://bench.example/{page}?from=letter" style="color:#21543d">Read on</a>'
        "</td></tr>"
    )


BODY = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The garden letter</title>
</head>
<body style="margin:0;padding:0;background-color:#f2f4f1">
<table role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0">
<tr><td align="center">
<table role="presentation" width="600" cellpadding="0" cellspacing="0" border="0" \
style="width:600px;max-width:100%;background-color:#ffffff">
<tr><td style="{_CELL};background-color:#21543d;color:#ffffff;font-size:22px;font-weight:bold">\
The garden letter for {{{{ city | default: "everywhere" }}}}</td></tr>
<tr><td style="{_CELL};font-size:26px;font-weight:bold">Good morning, \
{{{{ first_name | default: "friend" }}}} {{{{ last_name | default: "" }}}}</td></tr>
<tr><td style="{_CELL}">You read this letter as {{{{ email }}}}, and for \
{{{{ company | default: "yourself" }}}}. Your membership runs until \
{{{{ renews_on | default: "the end of the year" }}}}.</td></tr>
{{% if plan == "gold" %}}
<tr><td style="{_CELL};background-color:#fff7dd">As a gold member you order first: the code \
<strong>{{{{ coupon | default: "SPRING" }}}}</strong> takes a fifth off everything until \
Sunday, and your {{{{ points | default: 0 }}}} points count double.</td></tr>
{{% else %}}
<tr><td style="{_CELL}">Your {{{{ points | default: 0 }}}} points are good for seeds, tools and \
books in the shop, and the code <strong>{{{{ coupon | default: "SPRING" }}}}</strong> takes a \
tenth off your next order.</td></tr>
{{% endif %}}
{{% assign topics = interests | default: "" | split: "," %}}
{{% for topic in topics %}}
<tr><td style="{_CELL};border-left:4px solid #21543d">New this week about {{{{ topic }}}}: \
what others in {{{{ city | default: "your town" }}}} have tried.</td></tr>
{{% endfor %}}
{"".join(_story(*story) for story in _STORIES)}
<tr><td style="{_CELL}"><a href="https://bench.example/calendar?plan={{{{ plan | url_encode }}}}" \
style="{_BUTTON}">Open the spring calendar</a></td></tr>
<tr><td style="{_CELL};font-size:13px;color:#57606a">Questions? \
<a href="https://bench.example/help" style="color:#57606a">We answer every one of them</a>, most \
on the same day.</td></tr>
</table>
</td></tr>
</table>
</body>
</html>
"""
