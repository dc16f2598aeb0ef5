"""Documents to hand to a person: one value as Markdown or as a web page that prints well.

A page is one file: no script, nothing that is fetched, and a policy inside it that would
refuse both. It is ASCII, so that no encoding on its way can harm it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tokenctl.output import text
from tokenctl.output.views import Cell, Column, for_people

# What Markdown would take for a mark, or HTML for a tag or an entity. An underscore inside a word is none.
_MARKS = re.compile(r"[\\`*\[\]<>|~&#!]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
# So much of a word stands on one line whatever room there is.
_LONG = re.compile(r"\S{24}(?=\S)")
_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 2.5rem auto; max-width: 60rem; padding: 0 1.5rem; color: #1a1a1a; background: #fff;
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .25rem; }
.about { margin: 0 0 1.5rem; color: #555; }
dl { display: flex; flex-wrap: wrap; gap: .75rem 2.5rem; margin: 0 0 1.75rem; padding: .9rem 1.1rem;
  border: 1px solid #ccc; border-radius: 6px; }
dt { font-size: .8rem; color: #555; }
dd { margin: 0; font-size: 1.2rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .35rem .6rem; text-align: left; vertical-align: top; }
thead th { border-bottom: 2px solid #1a1a1a; font-size: .8rem; }
tbody td { border-bottom: 1px solid #ddd; }
.first td, .last td { font-weight: 600; }
.last td { border-top: 2px solid #1a1a1a; border-bottom: 0; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.fixed { white-space: nowrap; }
footer { margin-top: 1.75rem; font-size: .8rem; color: #555; }
footer p { margin: .15rem 0; }
@media (max-width: 40rem) { body { margin: 1rem auto; padding: 0 .6rem; font-size: 13px; }
  th, td { padding: .3rem .35rem; } }
@page { size: A4; margin: 18mm 15mm; }
@media print { body { margin: 0; padding: 0; max-width: none; font-size: 10pt; } .wide { overflow: visible; }
  thead { display: table-header-group; } tr, dl { break-inside: avoid; } h1, caption { break-after: avoid; } }
"""


@dataclass(frozen=True)
class Document:
    """A title, what it is about, the numbers to see first, a table whose first and last rows frame it, and a foot."""

    title: str
    about: str
    facts: Sequence[tuple[str, Cell]]
    caption: str
    columns: Sequence[Column]
    first: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    last: Sequence[Cell]
    foot: Sequence[str]


def markdown(document: Document) -> str:
    """The document as Markdown with GitHub's tables, whose columns stand one below the other as plain text too."""
    facts = _grid([("", False), ("tokens", True)], [[name, _cell(cell)] for name, cell in document.facts])
    headings = [(column.heading, column.number) for column in document.columns]
    framed = [document.first, *document.rows, document.last]
    bold = {0, len(framed) - 1}
    rows = [
        [f"**{cell}**" if n in bold and cell else cell for cell in _marked(document.columns, row)]
        for n, row in enumerate(framed)
    ]
    foot = "\n\n".join(map(_escaped, document.foot))
    head = f"# {_escaped(document.title)}\n\n{_escaped(document.about)}"
    return "\n\n".join((head, facts, f"## {_escaped(document.caption)}", _grid(headings, rows), foot)) + "\n"


def _marked(columns: Sequence[Column], row: Sequence[Cell]) -> list[str]:
    return [_escaped(_cell(cell, column)) for cell, column in zip(row, columns, strict=True)]


def _escaped(words: str) -> str:
    """A text with nothing in it that Markdown reads."""
    return _MARKS.sub(r"\\\g<0>", text.clean(words))


def _grid(headings: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]]) -> str:
    """A table; each heading says whether its column holds numbers, which stand on the right."""
    widths = [max(3, len(name), *(len(row[n]) for row in rows)) for n, (name, _) in enumerate(headings)]

    def line(cells: Sequence[str]) -> str:
        aligned = [
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, (_, is_number) in zip(cells, widths, headings, strict=True)
        ]
        return "| " + " | ".join(aligned) + " |"

    rule = [
        "-" * (width - 1) + ":" if is_number else "-" * width
        for width, (_, is_number) in zip(widths, headings, strict=True)
    ]
    return "\n".join([line([name for name, _ in headings]), line(rule), *map(line, rows)])


def page(document: Document) -> str:
    """The document as a web page."""
    facts = "\n".join(
        f"<div><dt>{_said(name)}</dt><dd>{_said(_cell(cell))}</dd></div>" for name, cell in document.facts
    )
    heads = "".join(f'<th scope="col"{_kind(column)}>{_said(column.heading)}</th>' for column in document.columns)
    rows = [_row(document.columns, document.first, "first")]
    rows += [_row(document.columns, row) for row in document.rows]
    rows.append(_row(document.columns, document.last, "last"))
    body = "\n".join(rows)
    foot = "\n".join(f"<p>{_said(line)}</p>" for line in document.foot)
    written = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{_said(document.title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{_said(document.title)}</h1>
<p class="about">{_said(document.about)}</p>
<dl>
{facts}
</dl>
<div class="wide">
<table>
<caption>{_said(document.caption)}</caption>
<thead>
<tr>{heads}</tr>
</thead>
<tbody>
{body}
</tbody>
</table>
</div>
</main>
<footer>
{foot}
</footer>
</body>
</html>
"""
    return written.encode("ascii", "xmlcharrefreplace").decode()


def _row(columns: Sequence[Column], row: Sequence[Cell], name: str = "") -> str:
    cells = "".join(
        f"<td{_kind(column)}>{_said(_cell(cell, column))}</td>" for cell, column in zip(row, columns, strict=True)
    )
    return f'<tr class="{name}">{cells}</tr>' if name else f"<tr>{cells}</tr>"


def _kind(column: Column) -> str:
    return ' class="number"' if column.number else ' class="fixed"' if not column.optional else ""


def _said(words: str) -> str:
    """A text of the page. A word that no column has room for may be broken, every so many characters."""
    pieces = _LONG.sub("\\g<0>\0", text.clean(words)).split("\0")  # a cleaned text has no NUL
    return "<wbr>".join(map(html.escape, pieces))


def _cell(cell: Cell, column: Column | None = None) -> str:
    """A cell as people read it; one that holds nothing is empty here."""
    return "" if cell is None else for_people(cell, signed=column is not None and column.signed)
