"""The manifests of the Security Profiles Operator."""
