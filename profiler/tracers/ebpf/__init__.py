"""The eBPF tracer: watches from the kernel, without stopping the workload."""
