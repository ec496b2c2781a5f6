"""Rules and labels for the Simplified Mandatory Access Control Kernel (Smack)."""
