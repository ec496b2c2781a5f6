"""Container engines, systemd and control groups: what starts workloads besides profgen, and what it knows of them."""
