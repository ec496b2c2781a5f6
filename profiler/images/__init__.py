"""Container images: read without an engine, and without unpacking them."""
