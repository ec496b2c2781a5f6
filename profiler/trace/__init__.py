"""Evidence: the Trace model, its file format, and merging."""
