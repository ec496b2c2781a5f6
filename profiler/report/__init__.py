"""One page about a workload: what it may do, on which evidence, and what changed since another release."""
