"""Tables for a person at a terminal."""

from collections.abc import Iterator, Sequence


def lines(cells: Sequence[Sequence[str]], *, width: int | None = None, shrink: Sequence[int] = ()) -> Iterator[str]:
    """Yield the rows, the head first, in columns. With `width` the columns that may `shrink` are cut to fit."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    while shrink and width is not None and sum(widths) + 2 * (len(widths) - 1) > width:
        widest = max(shrink, key=lambda column: widths[column])
        if widths[widest] <= len(cells[0][widest]):
            break
        widths[widest] -= 1
    for row in cells:
        yield "  ".join(_cut(cell, size).ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip()


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 1] + "…"
