"""Wrong shaping files are refused, each mistake with its line and reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sending.engine.shaping.patterns import compile_pattern
from sending.engine.shaping.policy import Problem, ShapingInvalid, load_shaping, shipped_files
from sending.engine.shaping.toml_lines import line_numbers

GOOD = """\
[default]
connections = 10
messages_per_connection = 100

[site.acme]
title = "Acme"
suffixes = ["acme.example"]
mx = ["mx.acme.example"]
connections = 3
source = "its page"

[site.globex]
title = "Globex"
suffixes = ["globex.example"]
mx = ["mx.globex.example"]
source = "its page"

[[rule]]
id = "acme-is-full"
title = "Acme is full"
sites = ["acme"]
code = [451]
enhanced = ["4.7.*"]
text = [
  'too much',
  'no (?:more|room)',
]
reaction = "slow_down"
factor = 0.5
seconds = 60
then = [{ reaction = "suspend", seconds = 600, times = 3, within_seconds = 60 }]
source = "its page"
examples = [
  "451 4.7.1 Too much",
  "451 4.7.2 No room",
]
"""


def problems(text: str, *, extra: str | None = None) -> list[tuple[int, str]]:
    with pytest.raises(ShapingInvalid) as caught:
        load_shaping(text, extra=extra)
    return [(problem.line, problem.reason) for problem in caught.value.problems]


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def test_the_shipped_files_are_right() -> None:
    shaping = load_shaping()
    assert len(shaping.sites) > 50
    assert len(shaping.rules) > 40


def test_a_right_file_is_read() -> None:
    shaping = load_shaping(GOOD)
    assert shaping.limits_for("acme").connections == 3
    assert shaping.limits_for("acme").messages_per_connection == 100
    (rule,) = shaping.rules
    assert [step.kind for step in rule.reactions] == ["slow_down", "suspend"]
    assert (rule.reactions[1].times, rule.reactions[1].within_seconds) == (3, 60)


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("connections = 10\n", "connections = \n", 2, "not TOML"),
        ("connections = 10\n", "conections = 10\n", 2, "unknown key 'conections'"),
        ("connections = 10\n", "connections = 0\n", 2, "above zero"),
        ("connections = 10\n", f"connections = {'9' * 5000}\n", 2, "far too long"),
        ("connections = 10\n", f"connections = {'[' * 9000}\n", 2, "far too deep"),
        ("connections = 10\n", "connections = -1\n", 2, "above zero"),
        ("connections = 10\n", "connections = 2.5\n", 2, "a whole number, not 2.5"),
        ("connections = 10\n", "connections = true\n", 2, "a whole number, not True"),
        ("connections = 10\n", 'connections = "unlimited"\n', 2, "a whole number"),
        ("connections = 10\n", "per_second = 1\n", 1, "lack connections"),
        ("connections = 3\n", 'connections = "3"\n', 9, "a whole number, not '3'"),
        ("connections = 3\n", "per_second = inf\n", 9, "above zero and below"),
        ("connections = 3\n", "per_second = nan\n", 9, "above zero and below"),
        ('title = "Acme"\n', "", 5, "title is missing"),
        ('title = "Acme"\n', "title = 3\n", 6, "title must be a text"),
        ('suffixes = ["acme.example"]\n', "", 5, "no suffixes"),
        ('suffixes = ["acme.example"]', 'suffixes = ["Acme.Example"]', 7, "no host name"),
        ('suffixes = ["acme.example"]', 'suffixes = [".acme.example."]', 7, "no host name"),
        ('suffixes = ["acme.example"]', 'suffixes = "acme.example"', 7, "must be a list"),
        ('mx = ["mx.acme.example"]\n', "", 5, "no recorded mx"),
        ('mx = ["mx.acme.example"]', 'mx = ["mx.other.example"]', 8, "belongs to no site"),
        ('mx = ["mx.acme.example"]', 'mx = ["mx.globex.example"]', 8, "belongs to globex"),
        ('suffixes = ["globex.example"]', 'suffixes = ["acme.example"]', 14, "'acme' already"),
        ("[site.acme]", "[site.Acme]", 5, "lower-case letters"),
        ("[site.acme]", "[sites.acme]", 5, "unknown key 'sites'"),
        ("[[rule]]", "[rule]", 18, "[[rule]]"),
        ('id = "acme-is-full"\n', "", 18, "id is missing"),
        ('sites = ["acme"]\n', "", 18, "names no sites"),
        ('sites = ["acme"]', 'sites = ["acmee"]', 21, "'acmee'; did you mean 'acme'?"),
        ("code = [451]", "code = 451", 22, "a list of numbers"),
        ("code = [451]", "code = [250]", 22, "no code from 400"),
        ("code = [451]", "code = [451, 452]", 22, "no example has the code 452"),
        ('enhanced = ["4.7.*"]', 'enhanced = ["4.7"]', 23, "no enhanced code"),
        ('enhanced = ["4.7.*"]', 'enhanced = ["4.7.*", "4.2.1"]', 23, "enhanced code 4.2.1"),
        ("  'too much',", "  'too (much',", 25, "does not compile"),
        ("  'too much',", "  'too.*much',", 25, "without a bound"),
        ("  'too much',", "  '(?:too ){0,9}.{0,999}much',", 25, "multiply to"),
        ("  'too much',", r"  '\\[too much\\]',", 25, "no example has the text"),
        ("  'too much',", "  'Too much',", 25, "capital letters"),
        ("  'no (?:more|room)',", "  'never said',", 26, "no example has the text"),
        ('reaction = "slow_down"', 'reaction = "slowdown"', 28, "is none of"),
        ("factor = 0.5\n", "", 18, "factor"),
        ("factor = 0.5\n", "factor = 2\n", 29, "between 0 and 1"),
        ("seconds = 60\nthen", "then", 28, "needs seconds"),
        ("times = 3, ", "", 31, "go together"),
        ('reaction = "suspend", seconds = 600', 'reaction = "suspend"', 31, "needs seconds"),
        ('source = "its page"\nexamples', "examples", 18, "source is missing"),
        ('  "451 4.7.1 Too much",', '  "451 4.7.1 Quite much",', 34, "is met by no rule"),
        ('  "451 4.7.2 No room",', '  "551 5.7.2 No room",', 35, "is met by no rule"),
    ],
)
def test_every_mistake_is_named_with_its_line(old: str, new: str, line: int, reason: str) -> None:
    found = problems(changed(old, new))
    assert any(at == line and reason in why for at, why in found), found


def test_a_rule_without_examples_is_refused() -> None:
    text = GOOD[: GOOD.index("examples = [")]
    assert (18, "the rule has no recorded reply in examples") in problems(text)


def test_a_rule_that_another_one_overtakes_is_refused() -> None:
    rule = GOOD[GOOD.index("[[rule]]") :]
    shadowed = rule.replace("acme-is-full", "late").replace("'too much'", "'too much|much'")
    line = GOOD.count("\n") + 1
    assert (line + 16, "'451 4.7.1 Too much' is decided by the rule 'acme-is-full' at 'acme'") in (
        problems(GOOD + shadowed)
    )


def test_two_rules_with_one_id_are_refused() -> None:
    rule = GOOD[GOOD.index("[[rule]]") :]
    assert any("stands in line 19 already" in why for _, why in problems(GOOD + rule))


def test_all_mistakes_are_told_at_once_with_the_files_name() -> None:
    text = changed("connections = 10\n", "connections = 0\n").replace("4.7.*", "4.x")
    with pytest.raises(ShapingInvalid) as caught:
        load_shaping(text)
    first, second = str(caught.value).splitlines()[:2]
    assert first.startswith("shaping.toml, line 2: connections must be above zero")
    assert second.startswith("shaping.toml, line 23: ")


# --- An operator's own file ---


def test_an_operator_changes_one_number_of_a_site() -> None:
    shaping = load_shaping(extra="[site.google]\nconnections = 2\n")
    assert shaping.limits_for("google").connections == 2
    assert shaping.limits_for("google").messages_per_connection == 50
    assert shaping.site_title("google") == "Gmail and Google Workspace"


def test_an_operator_adds_a_site_and_a_rule_that_come_first() -> None:
    extra = GOOD[GOOD.index("[site.acme]") :].replace('sites = ["acme"]', 'sites = ["google"]')
    shaping = load_shaping(extra=extra)
    assert shaping.rules[0].id == "acme-is-full"
    assert shaping.sites["acme"].limits.connections == 3


def test_an_operator_replaces_a_rule_and_switches_one_off() -> None:
    extra = """\
