"""The line parser of the text format, held to the reference parser."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gpuward.agent.openmetrics import PageParser, ParseError, Series

NAMES = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,20}", fullmatch=True)
# Two underscores in front are Prometheus' own, and its parser refuses them.
LABEL_NAMES = st.from_regex(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]{0,10}", fullmatch=True)
LABEL_VALUES = st.text(
    st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from('\\"{}, #\n')
)
VALUES = st.floats(allow_nan=False) | st.integers(-(10**6), 10**6).map(float)


class Everything:
    """Wants every name."""

    def __contains__(self, name):
        return True


def parser(names=None):
    return PageParser(names or Everything(), lambda series: series)


def parse(text, parse_with=None):
    return list(zip(*(parse_with or parser()).read(text), strict=True))


def escape(text):
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def render(name, labels, value, stamp):
    inner = ",".join(f'{label}="{escape(text)}"' for label, text in labels.items())
    number = "+Inf" if value == math.inf else "-Inf" if value == -math.inf else repr(value)
    return f"{name}{{{inner}}} {number}{stamp}" if inner else f"{name} {number}{stamp}"


SAMPLES = st.tuples(
    NAMES,
    st.dictionaries(LABEL_NAMES, LABEL_VALUES, max_size=4),
    VALUES,
    st.sampled_from(["", " 1395066363000"]),
)


@given(st.lists(SAMPLES, max_size=6))
def test_agrees_with_the_reference(samples):
    """What the reference parser reads from a page, this one reads too."""
    text = "# HELP x y\n" + "".join(render(*sample) + "\n" for sample in samples)
    reference = [
        (Series(sample.name, sample.labels), sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]

    assert sorted(parse(text), key=repr) == sorted(reference, key=repr)


@given(st.text(alphabet=st.sampled_from('ab:{}=",\\ \t\n#1.eE+-_NaInf\x00é\r')))
def test_hostile_text_is_one_error(text):
    """Whatever a page holds, it is samples or a ParseError that names a line of it."""
    line = 1
    try:
        parse(text)
    except ParseError as error:
        line = error.line

    assert 1 <= line <= text.count("\n") + 1


@pytest.mark.parametrize(
    ("line", "series", "value"),
    [
        pytest.param("up 1", Series("up", {}), 1.0, id="bare"),
        pytest.param('up{a="b"} 1\t5', Series("up", {"a": "b"}), 1.0, id="tab before timestamp"),
        pytest.param("up\t1", Series("up", {}), 1.0, id="tab"),
        pytest.param("up{} 1", Series("up", {}), 1.0, id="empty braces"),
        pytest.param('up{a="b",} 1', Series("up", {"a": "b"}), 1.0, id="comma at the end"),
        pytest.param(
            'up{a="} 2 {", b="c d"} 1 5',
            Series("up", {"a": "} 2 {", "b": "c d"}),
            1.0,
            id="braces and blanks in values",
        ),
        pytest.param(
            r'up{a="\\\"\n"} 1', Series("up", {"a": '\\"\n'}), 1.0, id="the three escapes"
        ),
        pytest.param(
            'x_bucket{le="+Inf"} 1e3', Series("x_bucket", {"le": "+Inf"}), 1000.0, id="bucket"
        ),
        pytest.param("x +Inf", Series("x", {}), math.inf, id="infinite"),
    ],
)
def test_line(line, series, value):
    """Forms that engines write; a line is read the same when its series is known already."""
    again = parser()

    assert parse(line, again) == [(series, value)]
    assert parse(line, again) == [(series, value)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param("up", "expected a value", id="no value"),
        pytest.param("up one", "expected a value", id="a word"),
        pytest.param("up 1_000", "expected a value", id="Python's digits"),
        pytest.param("up 0x10", "expected a value", id="hexadecimal"),
        pytest.param("up 1 2 3", "expected a value", id="too many"),
        pytest.param("up 1 2.5", "timestamp", id="timestamp with a fraction"),
        pytest.param("up-time 1", "not a metric name", id="name with a dash"),
        pytest.param('up{a="b} 1', "not a list of labels", id="quote left open"),
        pytest.param('up{a="b",a="c"} 1', "not a list of labels", id="label twice"),
        pytest.param('up{a="b"}{c="d"} 1', "not a list of labels", id="two lists"),
        pytest.param("up{" + "a" * 20_000 + "} 1", "longer than", id="endless line"),
    ],
)
def test_error_names_the_line(line, reason):
    """What is not in the format is refused, with the number of its line."""
    with pytest.raises(ParseError, match=f"line 3: .*{reason}"):
        parse(f"# comment\n\n{line}\n")


def test_other_lines_may_hold_anything():
    """Only lines of wanted names are read."""
    text = 'other{broken\n1up\nvllm:ab 7\nvllm:a 1\n# vllm:a 3\n\xff\nvllm:c{x="y"} 2\n'

    assert parse(text, parser({"vllm:a", "vllm:c"})) == [
        (Series("vllm:a", {}), 1.0),
        (Series("vllm:c", {"x": "y"}), 2.0),
    ]


def test_a_series_is_understood_once():
    """The next page costs a look-up for each line, not a parse."""
    asked = []
    again = PageParser({"a", "b"}, lambda series: asked.append(series.name) or series.name)

    pages = [again.read(f'a{{x="1"}} {value}\nb {value}\nc 1\n') for value in (1, 2, 3)]

    assert pages == [(["a", "b"], [float(value)] * 2) for value in (1, 2, 3)]
    assert asked == ["a", "b"]


@given(st.lists(st.lists(SAMPLES, max_size=5), min_size=2, max_size=6), st.data())
def test_a_page_that_was_read_before_is_read_the_same(pages, data):
    """Series come, go and change places and values: each page says what it says to a stranger."""
    again = parser()
    for samples in (*pages, *pages):
        lines = [render(*sample) for sample in data.draw(st.permutations(samples))]
        text = "# HELP x y\n" + "".join(f"{line}\n" for line in lines)

        assert parse(text, again) == parse(text)


@pytest.mark.parametrize(
    ("page", "values"),
    [
        pytest.param("a 3\nb 1\nc 1\n", [3.0], id="another value"),
        pytest.param("b 1\nc 1\na 3\n", [3.0], id="another place"),
        pytest.param("a 3\nb 1\nc 1\nd 4\n", [3.0, 4.0], id="one more"),
        pytest.param("b 1\nc 1\n", [], id="none"),
        pytest.param("a 3 1700000000\nb 1\nc 1\n", [3.0], id="with a timestamp now"),
        pytest.param('a{x="1"} 3\nb 1\nc 1\n', [3.0], id="with a label now"),
        pytest.param("aa 3\nb 1\nc 1\n", [], id="a longer name"),
    ],
)
def test_a_page_that_changed_is_seen_at_once(page, values):
    again = PageParser({"a", "d"}, lambda series: series.name)
    for _ in range(3):
        again.read("a 1\nb 1\nc 1\n")

    assert again.read(page)[1] == values


def test_an_error_in_a_page_like_the_last_is_said_as_ever():
    again = parser({"a"})
    parse("# x\na 1\n", again)

    with pytest.raises(ParseError, match="line 2: expected a value"):
        again.read("# x\na one\n")


def test_a_series_in_the_very_place_of_another_is_seen_within_ten_pages():
    """All other lines stand where they stood: the one look that is not taken each time."""
    again = parser({"a", "d"})
    parse("a 1\nb 1\nc 1\n", again)

    found = [parse("a 1\nd 1\nc 1\n", again) for _ in range(10)]

    assert [len(samples) for samples in found] == [1] * 8 + [2, 2]


def test_a_series_that_is_not_wanted_after_all_is_left_out():
    """Names alone do not decide: a label may."""
    again = PageParser({"a"}, lambda series: series.labels.get("x"))

    for _ in range(2):
        assert again.read('a 1\na{x="y"} 2\n') == (["y"], [2.0])
