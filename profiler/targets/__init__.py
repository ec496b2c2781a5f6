"""Targets: each turns a policy into the files of one system."""
