#!/bin/sh
# Install the Debian packages that a goal needs and that are missing: packages.sh venv|demo|test|programs|packages
# Only root can; an ordinary user is told what is missing and goes on with what there is.
set -eu

venv="python3-venv"
demo="$venv python3-bpfcc runc"
test="$demo crun docker.io docker-compose podman systemd-container strace bubblewrap curl git gcc gcc-multilib libc6-dev make nginx-light redis-server redis-tools wrk postgresql busybox-static iproute2 util-linux binutils procps apparmor file less tmux kmod udev shellcheck zstd lz4 fuse3 bindfs squashfuse squashfs-tools chromium fonts-dejavu-core zsh fish mandoc groff-base docker-registry skopeo containerd lxc secilc semodule-utils policycoreutils selinux-utils libvirt-daemon libvirt-daemon-driver-lxc libvirt-clients libxml2-utils openssl attr tomoyo-tools"
# For the virtual machine of tests/vm: a kernel with AppArmor, and what runs it. Other architectures' tests skip it.
[ "$(dpkg --print-architecture 2>/dev/null)" != amd64 ] || test="$test qemu-system-x86 linux-image-amd64 ima-evm-utils keyutils"

programs="$test openssh-server openssh-client mariadb-server openjdk-17-jdk-headless nodejs golang-go memcached haproxy"
programs="$programs lighttpd apache2 dnsmasq-base rsyslog bsdutils php-fpm cron iputils-ping bubblewrap"

packages="$venv debhelper dh-python dpkg-dev lintian mmdebstrap docker.io runc"

case "${1:-}" in
venv) wanted=$venv ;;
demo) wanted=$demo ;;
test) wanted=$test ;;
programs) wanted=$programs ;;
packages) wanted=$packages ;;
*) echo "usage: $0 venv|demo|test|programs|packages" >&2; exit 2 ;;
esac

command -v dpkg-query >/dev/null || { echo "not a Debian system; this needs the equivalent of: $wanted" >&2; exit 0; }

missing=
for package in $wanted; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing="$missing $package"
done
# A Python from elsewhere brings its own venv module.
if python3 -c 'import ensurepip' 2>/dev/null; then
    missing=$(printf '%s' "$missing" | sed 's/ python3-venv//')
fi
# A policy of SELinux to compile against, and LXD, which not every release has. Tests unpack them; to install them would
# change this machine.
stored=/var/cache/profgen-tests
fetched=
case "${1:-}" in
test) kept="selinux-policy-default lxd lxd-client libdqlite0 libraft2 rsync libpopt0" ;;
programs) kept=selinux-policy-default ;;
*) kept= ;;
esac
for package in $kept; do
    [ -e "$stored/$package.deb" ] || fetched="$fetched $package"
done
[ -n "$missing$fetched" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    [ -z "$missing" ] || echo "not installed:$missing (install them as root: apt-get install$missing); going on without" >&2
    [ -z "$fetched" ] || echo "not in $stored:$fetched (run this as root); going on without" >&2
    exit 0
fi

# Servers among these must not be started by their installation: the tests start their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT INT TERM
fi
export DEBIAN_FRONTEND=noninteractive
# Without a boot loader nobody starts the kernel but the virtual machine, which brings its own initramfs: half a minute saved.
[ -d /boot/grub ] || [ -d /boot/efi ] || [ -d /boot/loader ] || export INITRD=No
install() {
    # shellcheck disable=SC2086
    [ -z "$missing" ] || apt-get install -y -qq --no-install-recommends $missing || return
    for package in $fetched; do
        fetch "$package" || return
    done
}
fetch() (
    mkdir -p "$stored" && cd "$stored" || return
    case $1 in selinux-*) ;; *) [ -n "$(apt-cache madison "$1")" ] || return 0 ;; esac
    [ -e "$1.deb" ] || { apt-get download -qq "$1" && mv "$1"_*.deb "$1.deb"; }
)
echo "installing:$missing$fetched"
install >/dev/null 2>&1 || { apt-get update -qq && install >/dev/null; }
