"""Policies: what a workload is allowed, runtime-neutral, each entry with its reasons."""
