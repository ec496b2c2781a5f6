"""Recording with eBPF what others start: containers, cgroups, processes; many sessions at a time.

See Watcher in tracers/base.py. The kernel's side is watch.bpf.c. Nothing of the workload's is ever killed or stopped.
Programs and maps are gone with profgen's descriptors, however it ends, and the one other process (holding.py) ends with
it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from profiler.errors import InputError, TracerError
from profiler.kernel.abi import native_abi
from profiler.tracers.base import Options
from profiler.tracers.ebpf.calls import Uses
from profiler.tracers.ebpf.cgroups import (
    components,
    container_name,
    deepest,
    descendants,
    directories_of,
    key_of,
    processes_in,
    there,
)
from profiler.tracers.ebpf.events import program_of
from profiler.tracers.ebpf.hashing import Hashes
from profiler.tracers.ebpf.holding import Held, Holder, hold
from profiler.tracers.ebpf.loader import PAGES, Programs
from profiler.tracers.ebpf.reader import (
    STAT_LAST_NEW,
    STAT_LIVE,
    Maps,
    Reader,
    session_of,
)
from profiler.tracers.ebpf.shared import constant, names, structure
from profiler.tracers.ebpf.tracer import TRACEPOINTS, EbpfTracer, attach, fill_specs, limits_with
from profiler.tracers.recording import Recording
from profiler.tracers.sockets import inherited_sockets
from profiler.tracers.watcher import Refused, Selection, Session

JOINED_FEATURE = "joined"
"""In a trace's features: the workload ran already when its recording began."""

WATCH_LIMITS: Mapping[str, int] = {"sessions": 256, "programs": 2048}
"""Where a Watcher's stores are larger than those of a single recording."""

_WATCH_TRACEPOINTS = {"on_attach": "cgroup_attach_task"}
_WAIT_TRACEPOINTS = {"on_mkdir": "cgroup_mkdir"}
_STORES = {
    "tasks": "live",
    "syscalls": "others",
    "results": "results",
    "arguments": "arguments",
    "capabilities": "checks",
    "stacks": "stacks",
    "execs": "execs",
    "files": "uses",
    "sockets": "sockets",
    "processes": "contacts",
    "denials": "refused",
}
"""Limits, and the hash maps that they are the sizes of."""

_News = structure("news")
_WHAT = names("what", "NEWS_")
_STARTING, _SIBLINGS = constant("JOIN_STARTING"), constant("JOIN_THREADS")
_KINDS = names("kind", "KIND_")
_LEARNING_SECONDS = 2.0
_LOOK_SECONDS = 0.25
_HASH_SECONDS = 0.25
"""How long the trace of a session that has ended waits for the hashes of its programs."""
_LAST_HASH_SECONDS = 2.0
"""How long the end waits for those of all."""
_ROUNDS_MAX = 100
"""Scans for processes to join, should they fork faster than they are found."""


@dataclass
class _Live:
    """A session and what is known of it."""

    session: Session
    number: int
    recording: Recording
    reader: Reader
    uses: Uses | None
    directories: tuple[str, ...] = ()
    held: Held | None = None
    """Its mount namespace and its root: both are kept, so that what it named can be found when its last process is
    gone."""

    overdue: bool = False
    """It has ended, by its counters, when they were looked at last, and there was no news of it."""

    awaited: bool = False
    """A cgroup that was not there when the watch began."""

    @property
    def began(self) -> bool:
        """Whether there was a program of it. A cgroup that was there is so from the start, whether or not something is
        in it."""
        return (self.session.kind == "cgroup" and not self.awaited) or self.session.joined or self.session.pid != 0