off = ["judged-spam"]

[[rule]]
id = "too-fast"
title = "Too fast"
sites = ["*"]
text = ['rate limit exceeded']
reaction = "suspend"
seconds = 5
source = "our experience"
examples = ["451 4.7.1 Rate limit exceeded"]
"""
    shaping = load_shaping(extra=extra)
    assert "judged-spam" not in shaping.rules_by_id
    assert [step.seconds for step in shaping.rules_by_id["too-fast"].reactions] == [5]
    assert len(shaping.rules) == len(load_shaping().rules) - 1


def test_an_operator_lifts_a_rate() -> None:
    shaping = load_shaping(extra='[default]\nconnections = 500\nper_second = "unlimited"\n')
    assert shaping.default.connections == 500
    assert shaping.default.per_second is None


def test_an_operators_mistake_is_told_with_its_own_line() -> None:
    assert problems(GOOD, extra='off = [\n  "nonsense",\n]\n') == [
        (2, "there is no rule 'nonsense' to switch off")
    ]
    assert problems(GOOD, extra="\n[site.acme]\nconnections = 0\n")[0][0] == 3


# --- Lines and patterns ---


def test_line_numbers_find_tables_keys_and_elements() -> None:
    lines = line_numbers(GOOD)
    assert lines["site", "acme"] == 5
    assert lines["site", "globex", "mx"] == 15
    assert lines["rule", 0] == 18
    assert lines["rule", 0, "text", 1] == 26
    assert lines["rule", 0, "examples", 0] == 34


def test_line_numbers_are_not_fooled_by_strings_and_comments() -> None:
    text = (
        'a = "x\\"[b]" # [c]\n[t] # note = 1\nk = """\n[no]\nz = 1\n"""\nlast = [1, [2,\n 3], 4]\n'
    )
    assert dict(line_numbers(text)) == {
        ("a",): 1,
        ("t",): 2,
        ("t", "k"): 3,
        ("t", "last"): 7,
        ("t", "last", 0): 7,
        ("t", "last", 1): 7,
        ("t", "last", 2): 8,
    }


def test_the_lines_of_the_shipped_files_are_those_of_their_text() -> None:
    for text in shipped_files().values():
        rows = text.splitlines()
        for path, line in line_numbers(text).items():
            if isinstance(path[-1], str) and path[0] == "rule" and len(path) > 1:
                assert rows[line - 1].startswith(f"{path[-1]} = ")


@pytest.mark.parametrize(
    "pattern", ["a+", "a*", "a{2,}", "(?:a{0,3}b){0,3}", "(?=a)", "(?P<x>a)", ".{0,80}.{0,80}", ""]
)
def test_patterns_that_a_text_could_make_slow_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        compile_pattern(pattern)


@pytest.mark.parametrize("pattern", ["ab?", r"\[ab\]", "[*+{]x", r"a\+b", "(?:ab|c){0,5}d", "a{3}"])
def test_harmless_patterns_are_taken(pattern: str) -> None:
    assert compile_pattern(pattern).pattern == pattern


@pytest.mark.parametrize("pattern", ["a?", "(?:ab){0,4}", "a|"])
def test_a_pattern_that_matches_everything_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="match everything"):
        compile_pattern(pattern)


@given(st.text(max_size=200))
def test_any_text_at_all_is_read_or_refused_with_a_line(text: str) -> None:
    found: tuple[Problem, ...] = ()
    try:
        load_shaping(text)
    except ShapingInvalid as error:
        found = error.problems
    assert all(problem.line >= 1 and problem.reason for problem in found)


@pytest.mark.parametrize(
    ("own", "line", "reason"),
    [
        ("[site.gogle]\nconnections = 2\n", 1, "no site 'gogle' to change; did you mean 'google'?"),
        ('off = ["google-address-is-to-fast"]\n', 1, "did you mean 'google-address-is-too-fast'?"),
        ('[site.mine]\ntitle = "M"\nsource = "u"\nsuffixes = ["google.com"]\nmx = ["google.com"]\n',
         4, "the suffix google.com belongs to the site 'google' already"),
    ],
)  # fmt: skip
def test_one_mistake_of_an_operator_is_one_complaint(own: str, line: int, reason: str) -> None:
    with pytest.raises(ShapingInvalid) as caught:
        load_shaping(extra=own)
    (problem,) = caught.value.problems
    assert problem.line == line
    assert reason in problem.reason


def test_the_mark_of_an_editor_in_front_is_no_mistake() -> None:
    own = "\ufeff[site.google]\nconnections = 3\n"
    assert load_shaping(extra=own).limits_for("google").connections == 3
