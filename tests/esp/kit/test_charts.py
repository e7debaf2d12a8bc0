"""Charts: what they say without being seen, and that nothing from outside becomes markup."""

from __future__ import annotations

import pytest

from esp.kit.charts import kind_for, line_chart, nice_top, short, sparkline, stack_bar

DAY = [{"label": "09:00", "opens": 12, "clicks": 3}, {"label": "10:00", "opens": 40, "clicks": 9}]


def test_a_line_chart_states_its_numbers_as_a_table() -> None:
    drawn = line_chart(DAY, title="The first day")
    assert "<caption>The first day</caption>" in drawn
    assert '<th scope="row">10:00</th><td>40</td><td>9</td>' in drawn
    assert drawn.count('class="curve"') == 2


def test_a_line_chart_names_each_curve_with_its_sum() -> None:
    drawn = line_chart(DAY, title="The first day")
    assert '<span>Opens</span><span class="num font-medium">52</span>' in drawn


def test_a_line_chart_without_points_says_so() -> None:
    assert "Nothing to show yet." in line_chart([], title="The first day")


def test_a_line_chart_of_one_point_is_drawn() -> None:
    assert "<svg" in line_chart(DAY[:1], title="One hour")


def test_two_charts_on_a_page_have_titles_of_their_own() -> None:
    first, second = (line_chart(DAY, title="A") for _ in range(2))
    assert first.split('id="chart-')[1][:4] != second.split('id="chart-')[1][:4]


def test_labels_from_outside_are_escaped_everywhere() -> None:
    evil = "<script>alert(1)</script>"
    drawn = line_chart([{"label": evil, evil: 1}], title=evil)
    drawn += stack_bar([{"label": evil, "count": 1, "kind": evil}], label=evil, css=evil)
    drawn += sparkline([1, 2], title=evil, kind=evil)
    assert "<script" not in drawn.lower()


@pytest.mark.parametrize(
    ("highest", "top"),
    [(0, 4), (4, 4), (5, 8), (9, 12), (443, 500), (1000, 1000), (98_001, 100_000)],
)
def test_an_axis_ends_at_a_round_number_above_the_highest_value(highest: float, top: float) -> None:
    assert nice_top(highest) == top


def test_the_steps_of_an_axis_are_whole_numbers() -> None:
    assert all((nice_top(highest) / 4).is_integer() for highest in range(5, 5000))
    assert all(nice_top(highest) >= highest for highest in range(5, 5000))


def test_a_bar_has_widths_that_add_up_and_a_key_that_counts() -> None:
    drawn = stack_bar(
        [{"label": "Delivered", "count": 1500}, {"label": "Bounced", "count": 500}],
        label="Progress",
    )
    assert "width:75.000%" in drawn
    assert "width:25.000%" in drawn
    assert 'aria-label="Progress: Delivered 1,500, Bounced 500"' in drawn


def test_a_bar_of_nothing_has_no_pieces_and_does_not_divide_by_zero() -> None:
    drawn = stack_bar([{"label": "Delivered", "count": 0}], label="Progress")
    assert "width:" not in drawn


def test_a_sparkline_of_zeros_is_drawn_on_the_floor() -> None:
    assert "M0.0 26.0 L96.0 26.0" in sparkline([0, 0], title="Opens")


def test_a_sparkline_needs_two_values() -> None:
    assert sparkline([3], title="Opens") == ""


@pytest.mark.parametrize(("number", "text"), [(999, "999"), (1500, "1.5k"), (2_000_000, "2M")])
def test_axis_numbers_are_short(number: float, text: str) -> None:
    assert short(number) == text


def test_a_kind_comes_from_the_caller_then_the_name_then_the_order() -> None:
    assert kind_for("Bounced", "info") == "info"
    assert kind_for("Bounced") == "error"
    assert kind_for("Bookings", index=1) == "accent"
