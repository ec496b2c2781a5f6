"""From what a tracer saw to trace files: of a command that has ended, and of containers, units and processes while
they run."""
