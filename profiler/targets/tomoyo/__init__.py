"""TOMOYO: domains for the programs of a workload."""
