"""profgen: record a workload and write the least confinement that it can run under."""

__version__ = "0.1.0"
