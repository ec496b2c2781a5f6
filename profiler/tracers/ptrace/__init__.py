"""Recording with ptrace(2)."""
