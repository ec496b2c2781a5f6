"""config.json of the OCI runtime specification: a fragment, or a user's file rewritten."""
