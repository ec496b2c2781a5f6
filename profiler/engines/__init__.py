"""Container engines, systemd and control groups: what starts workloads, apart from profgen, and what it knows."""
