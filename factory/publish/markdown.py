"""Text that others wrote, put into GitHub's Markdown so that it stays text."""

import re
from collections.abc import Sequence

from markupsafe import Markup

# An underscore within a word is none of emphasis.
_SPECIAL = re.compile(r"[\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_FIXED_SPACE = "\u00a0"
_NUMBER = re.compile(r"[-+\u2212]?\d")
# What makes a list item, a heading or a rule of the start of a line.
_BLOCK = re.compile(r"^(?:([-+=#])(?!\d)|(\d+)([.)])(?=\s|$))")


def text(value: object) -> Markup:
    """A value as one line of plain text; what is Markdown already stays as it is."""
    if isinstance(value, Markup):
        return value
    line = _SPECIAL.sub(r"\\\g<0>", one_line(str(value)).translate(_ENTITIES))
    return Markup(_BLOCK.sub(lambda m: f"\\{m[1]}" if m[1] else f"{m[2]}\\{m[3]}", line))


def code(value: object) -> Markup:
    """A value as a code span, outside tables; as plain text where a span cannot hold it."""
    line = one_line(str(value))
    return text(line) if re.search(r"[`|]", line) or not line else Markup(f"`{line}`")


def fenced(value: str, language: str) -> Markup:
    """A block of code, fenced by more backticks than it holds."""
    longest = max(map(len, re.findall(r"`+", value)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}{language}\n{value.rstrip()}\n{fence}")


def paragraphs(value: str) -> Markup:
    """Plain text of one or more paragraphs, which empty lines divide."""
    return Markup("\n\n").join(text(part) for part in re.split(r"\n\s*\n", value) if part.strip())


def table(rows: Sequence[Sequence[object]], *header: str) -> Markup:
    """A table; columns without any entry are left out, those of numbers are set to the right."""
    columns = [[text(row[place]) for row in rows] for place in range(len(header))]
    kept = [place for place, cells in enumerate(columns) if any(cells)]
    ruler = ["--:" if all(map(_NUMBER.match, filter(None, columns[p]))) else "---" for p in kept]
    lines = [
        [text(header[place]) for place in kept],
        ruler,
        *([columns[place][number] for place in kept] for number in range(len(rows))),
    ]
    return Markup("\n").join(Markup(f"| {' | '.join(line)} |") for line in lines)


def one_line(value: str) -> str:
    """Without line breaks and what else shows nothing; spaces that hold words together stay."""
    visible = (c if c.isprintable() or c == _FIXED_SPACE else " " for c in value)
    return re.sub(" +", " ", "".join(visible)).strip(" ")
