"""Cards as the Hub shows them, and text that wants to be more than text."""

from markdown_it import MarkdownIt

GITHUB = MarkdownIt("gfm-like", {"linkify": False, "html": True})
"""The Markdown dialect of the Hub."""


HOSTILE = (
    "a | b",
    "`code`",
    "<script>alert('&')</script>",
    "---",
    "- [x] # done",
    "1. first",
    "*bold* _it_ ~~no~~ $x$",
    "[link](http://example.org) ![i](x.png)",
    "two\nlines\n---\nthree",
    "\u732b \u00fc \U0001f408 \"quoted\" 'so' \\",
    "{{ 7 * 7 }} {% raw %}",
    "no: [yaml, here] # never",
    "</details><h1>",
)


def shown(inline) -> str:
    """What a reader sees of a piece of text."""
    return "".join(child.content for child in inline.children)


def one_line(value: str) -> str:
    return " ".join(value.split())
