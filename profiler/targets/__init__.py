"""Targets: one module a system, each turning a policy into that system's files through templates/."""
