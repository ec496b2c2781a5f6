"""The eBPF tracer: watches from the kernel, without stopping the workload."""

from profiler.tracers.ebpf.tracer import EbpfTracer

__all__ = ["EbpfTracer"]
