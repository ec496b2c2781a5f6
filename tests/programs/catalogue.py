"""The programs of Debian packages that the suite runs. A new one is a class, and one line here."""

from __future__ import annotations

from programs.daemons import Bubblewrap, Cron, Dnsmasq, Ping, Rsyslog
from programs.databases import MariaDB, Memcached
from programs.languages import Gcc, Git, Go, Java, Node
from programs.sshd import Sshd
from programs.web import Apache, Haproxy, Lighttpd, PhpFpm
from system.lab.workloads import Workload

PROGRAMS: tuple[type[Workload], ...] = (
    Sshd,
    MariaDB,
    Java,
    Node,
    Go,
    Memcached,
    Haproxy,
    Lighttpd,
    Apache,
    Dnsmasq,
    Rsyslog,
    PhpFpm,
    Cron,
    Ping,
    Bubblewrap,
    Git,
    Gcc,
)
IN_THE_MACHINE: tuple[type[Workload], ...] = (Java, MariaDB, Go, Apache, Sshd)
"""Those that also run in the virtual machine, under AppArmor."""
