# The first program in the virtual machine: makes the file system the jobs see, then serves them.  setup.sh LAB
#
# The host's root is mounted a second time, cached, because the tests do not change it while they run and a Python starts three times as
# fast. It is the lower layer of an overlay: what a job or an intruder under test writes stays in the machine's memory.
# Only LAB/shared is the host's own directory, uncached. LAB/work is a tmpfs, which supports everything (O_TMPFILE, xattr), at a path that
# exists on the host too.
# The machine has its own /tmp, /var/tmp and /run. LAB/shared/visible lists directories of the host, one a line, that jobs need: those below
# a hidden directory are mounted again, read-only.
set -e
lab=$1
new=/run/lab
mkdir -p $new
mount -t tmpfs -o mode=755 lab $new
mkdir $new/lower $new/upper $new/work $new/root
mount -t 9p -o ro,version=9p2000.L,trans=virtio,access=any,msize=512000,cache=loose profgen-lab $new/lower
mount -t overlay -o lowerdir=$new/lower,upperdir=$new/upper,workdir=$new/work lab $new/root
root=$new/root
mount --make-rprivate /
mkdir -p "$root$lab/shared" "$root$lab/work"
mount --bind "$lab/shared" "$root$lab/shared"
mount -t tmpfs -o mode=755 lab "$root$lab/work"
for name in tmp var/tmp; do mount -t tmpfs -o mode=1777 lab "$root/$name"; done
for name in run dev/shm; do mkdir -p "$root/$name"; done
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 lab "$root/run"
mkdir -p "$root/run/lock" "$root/run/postgresql"
chmod 1777 "$root/run/lock"
while IFS= read -r directory; do
    if ! [ -d "$root$directory" ]; then
        mkdir -p "$root$directory"
        mount --bind "$new/lower$directory" "$root$directory"
    fi
done <"$lab/shared/visible"
mount -t securityfs securityfs "$root/sys/kernel/security" || :
mount -t tracefs tracefs "$root/sys/kernel/tracing" || :
mount -t debugfs debugfs "$root/sys/kernel/debug" || :
mount -t bpf bpf "$root/sys/fs/bpf" || :
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup" || :
mkdir -p "$root/run/old"
cd "$root"
pivot_root . run/old
cd /
umount -l /run/old
rmdir /run/old
ip link set lo up || :
# Programs make files with the host's name in theirs.
cat "$lab/shared/hostname" >/proc/sys/kernel/hostname
# Every line about a refusal is wanted: no limit to their rate, and none on the (slow, emulated) serial line.
echo 0 >/proc/sys/kernel/printk_ratelimit
echo 1 >/proc/sys/kernel/printk
[ ! -d /sys/kernel/security/apparmor ] || printf 'profile profgen-lab-mark {\n}\n' | apparmor_parser -r -K
cp "$lab/shared/agent" /run/agent
echo ready >"$lab/shared/jobs/ready"
exec /run/agent serve "$lab/shared/jobs"
