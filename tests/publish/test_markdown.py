"""Whatever text goes into Markdown comes out of it as that text."""

import pytest

from factory.publish.markdown import code, fenced, table, text
from tests.publish.reading import GITHUB, HOSTILE, one_line, shown


def test_spaces_that_hold_words_together_stay():
    assert text("50\u00a0%") == "50\u00a0%"


@pytest.mark.parametrize("value", [*HOSTILE, "`" * 5, "", " ", "a\u0000b\u202ec", "\u2028"])
def test_escaped_text_is_shown_as_it_is(value):
    visible = one_line("".join(c if c.isprintable() else " " for c in value))
    for made in (text(value), code(value)):
        (inline,) = (t for t in GITHUB.parse(f"x {made}") if t.type == "inline")
        assert shown(inline) == f"x {visible}".rstrip()
    fence = GITHUB.parse(f"x\n\n{fenced(value, 'yaml')}\n\nend")
    assert [token.type for token in fence].count("fence") == 1
    assert shown(fence[-2]) == "end"


def test_table_leaves_out_empty_columns_and_sets_numbers_to_the_right():
    rows = [("a", "1,000", "", "\u22123.5 points"), ("b", "", "", "")]
    assert str(table(rows, "name", "count", "nothing", "gap")).splitlines() == [
        "| name | count | gap |",
        "| --- | --: | --: |",
        "| a | 1,000 | \u22123.5 points |",
        "| b |  |  |",
    ]