class EbpfWatcher:
    """See the module's text, and Watcher in tracers/base.py."""

    def __init__(self) -> None:
        self._programs: Programs | None = None
        self._options = Options()
        self._live: dict[int, _Live] = {}
        """By the kernel's number, which is used again when a session was forgotten."""
        self._session_of_program: dict[int, int] = {}
        self._wanted: set[bytes] = set()
        self._features: list[str] = []
        self._missed: Counter[str] = Counter()
        self._given = 0
        self._changed = False
        self._stopped = False
        self._look_at = 0.0
        self._threads: dict[int, int] = {}
        self._holder: Holder | None = None
        self._arrived: list[bytes] = []
        """Uses that are not yet their session's."""
        self._hashes = Hashes()
        self._awaited: list[tuple[int, tuple[str, ...]]] = []
        """Sessions of cgroups that are not there in every hierarchy, and their directories."""
        self._first_step: dict[str, int] = {}
        self._steps = 0
        self._unborn: list[_Live] = []
        """Containers that were made and ended without a program."""

    def __enter__(self) -> EbpfWatcher:
        return self

    def __exit__(self, *_: object) -> None:
        if self._holder is not None:
            self._holder.close()
        self._hashes.close()
        for live in self._live.values():
            _let_go(live)
        if self._programs is not None:
            self._programs.close()

    # -- starting ------------------------------------------------------------------------------------------------------

    def start(self, selection: Selection, options: Options) -> None:
        """See Watcher.start."""
        reason = EbpfTracer().unavailable()
        if reason is not None:
            raise TracerError(f"only the ebpf tracer watches what others started, and it does not work here: {reason}")
        for pid in selection.pids:
            if not os.path.exists(f"/proc/{pid}"):
                raise InputError(f"there is no process {pid}")
        self._options = options
        limits = limits_with({**WATCH_LIMITS, **options.limits})
        limits["sessions"] += 1  # number 0 is that of a command, which a Watcher has not
        programs = self._programs = Programs(limits, uses=options.files, watch=True, denials=options.denials)
        fill_specs(programs, files=options.files)
        programs.set_counter("NEXT_PROGRAM", constant("PROGRAM_FIRST"))
        programs.set_counter("NEXT_SESSION", 1)
        programs.open_ring("events", self._on_event)
        if options.files:
            programs.open_ring("paths", self._on_use)
        programs.attach_iterator("on_join", "task")
        own = programs.table("self").Leaf()
        with contextlib.suppress(OSError):
            own.host_mounts = os.stat("/proc/1/ns/mnt").st_ino
        programs.table("self")[ctypes.c_int(0)] = own
        _allow_descriptors(2 * limits["sessions"])
        programs.iterate("on_join")  # nobody is asked for yet: it tells the recorder who profgen is
        scans = self._select(selection)
        waiting = _WAIT_TRACEPOINTS if self._awaited else {}
        self._features += attach(programs, files=options.files, extra={**waiting, **_WATCH_TRACEPOINTS})
        self._holder = Holder(programs)
        self._arrivals()
        self._join(scans)
        self._work()

    def _select(self, selection: Selection) -> list[tuple[int, Any]]:
        """Make the sessions of what runs, and name what may start. Returns, for each session, how its processes are
        found."""
        assert self._programs is not None
        known, cgroups = self._programs.table("names"), self._programs.table("cgroups")
        scans: list[tuple[int, Any]] = []
        self._programs.table("all_containers")[ctypes.c_int(0)] = ctypes.c_uint32(selection.all_containers)
        for name in (*selection.containers, *selection.starting):
            key = known.Key()
            key.text = container_name(name)[0]
            self._wanted.add(key.text)
            number = 0
            directories = directories_of(name)
            if any(True for _ in processes_in(directories)):
                starting = name in selection.starting
                number = self._new_session("container", name, directories, joined=not starting)
                scans.append(
                    (number | (_STARTING if starting else 0), lambda directories=directories: processes_in(directories))
                )
            known[key] = ctypes.c_uint32(number)
        for name, directories in selection.cgroups:
            number = self._new_session("cgroup", name, directories, joined=False)  # unless there is something in it
            for directory in filter(os.path.isdir, directories):
                place = cgroups.Key()
                place.id, place.hierarchy = key_of(directory)
                cgroups[place] = ctypes.c_uint32(number)
            there = [directory for directory in directories if os.path.isdir(directory)]
            self._live[number].awaited = not there
            if len(there) < len(directories):
                self._awaited.append((number, tuple(directories)))
                self._prepare(number, directories)
            scans.append((number, lambda directories=directories: processes_in(directories)))
        for pid in selection.pids:
            number = self._new_session("pid", str(pid), ())
            scans.append((number, lambda pid=pid: descendants([pid])))
        return scans

    def _prepare(self, number: int, directories: Sequence[str]) -> None:
        """Name the steps to cgroups that are not there yet."""
        assert self._programs is not None
        steps = self._programs.table("steps")
        for directory in directories:
            path = components(directory)
            if self._steps + len(path) > len(steps):
                raise InputError("too many cgroups to wait for")
            self._first_step[directory] = self._steps
            for index, name in enumerate(path):
                step = steps.Leaf()
                step.session, step.last, step.name = number, index == len(path) - 1, os.fsencode(name)
                steps[ctypes.c_int(self._steps + index)] = step
            self._steps += len(path)

    def _arrivals(self) -> None:
        """Tell the kernel which directory it is to look for next on the way to each cgroup that is awaited. What came
        before it was told, or in a place that went and came again, is joined."""
        assert self._programs is not None
        awaited, cgroups = self._programs.table("awaited"), self._programs.table("cgroups")
        for number, directories in self._awaited:
            for directory in directories:
                above, depth = deepest(directory)
                with contextlib.suppress(InputError, OSError):  # it goes as we look: next time
                    if above == directory:
                        place = cgroups.Key()
                        place.id, place.hierarchy = key_of(directory)
                        try:
                            known = cgroups[place].value
                        except KeyError:
                            known = 0
                        if not known:
                            cgroups[place] = ctypes.c_uint32(number)
                            self._join([(number, lambda directory=directory: processes_in([directory]))])
                        continue
                    key = awaited.Key()
                    key.above, key.hierarchy = key_of(above)
                    key.name = os.fsencode(components(directory)[depth])
                    awaited[key] = ctypes.c_uint32(self._first_step[directory] + depth)

    def _new_session(self, kind: str, subject: str, directories: Sequence[str], joined: bool = True) -> int:
        """A session of what runs already. Before anything is attached, so nobody else gives numbers away."""
        assert self._programs is not None
        sessions, programs = self._programs.table("sessions"), self._programs.table("programs")
        number, shared = self._programs.counter("NEXT_SESSION"), self._programs.counter("NEXT_PROGRAM")
        if number >= len(sessions) or shared >= len(programs):
            raise InputError(f"no room for so many at a time; --limit sessions={len(sessions) * 2}")
        self._programs.set_counter("NEXT_SESSION", number + 1)
        self._programs.set_counter("NEXT_PROGRAM", shared + 1)
        row, program = sessions.Leaf(), programs.Leaf()
        row.shared, row.kind, program.session = shared, _KINDS.index(kind), number
        sessions[ctypes.c_int(number)], programs[ctypes.c_int(shared)] = row, program
        self._add(number, kind, subject, joined, 0, time.monotonic()).directories = tuple(directories)
        return int(number)

    def _join(self, scans: Iterable[tuple[int, Any]]) -> None:
        """Mark all threads of these sessions. One that a marked thread makes is marked too: it is over when a scan
        finds nothing new."""
        assert self._programs is not None
        joining = self._programs.table("joining")
        marked = self._marked()
        for _ in range(_ROUNDS_MAX):
            for number, scan in scans:
                for pid in scan():
                    if not number & (_STARTING | _SIBLINGS) and not self._live[number].session.pid:
                        now = time.monotonic_ns()
                        self._hold(self._live[number], pid, now, hold(pid, now))
                    joining[ctypes.c_uint(pid)] = ctypes.c_uint32(number)
            self._programs.iterate("on_join")
            before, marked = marked, self._marked()
            if marked == before:
                break
        for key in joining:
            del joining[key]

    def _marked(self) -> int:
        assert self._programs is not None
        return self._programs.counter("MARKED")

    # -- sessions ------------------------------------------------------------------------------------------------------

    def _add(self, number: int, kind: str, subject: str, joined: bool, pid: int, began: float) -> _Live:
        assert self._programs is not None
        recording = Recording(native_abi())
        recording.began = began
        shared = self._programs.table("sessions")[ctypes.c_int(number)].shared
        reader = Reader(self._programs, recording, number, shared)
        uses = Uses(self._programs, reader) if self._options.files else None
        self._given += 1
        live = self._live[number] = _Live(
            Session(self._given, kind, subject, joined, pid, began), number, recording, reader, uses
        )
        return live

    def _hold(self, live: _Live, pid: int, seen: int, held: Held | None) -> None:
        """Keep the mount namespace and the root of a session's first process, and note what else only the process
        tells. ``seen``: when it was there, on the kernel's monotonic clock in ns."""
        live.session = replace(live.session, pid=pid, gone=not there(pid, seen))
        if held is None:  # another of the session may live, else its paths are lost, and counted
            assert self._programs is not None
            own, session = (
                self._programs.table("self")[ctypes.c_int(0)],
                self._programs.table("sessions")[ctypes.c_int(live.number)],
            )
            live.reader.gone = own.top != session.top  # else it has a copy of profgen's mounts
            return
        live.recording.no_new_privs = held.no_new_privs
        live.held = held
        if not os.path.samestat(os.fstat(held.mounts), os.stat("/proc/self/ns/mnt")):
            live.reader.root = f"/proc/self/fd/{held.root}"
        if live.uses is not None and not live.session.gone:
            live.recording.inherited = inherited_sockets(pid, (0, 1, 2))  # what else is open may be its own

    def _on_event(self, _context: Any, data: int, size: int) -> None:
        if size != ctypes.sizeof(_News):
            live = self._live.get(session_of(data))
            if live is not None:
                executed = live.reader.on_event(data)
                if not executed.local:
                    self._hashes.want(live.session.number, executed)
            return
        news = _News.from_address(data)
        what, number, tgid, when = _WHAT[news.what], news.session, news.tgid, news.time
        if what == "made":
            self._add(number, "container", os.fsdecode(news.name), False, 0, when / 1e9)
        elif what == "began" and number in self._live:
            live = self._live[number]
            live.session = replace(live.session, began=when / 1e9)
            live.recording.began = when / 1e9
            self._hold(
                live, tgid, when, hold(tgid, when) if self._holder is None else self._holder.take(number, tgid, when)
            )
            self._changed = True
        elif what == "joined" and number in self._live:
            live = self._live[number]
            live.session = replace(live.session, joined=True)
            if not live.session.pid:
                self._hold(live, tgid, when, hold(tgid, when))
        elif what == "threads":
            self._threads[tgid] = number
        elif what == "ended" and number in self._live:
            self._end(self._live[number])

    def _end(self, live: _Live) -> None:
        if live.session.ended:
            return
        live.session = replace(live.session, ended=True)
        self._changed = True
        if not live.began and not self._options.denials:
            self._unborn.append(live)

    def _on_use(self, _context: Any, data: int, size: int) -> None:
        self._arrived.append(ctypes.string_at(data, size))

    def _take(self) -> None:
        """Empty the rings. A use may be of a session that was made after the ring of events was read: that is read once
        more, and only then uses are given to their sessions."""
        assert self._programs is not None
        self._programs.consume("events", "paths", "events")
        arrived, self._arrived = self._arrived, []
        for event in arrived:
            live = self._live.get(self._session_of(program_of(event)))
            if live is not None and live.uses is not None:
                live.uses.add(event)

    def _session_of(self, program: int) -> int:
        assert self._programs is not None
        session = self._session_of_program.get(program)
        if session is None:
            session = self._session_of_program[program] = int(
                self._programs.table("programs")[ctypes.c_int(program)].session
            )
        return session

    def sessions(self) -> tuple[Session, ...]:
        """See Watcher.sessions."""
        shown = (live.session for live in self._live.values() if live.began or self._options.denials)
        return tuple(sorted(shown, key=lambda session: session.number))

    # -- while it runs -------------------------------------------------------------------------------------------------

    def wait(self, timeout: float) -> bool:
        """See Watcher.wait."""
        assert self._programs is not None
        until = time.monotonic() + timeout
        poller = select.poll()
        for name in PAGES if self._options.files else ("events",):
            poller.register(self._programs.map_fd(name), select.POLLIN)
        busy = self._work()
        while not self._changed and (left := until - time.monotonic()) > 0:
            poller.poll(0 if busy else 1000 * min(left, _LOOK_SECONDS))
            busy = self._work()
        changed, self._changed = self._changed, False
        return changed

    def _work(self) -> bool:
        """Empty the rings, resolve paths, look at the counters; whether there is more to do at once."""
        assert self._programs is not None
        over = {
            live.number for live in self._live.values() if live.session.ended
        }  # all that is of them is in the rings
        self._take()
        busy = False
        for live in list(self._live.values()):
            if live.uses is not None and live.uses.resolve():
                busy = True
                self._take()  # meanwhile the rings have filled
            elif live.number in over:
                _let_go(live)
        while self._unborn:
            self._free(self._unborn.pop())
        if self._threads:
            threads, self._threads = self._threads, {}
            self._join([(number | _SIBLINGS, lambda pid=pid: [pid]) for pid, number in threads.items()])
        now = time.monotonic()
        if now >= self._look_at:
            self._look()
            # Reading takes longer the more programs there are; it is to cost no more than a twentieth of a processor.
            self._look_at = now + max(_LOOK_SECONDS, 20 * (time.monotonic() - now))
        return busy

    def _look(self) -> None:
        assert self._programs is not None
        self._arrivals()
        newest = 0
        maps = Maps(self._programs)
        for live in list(self._live.values()):
            stats = live.reader.stats()
            newest = max(newest, stats[STAT_LAST_NEW])
            if stats[STAT_LAST_NEW]:
                live.recording.last_new = max(live.recording.last_new, live.reader.seconds(stats[STAT_LAST_NEW]))
            if live.session.ended:
                continue
            live.reader.read_calls(maps)
            live.recording.syscalls_seen = len({(abi, number) for _, abi, number in live.reader.calls})
            gone = (
                live.directories and live.began and not any(os.path.isdir(directory) for directory in live.directories)
            )
            if live.session.kind == "cgroup" and gone and not stats[STAT_LIVE]:
                self._end(live)
            elif live.reader.ended():
                # The news of it may be behind what another processor is still writing into the ring; it found no room
                # if it is not there at the next look.
                if live.overdue:
                    self._end(live)
                live.overdue = True
        self._learn(newest)

    def _learn(self, newest: int) -> None:
        """Results need a program at every call's end on the whole machine: not for ever, where nothing else needs
        it."""
        assert self._programs is not None
        if self._options.files or self._options.denials:
            return
        learning = time.monotonic_ns() - newest < _LEARNING_SECONDS * 1e9
        if learning != self._programs.attached("on_sys_exit"):
            if learning:
                with contextlib.suppress(TracerError):
                    self._programs.attach_tracepoint("on_sys_exit", "sys_exit")
            else:
                self._missed["missed"] += self._programs.missed("on_sys_exit")
                self._programs.detach("on_sys_exit")

    # -- what was seen -------------------------------------------------------------------------------------------------

    def snapshot(self, session: Session) -> Recording:
        """See Watcher.snapshot."""
        return self.snapshots([session])[0]

    def snapshots(self, sessions: Sequence[Session]) -> list[Recording]:
        """Of several sessions at once: the kernel's maps are read once."""
        assert self._programs is not None
        self._work()
        maps = Maps(self._programs)
        found = []
        missed = self._missed["missed"] + sum(
            self._programs.missed(function)
            for function in (*dict(TRACEPOINTS), *_WATCH_TRACEPOINTS, *_WAIT_TRACEPOINTS, "on_cap_tracepoint")
            if self._programs.attached(function)
        )
        for session in sessions:
            live = self._of(session)
            known = live.recording
            recording = Recording(known.native)
            recording.began, recording.no_new_privs, recording.last_new = (
                known.began,
                known.no_new_privs,
                known.last_new,
            )
            recording.features = [*self._features, *([JOINED_FEATURE] if session.joined else [])]
            recording.inherited = known.inherited
            recording.losses = Counter(known.losses)
            if missed:
                recording.losses["missed"] += missed
            if live.uses is not None:
                while live.uses.resolve():
                    pass
            live.reader.collect(recording, maps)
            if live.uses is not None:
                live.uses.collect(recording, maps, over=session.ended or self._stopped)
            recording.last_new = max(known.last_new, live.reader.seconds(live.reader.stats()[STAT_LAST_NEW]))
            if session.ended:
                self._hashes.settle(_HASH_SECONDS)
            hashes = self._hashes.of(session.number)
            recording.hashes = {
                index: hashes[key]
                for index, row in enumerate(recording.programs)
                if (key := (row.path, row.interpreter)) in hashes
            }
            found.append(recording)
        return found

    def refused(self, session: Session) -> list[Refused]:
        """See Watcher.refused."""
        self._work()
        return self._of(session).reader.refused() if self._options.denials else []

    def _of(self, session: Session) -> _Live:
        for live in self._live.values():
            if live.session.number == session.number:
                return live
        raise InputError(f"session {session.number} was forgotten")

    def forget(self, session: Session) -> None:
        """See Watcher.forget."""
        live = self._of(session)
        if not live.session.ended:
            raise InputError(f"the session of {live.session.subject} has not ended")
        self._free(live)

    def _free(self, live: _Live) -> None:
        assert self._programs is not None
        _let_go(live)
        if self._holder is not None:
            self._holder.forget(live.number)
        self._hashes.forget(live.session.number)
        del self._live[live.number]
        known = self._programs.table("names")
        for key, value in known.items():
            if value.value == live.number:
                if key.text in self._wanted:
                    known[key] = ctypes.c_uint32(0)
                else:
                    del known[key]
        for number in live.reader.numbers():
            self._session_of_program.pop(number, None)
        live.reader.forget()
        self._free_stacks()

    def _free_stacks(self) -> None:
        """Call chains are common to all sessions: those that no check names any more go when they take up half of their
        room."""
        assert self._programs is not None
        stacks = self._programs.table("stacks")
        if len(stacks) * 2 > stacks.shape.entries:
            used = {key.stack for key in self._programs.table("checks")}
            for stack in stacks:
                if stack.value not in used:
                    del stacks[stack]

    def lost(self) -> int:
        """See Watcher.lost."""
        assert self._programs is not None
        return self._programs.counter("LOST_SESSIONS")

    def fill(self) -> Mapping[str, tuple[int, int]]:
        """See Watcher.fill."""
        assert self._programs is not None
        found = {"sessions": (len(self._live), len(self._programs.table("sessions")) - 1)}
        found["programs"] = (
            sum(len(live.reader.numbers()) for live in self._live.values()),
            len(self._programs.table("programs")) - 2,
        )
        for limit, name in _STORES.items():
            if self._programs.has(name):
                table = self._programs.table(name)
                found[limit] = len(table), table.shape.entries
        return found

    def kernel_bytes(self) -> int:
        """See Watcher.kernel_bytes."""
        assert self._programs is not None
        return self._programs.kernel_bytes()

    def stop(self) -> None:
        """See Watcher.stop."""
        if self._programs is not None:
            self._awaited.clear()
            self._work()
            self._programs.detach_all()
            self._work()
            self._stopped = True
            self._hashes.settle(_LAST_HASH_SECONDS)


def _let_go(live: _Live) -> None:
    if live.held is not None:
        live.held.let_go()
    live.held = None
    live.reader.root = None


def _allow_descriptors(number: int) -> None:
    """So many may be open beside the usual ones, as far as the hard limit goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number + 1024
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )
