"""Readers of traces, policies and profiles for people: what changed, why something is allowed, what is left open."""
