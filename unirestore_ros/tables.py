"""Tables as text for the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Row = Sequence[object]


def text_table(head: Sequence[str], rows: Iterable[Row]) -> str:
    """Columns under a head, as ``text_columns`` sets them."""
    return text_columns([head, *rows])


def text_columns(rows: Iterable[Row]) -> str:
    """Columns side by side, aligned to the left; None is a dash."""
    cells = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def markdown_table(head: Sequence[str], rows: Iterable[Row]) -> str:
    """The same in Markdown, ending with a newline; None is an empty cell."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in (head, *rows)]
    lines = [f"| {' | '.join(row)} |\n" for row in cells]
    return lines[0] + "|---" * len(head) + "|\n" + "".join(lines[1:])
