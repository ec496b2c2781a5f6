"""Text from outside (file names, arguments) made safe for each syntax that profgen writes: one module a syntax. Nothing
else quotes.

Text may hold anything a Linux file name or argument may: newlines, quotes, control characters, and bytes that are not
UTF-8, which stand as lone surrogates (PEP 383). Each module lists its template filters in ``FILTERS``.
"""
