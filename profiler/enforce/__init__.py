"""Running a workload under a policy, and saying what the policy refused it."""
