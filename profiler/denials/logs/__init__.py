"""Read denials from logs: the kernel's records of seccomp (type 1326), AppArmor and SELinux (type 1400), in any form.

``sources`` opens a log, ``openers`` decompresses and decodes it, ``scan`` finds the lines that matter. ``forms``
recognises the form of a log, ``text`` takes a record out of a line, ``journal`` out of an entry of systemd's journal.
``fields`` takes a record apart; ``seccomp``, ``apparmor`` and ``selinux`` make a Denial of it. ``reading`` counts.

A record is proven if only the kernel can have written it: records in auditd's log, in the journal's JSON or export form
with the journal's own mark of the transport, and in /dev/kmsg. Any local user can write lines into a text log, either
through syslog(3) with a name such as ``kernel``, or through a file name with a newline, which the kernel prints as it
is (show_signal_msg in arch/x86/mm/fault.c).
"""
