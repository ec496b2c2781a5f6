"""Quote text from outside (file names, arguments) for each syntax that profgen writes, one module for each syntax.

No other code quotes. Text may hold whatever a Linux file name or argument may: newlines, quotes, control characters,
and bytes that are not UTF-8, represented as lone surrogates (PEP 383). A module that templates use lists its filters in
``FILTERS``.
"""
