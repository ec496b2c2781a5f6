"""Profiles as OCI artifacts (KEP-6061), and the registries that hold them."""
