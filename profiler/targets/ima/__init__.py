"""Hashes for the Integrity Measurement Architecture of the kernel (IMA)."""
