"""profgen: watch a workload and write the least confinement it runs under."""

__version__ = "0.1.0"
