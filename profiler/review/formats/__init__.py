"""The formats of a Report, one module each, with a function ``render(report)`` that returns its text.

They read the report alone, and each passes every text through the quoting of its syntax.
"""
