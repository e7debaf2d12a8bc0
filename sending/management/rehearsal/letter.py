"""The campaign of a rehearsal: a newsletter in MJML with variables, a loop and a condition."""

from __future__ import annotations

SUBJECT = "{{ first_name | default: 'Hello' }}, your spring garden starts here"
PREVIEW = "Three ideas for the first warm weekend, and what to plant now."

BODY = """\
<mjml>
  <mj-head>
    <mj-attributes>
      <mj-all font-family="Helvetica, Arial, sans-serif" />
      <mj-text font-size="16px" line-height="1.55" color="#24292f" />
    </mj-attributes>
  </mj-head>
  <mj-body background-color="#f2f4f1">
    <mj-section background-color="#21543d" padding="28px 24px">
      <mj-column>
        <mj-text color="#ffffff" font-size="22px" font-weight="bold">Acme Garden</mj-text>
      </mj-column>
    </mj-section>
    <mj-section background-color="#ffffff" padding="28px 24px 8px">
      <mj-column>
        <mj-text font-size="26px" line-height="1.25" font-weight="bold">
          Good morning{% if first_name %}, {{ first_name }}{% endif %}
        </mj-text>
        <mj-text>
          {% if city %}The soil in {{ city }} is warm enough now.{% else %}The soil is warm enough
          now.{% endif %} Here is what is worth doing on the first free weekend.
        </mj-text>
      </mj-column>
    </mj-section>
    <mj-section background-color="#ffffff" padding="0 24px">
      <mj-column>
        <mj-text font-weight="bold">Sow peas and broad beans</mj-text>
        <mj-text padding-top="0">They like it cool. Two fingers deep, a hand apart.
          <a href="https://acme.example/peas">How to sow them</a></mj-text>
        <mj-text font-weight="bold">Cut roses back</mj-text>
        <mj-text padding-top="0">To three or four buds, just above one that faces outward.
          <a href="https://acme.example/roses">See the cut</a></mj-text>
        <mj-text font-weight="bold">Feed the soil, not the plant</mj-text>
        <mj-text padding-top="0">A finger of compost on every bed, and leave the rest to the worms.
          <a href="https://acme.example/compost">Make your own</a></mj-text>
      </mj-column>
    </mj-section>
    <mj-section background-color="#ffffff" padding="8px 24px 32px">
      <mj-column>
        <mj-button background-color="#21543d" color="#ffffff" border-radius="6px"
          href="https://acme.example/spring?from=letter">Open the spring calendar</mj-button>
      </mj-column>
    </mj-section>
  </mj-body>
</mjml>
"""
