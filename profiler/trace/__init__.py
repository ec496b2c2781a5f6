"""Evidence: the Trace model, reading and writing it, merging."""
