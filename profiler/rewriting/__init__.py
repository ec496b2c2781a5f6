"""Editing files of other programs in place: everything that is not changed keeps its bytes."""
