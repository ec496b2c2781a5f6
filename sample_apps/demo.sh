#!/bin/sh
# The whole tour on the sample web service: record it under its load, generate its profile, run it confined in a real
# runtime, and see that what it never did is refused. PROFGEN names the command (default: profgen). Leaves nothing
# behind; safe to repeat.
set -eu

profgen=${PROFGEN:-profgen}
apps=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
export PYTHONDONTWRITEBYTECODE=1
work=$(mktemp -d /tmp/profgen-demo.XXXXXX)
container=$(basename "$work")
runtime=

clean_up() {
    if [ -n "$runtime" ]; then
        timeout -s KILL 20 runc --root "$work/runc" delete --force "$container" > /dev/null 2>&1 || :
    fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

title() { printf '\n== %s\n' "$*"; }
show() { # print a command, then run it, for two minutes at most
    printf '\n$ %s\n' "$*"
    timeout -k 10 120 "$@"
}
fail() {
    printf '\ndemo: FAILED: %s\n' "$*" >&2
    exit 1
}

free_port() { # the first of the given ports that is free on 127.0.0.1
    for port in "$@"; do
        if /usr/bin/python3 -c 'import socket, sys; s = socket.socket(); s.setsockopt(1, 2, 1); s.bind(("127.0.0.1", int(sys.argv[1])))' "$port" 2> /dev/null; then
            echo "$port"
            return
        fi
    done
    fail "no free port among: $*"
}

command -v "$profgen" > /dev/null || fail "no $profgen; run make demo, or set PROFGEN"
command -v /usr/bin/python3 > /dev/null || fail "the sample web service needs /usr/bin/python3"
chmod 755 "$work"
mkdir "$work/log"
cd "$work"

if [ "$(id -u)" = 0 ]; then
    port=$(free_port 80 81 82 83 8080)
    user=nobody
    unset SUDO_UID SUDO_GID # profgen would run the command as that user
else
    port=$(free_port 8080 8081 8082 8083)
    user=root # in a user's own container, root is that user
fi
server="$apps/webservice/v1/server.py"
load="$apps/webservice/load.py"
log="$work/log/access.log"

# The container has this host's /usr and /etc, the sample, a directory for the log, and the host's network. profgen adds the
# seccomp profile and the capabilities to config.json.
write_bundle() { # write_bundle COMMAND...
    arguments=$(/usr/bin/python3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@")
    if [ "$(id -u)" = 0 ]; then
        namespaces='{"type": "pid"}, {"type": "ipc"}, {"type": "mount"}'
        mappings=
    else
        namespaces='{"type": "user"}, {"type": "pid"}, {"type": "ipc"}, {"type": "mount"}'
        mappings=", \"uidMappings\": [{\"containerID\": 0, \"hostID\": $(id -u), \"size\": 1}]
            , \"gidMappings\": [{\"containerID\": 0, \"hostID\": $(id -g), \"size\": 1}]"
    fi
    cat > "$work/bundle/base.json" << END
{
    "ociVersion": "1.0.2",
    "process": {
        "user": {"uid": 0, "gid": 0},
        "args": $arguments,
        "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"],
        "cwd": "/"
    },
    "root": {"path": "rootfs"},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"]},
        {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]},
        {"destination": "/etc", "type": "bind", "source": "/etc", "options": ["rbind", "ro"]},
        {"destination": "$apps", "type": "bind", "source": "$apps", "options": ["rbind", "ro"]},
        {"destination": "$work/log", "type": "bind", "source": "$work/log", "options": ["rbind", "rw"]}
    ],
    "linux": {"namespaces": [$namespaces]$mappings}
}
END
}

mkdir -p bundle/rootfs
for name in dev etc proc tmp usr; do mkdir "bundle/rootfs/$name"; done
for name in bin sbin lib lib32 lib64; do ln -s "usr/$name" "bundle/rootfs/$name"; done

# Find out whether this user can start a container.
if command -v runc > /dev/null; then
    write_bundle /usr/bin/true
    cp bundle/base.json bundle/config.json
    if timeout -k 5 30 runc --root "$work/runc" run --bundle bundle "$container" > runc.log 2>&1; then runtime=runc; fi
fi

title "1. Record the web service while its load drives it"
show "$load" --port "$port" -- "$profgen" record -o web.trace.json -- "$server" --port "$port" --user "$user" --log "$log" ||
    fail "the recording"

title "2. Generate the least profile that it runs under"
show "$profgen" generate web.trace.json -o web.profile --runtime runc || fail "generating"
ls web.profile
title "   policy.yaml says what is allowed and why; it begins:"
sed -n 1,60p web.profile/policy.yaml
echo "..."
show cat web.profile/capabilities.json
if [ -e web.profile/apparmor.profile ]; then # a recording without files gives none
    title "   apparmor.profile, for kernels with AppArmor, begins:"
    sed -n 1,40p web.profile/apparmor.profile
    echo "..."
fi

if [ -n "$runtime" ]; then
    title "3. The same service under the same load, in runc, with that profile"
    write_bundle "$server" --port "$port" --user "$user" --log "$log"
    show "$profgen" generate web.trace.json --runtime runc --target oci --into bundle/base.json -o bundle/config.json ||
        fail "generating config.json"
    start="runc --root $work/runc run --bundle bundle $container"
else
    title "3. The same service under the same load, under that filter"
    echo "No container here ($(tail -n 1 runc.log 2> /dev/null || echo 'runc is not installed')), so the service runs under its seccomp"
    echo "profile and no_new_privs alone, which every user may set. Its capabilities are left as they are."
    start="$apps/confine.py web.profile/seccomp.json $server --port $port --user $user --log $log"
fi
# shellcheck disable=SC2086 - a command with arguments that contain no blanks
show "$load" --port "$port" -- $start || fail "the service did not run clean under its own profile"

title "4. What it never did is refused: /report, which starts another program, was not in the recorded load"
# shellcheck disable=SC2086
if show "$load" --rare --port "$port" -- $start 2> refused; then
    fail "/report worked, though nothing of it was recorded"
fi
cat refused
grep -q 'GET /report gave 500' refused || fail "it was something else that went wrong"
echo "(This is intended. If /report were in the load (--rare above), the profile would allow it.)"

title "5. What an intruder would try is refused too: a new user namespace"
if [ -n "$runtime" ]; then
    write_bundle unshare --user true
    timeout -k 5 30 "$profgen" generate web.trace.json --runtime runc --target oci --into bundle/base.json -o bundle/config.json
else
    start="$apps/confine.py web.profile/seccomp.json unshare --user true"
fi
# shellcheck disable=SC2086
if show $start 2> refused; then
    fail "unshare worked"
fi
cat refused
grep -q 'unshare failed: Operation not permitted' refused || fail "it was something else that went wrong"
printf '\ndemo: done. The service runs under its profile, and what it never did is refused.\n'
