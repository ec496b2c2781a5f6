"""Ways to observe a workload. All fill the same Recording, hence the same Trace."""
