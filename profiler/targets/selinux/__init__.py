"""SELinux policy modules."""
