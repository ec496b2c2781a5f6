"""Run a workload under a policy, and report what the policy refused."""
