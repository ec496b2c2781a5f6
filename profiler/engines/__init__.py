"""Container engines, systemd and control groups: who starts workloads, what they tell of them, and where the kernel
keeps them."""
