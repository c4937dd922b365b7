"""Indices of the items of a data set."""

from __future__ import annotations


def item_index(index: int, length: int) -> int:
    """An index of a data set of `length` items, from 0; -1 is the last item.

    Raises:
        IndexError: no such item, which also ends a `for` loop over the data set.
    """
    if not -length <= index < length:
        raise IndexError(f"item {index} of {length}")
    return index % length
