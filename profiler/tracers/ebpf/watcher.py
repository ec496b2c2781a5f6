"""Recording with eBPF what others start: containers, cgroups, processes; many sessions at a time.

See Watcher in tracers/watcher.py; the kernel's side is watch.bpf.c. Nothing of a workload is ever killed or stopped.
Programs and maps are gone with profgen's descriptors, however it ends, and its one other process (holding.py) ends with
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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from profiler.errors import InputError, TracerError
from profiler.kernel.abi import native_abi
from profiler.quoting.text import printable
from profiler.tracers.base import Options
from profiler.tracers.ebpf.attaching import CAPABILITY_TRACEPOINT, TRACEPOINTS, Spare, attach
from profiler.tracers.ebpf.awaited import Awaited
from profiler.tracers.ebpf.calls import Uses
from profiler.tracers.ebpf.cgroups import container_name, descendants, directories_of, key_of, processes_in, there
from profiler.tracers.ebpf.events import program_of
from profiler.tracers.ebpf.hashing import Hashes
from profiler.tracers.ebpf.holding import Held, Holder, hold
from profiler.tracers.ebpf.limits import DEFAULT_LIMITS, RINGS, STORES, WATCH_LIMITS, limits_with
from profiler.tracers.ebpf.loader import Programs
from profiler.tracers.ebpf.reader import STAT_LAST_NEW, STAT_LIVE, Maps, Reader, session_of
from profiler.tracers.ebpf.shared import constant, names, structure
from profiler.tracers.ebpf.tracer import EbpfTracer
from profiler.tracers.living import living_thread, thread_lives, why_not_watchable
from profiler.tracers.pace import Pace
from profiler.tracers.paths import OWN_MOUNTS
from profiler.tracers.recording import Recording
from profiler.tracers.sockets import inherited_sockets
from profiler.tracers.watcher import Refused, Selection, Session

JOINED_FEATURE = "joined"
"""In a trace's features: the workload ran already when its recording began."""

_WATCH_TRACEPOINTS = {"on_attach": "cgroup_attach_task"}
_WAIT_TRACEPOINTS = {"on_mkdir": "cgroup_mkdir"}
_JOIN = "on_join"

_News = structure("news")
_WHAT = names("what", "NEWS_")
_KINDS = names("kind", "KIND_")
_LOOK_SECONDS = 0.25
_HASH_SECONDS = 0.25
"""How long the trace of a session that has ended waits for the hashes of its programs."""
_LAST_HASH_SECONDS = 2.0
"""How long the end waits for all hashes."""
_ROUNDS_MAX = 100
"""Scans for processes to join, in case they fork faster than they are found."""
_SPARE_DESCRIPTORS = 1024


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
    """Its mount namespace and its root: its paths can then be found when its last process is gone."""
    overdue: bool = False
    """Its counters say that it has ended, and at the last look there was no news of it."""
    awaited: bool = False
    """A cgroup that was not there when the watch began."""

    @property
    def began(self) -> bool:
        """Whether it had a program. A cgroup that was there has begun from the start, even if it is empty."""
        return (self.session.kind == "cgroup" and not self.awaited) or self.session.joined or self.session.pid != 0

    def let_go(self) -> None:
        """Close what is held of it."""
        if self.held is not None:
            self.held.let_go()
        self.held = None
        self.reader.root = None
        self.reader.mounts = OWN_MOUNTS


@dataclass(frozen=True)
class _Scan:
    """Processes to join: those that ``find`` returns become part of a session."""

    number: int
    find: Callable[[], Iterable[int]]
    starting: bool = False
    """They belong to a runtime that has not executed the entry point yet."""
    threads: bool = False
    """Their first threads are marked, and the others become as those."""

    @property
    def value(self) -> int:
        """For the map ``joining``."""
        return (
            self.number
            | (constant("JOIN_STARTING") if self.starting else 0)
            | (constant("JOIN_THREADS") if self.threads else 0)
        )


class EbpfWatcher:
    """See the module's text, and Watcher in tracers/watcher.py."""

    def __init__(self) -> None:
        self._loaded: Programs | None = None
        self._options = Options()
        self._live: dict[int, _Live] = {}
        """By the kernel's number, which is used again once a session is forgotten."""
        self._session_of_program: dict[int, int] = {}
        self._wanted: set[bytes] = set()
        self._features: list[str] = []
        self._given = 0
        self._changed = False
        self._stopped = False
        self._pace = Pace(_LOOK_SECONDS)
        self._threads: dict[int, int] = {}
        self._arrived: list[bytes] = []
        """Uses that were not yet given to their sessions."""
        self._hashes = Hashes()
        self._made: list[tuple[str, int]] = []
        self._unborn: list[_Live] = []
        """Containers that were made and ended without a program."""
        self._holder: Holder | None = None
        self._awaited: Awaited | None = None
        self._spare: Spare | None = None

    @property
    def _programs(self) -> Programs:
        """The recorder, once it is started."""
        assert self._loaded is not None
        return self._loaded

    def __enter__(self) -> EbpfWatcher:
        return self

    def __exit__(self, *_: object) -> None:
        if self._holder is not None:
            self._holder.close()
        self._hashes.close()
        for live in self._live.values():
            live.let_go()
        if self._loaded is not None:
            self._loaded.close()

    # -- starting ------------------------------------------------------------------------------------------------------

    def start(self, selection: Selection, options: Options) -> None:
        """See Watcher.start."""
        reason = EbpfTracer().unavailable()
        if reason is not None:
            raise TracerError(f"only the ebpf tracer watches what others started, and it does not work here: {reason}")
        for pid in selection.pids:
            if reason := why_not_watchable(pid):
                raise InputError(reason)
        self._options = options
        limits = limits_with(options.limits, {**DEFAULT_LIMITS, **WATCH_LIMITS})
        limits["sessions"] += 1  # a Watcher does not use number 0, the session of a command
        programs = self._loaded = Programs(limits, uses=options.files, watch=True, denials=options.denials)
        self._awaited = Awaited(programs)
        # Containers run under seccomp filters, and then it stays in any case: from the first call on.
        contained = bool(selection.all_containers or selection.containers or selection.starting)
        self._spare = Spare(programs, files=options.files, always=options.denials or (options.files and contained))
        programs.set_counter("NEXT_PROGRAM", constant("PROGRAM_FIRST"))
        programs.set_counter("NEXT_SESSION", 1)
        programs.open_ring("events", self._on_event)
        if options.files:
            programs.open_ring("paths", self._on_use)
        programs.attach_iterator(_JOIN, "task")
        own = structure("self")()
        with contextlib.suppress(OSError):
            own.host_mounts = os.stat("/proc/1/ns/mnt").st_ino
        programs.table("self")[0] = own
        _allow_descriptors(2 * limits["sessions"])
        programs.iterate(_JOIN)  # nothing to join yet: the recorder notes which process profgen is
        scans = self._select(selection)
        waiting = _WAIT_TRACEPOINTS if self._awaited else {}
        self._features += attach(programs, files=options.files, extra={**waiting, **_WATCH_TRACEPOINTS})
        self._holder = Holder(programs)
        self._join_arrivals()
        self._join(scans)
        self._work()
        for live in [live for live in self._live.values() if self._ended_at_once(live)]:
            self._free(live)
        if selection.running and not self._live:
            what = "process" if selection.pids else "container"
            name = printable(", ".join(map(str, (*selection.containers, *selection.pids))))
            raise InputError(f"the {what} {name} ended before profgen could join it")

    def _ended_at_once(self, live: _Live) -> bool:
        """Whether what ran when its session was made had ended before any thread of it was joined: no event comes."""
        session = self._programs.session(live.number)
        joined = live.session.joined and live.session.kind != "cgroup"
        return joined and not session.began and not session.stats[STAT_LIVE]

    def _select(self, selection: Selection) -> list[_Scan]:
        """Make the sessions of what runs, and name what may start. Returns how the processes of each are found."""
        scans: list[_Scan] = []
        self._programs.table("all_containers")[0] = int(selection.all_containers)
        for name in (*selection.containers, *selection.starting):
            scans += self._select_container(name, starting=name in selection.starting)
        for name, directories in selection.cgroups:
            scans.append(self._select_cgroup(name, directories))
        for pid in selection.pids:
            number = self._new_session("pid", str(pid), ())
            scans.append(_Scan(number, lambda pid=pid: descendants([pid])))  # type: ignore[misc]
        return scans

    def _select_container(self, name: str, *, starting: bool) -> list[_Scan]:
        known = self._programs.table("names")
        key = known.Key(text=container_name(name)[0])
        self._wanted.add(key.text)
        directories = directories_of(name)
        if not any(True for _ in processes_in(directories)):
            known[key] = 0
            return []
        number = known[key] = self._new_session("container", name, directories, joined=not starting)
        return [_Scan(number, lambda: processes_in(directories), starting=starting)]

    def _select_cgroup(self, name: str, directories: Sequence[str]) -> _Scan:
        assert self._awaited is not None
        number = self._new_session("cgroup", name, directories, joined=False)  # it is joined if it has a process
        present = [directory for directory in directories if os.path.isdir(directory)]
        cgroups = self._programs.table("cgroups")
        for directory in present:
            identity, hierarchy = key_of(directory)
            cgroups[cgroups.Key(id=identity, hierarchy=hierarchy)] = number
        self._live[number].awaited = not present
        if len(present) < len(directories):
            self._awaited.add(number, directories)
        return _Scan(number, lambda: processes_in(directories))

    def _new_session(self, kind: str, subject: str, directories: Sequence[str], joined: bool = True) -> int:
        """Make a session of what runs already. The kernel makes none meanwhile: nothing is attached yet."""
        programs = self._programs
        sessions = programs.table("sessions")
        number, shared = programs.counter("NEXT_SESSION"), programs.counter("NEXT_PROGRAM")
        if number >= len(sessions) or shared >= len(programs.table("programs")):
            raise InputError(f"no room for so many at a time; --limit sessions={len(sessions) * 2}")
        programs.set_counter("NEXT_SESSION", number + 1)
        programs.set_counter("NEXT_PROGRAM", shared + 1)
        sessions[number] = structure("session")(shared=shared, kind=_KINDS.index(kind))
        programs.table("programs")[shared] = structure("program_state")(session=number)
        self._add(number, kind, subject, joined, 0, time.monotonic()).directories = tuple(directories)
        return number

    # -- joining what runs ---------------------------------------------------------------------------------------------

    def _join_arrivals(self) -> None:
        """Join what came into an awaited cgroup before the kernel knew of it."""
        assert self._awaited is not None
        for number, directory in self._awaited.arrivals():
            self._join([_Scan(number, lambda directory=directory: processes_in([directory]))])  # type: ignore[misc]

    def _join(self, scans: Sequence[_Scan]) -> None:
        """Mark all threads that scans find. A thread that a marked one makes is marked too, so it is over when a scan
        finds nothing new."""
        joining = self._programs.table("joining")
        marked = self._programs.counter("MARKED")
        for _ in range(_ROUNDS_MAX):
            for scan in scans:
                for pid in scan.find():
                    if not (scan.starting or scan.threads) and not self._live[scan.number].session.pid:
                        now, thread = time.monotonic_ns(), living_thread(pid) or pid
                        self._hold(self._live[scan.number], thread, now, hold(thread, now))
                    joining[pid] = scan.value
            self._programs.iterate(_JOIN)
            before, marked = marked, self._programs.counter("MARKED")
            if marked == before:
                break
        for pid in joining:
            del joining[pid]

    # -- sessions ------------------------------------------------------------------------------------------------------

    def _add(self, number: int, kind: str, subject: str, joined: bool, pid: int, began: float) -> _Live:
        recording = Recording(native_abi())
        recording.began = began
        reader = Reader(
            self._programs,
            recording,
            number,
            self._programs.session(number).shared,
            confined=self._options.denials,
        )
        uses = Uses(self._programs, reader) if self._options.files else None
        self._given += 1
        session = Session(self._given, kind, subject, joined, pid, began)
        live = self._live[number] = _Live(session, number, recording, reader, uses)
        return live

    def _hold(self, live: _Live, pid: int, seen: int, held: Held | None) -> None:
        """Keep the mount namespace and the root of a session's first process, and note what else only a living process
        shows.

        ``seen``: when it was there, on the kernel's monotonic clock in ns.
        """
        live.session = replace(live.session, pid=pid, gone=not there(pid, seen))
        if held is None:  # unless another process of the session lives, its paths are lost, and counted
            own, session = self._programs.table("self")[0], self._programs.session(live.number)
            live.reader.gone = own.top != session.top  # else it has a copy of profgen's mounts
            return
        live.session = replace(live.session, process=held.process)
        live.recording.no_new_privs = held.process.no_new_privs
        live.held = held
        if not os.path.samestat(os.fstat(held.mounts), os.stat("/proc/self/ns/mnt")):
            live.reader.root = f"/proc/self/fd/{held.root}"
            live.reader.mounts = f"/proc/self/fd/{held.mountinfo}"
        if live.uses is not None and not live.session.gone:
            live.recording.inherited = inherited_sockets(pid, (0, 1, 2))  # others may be its own

    def _on_event(self, data: int, size: int) -> None:
        if size == ctypes.sizeof(_News):
            self._on_news(_News.from_address(data))
            return
        live = self._live.get(session_of(data))
        if live is not None:
            executed = live.reader.on_event(data)
            if not executed.local and not live.reader.is_served(executed):
                self._hashes.want(live.session.number, executed)

    def _on_news(self, news: Any) -> None:
        what, number, tgid, when = _WHAT[news.what], news.session, news.tgid, news.time
        if what == "made":
            name = os.fsdecode(news.name)
            self._add(number, "container", name, False, 0, when / 1e9)
            self._made.append((name, tgid))
            self._changed = True
        elif what == "began" and number in self._live:
            live = self._live[number]
            live.session = replace(live.session, began=when / 1e9)
            live.recording.began = when / 1e9
            held = hold(tgid, when) if self._holder is None else self._holder.take(number, tgid, when)
            self._hold(live, tgid, when, held)
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

    def sessions(self) -> tuple[Session, ...]:
        """See Watcher.sessions."""
        shown = (live.session for live in self._live.values() if live.began or self._options.denials)
        return tuple(sorted(shown, key=lambda session: session.number))

    def made(self) -> tuple[tuple[str, int], ...]:
        """See Watcher.made."""
        made, self._made = tuple(self._made), []
        return made

    # -- while it runs -------------------------------------------------------------------------------------------------

    def wait(self, timeout: float) -> bool:
        """See Watcher.wait."""
        until = time.monotonic() + timeout
        poller = select.poll()
        for name in RINGS if self._options.files else ("events",):
            poller.register(self._programs.map_fd(name), select.POLLIN)
        busy = self._work()
        while not self._changed and (left := until - time.monotonic()) > 0:
            poller.poll(0 if busy else 1000 * min(left, _LOOK_SECONDS))
            busy = self._work()
        changed, self._changed = self._changed, False
        return changed

    def _work(self) -> bool:
        """Empty the rings, resolve paths, look at the counters. Returns whether there is more to do at once."""
        # Everything of these is in the rings already.
        over = {live.number for live in self._live.values() if live.session.ended}
        self._empty_rings()
        busy = False
        for live in list(self._live.values()):
            if live.uses is not None and live.uses.resolve():
                busy = True
                self._empty_rings()  # they have filled meanwhile
            elif live.number in over:
                live.let_go()
        while self._unborn:
            self._free(self._unborn.pop())
        if self._threads:
            threads, self._threads = self._threads, {}
            self._join([_Scan(number, lambda pid=pid: [pid], threads=True) for pid, number in threads.items()])  # type: ignore[misc]
        if self._pace.due():
            with self._pace.turn():
                self._look()
        return busy

    def _on_use(self, data: int, size: int) -> None:
        self._arrived.append(ctypes.string_at(data, size))

    def _empty_rings(self) -> None:
        """Empty the rings. A use may belong to a session that was made after the ring ``events`` was read: it is read
        once more before uses are given to their sessions."""
        self._programs.consume("events", "paths", "events")
        arrived, self._arrived = self._arrived, []
        for event in arrived:
            live = self._live.get(self._session_of(program_of(event)))
            if live is not None and live.uses is not None:
                live.uses.add(event)

    def _session_of(self, program: int) -> int:
        session = self._session_of_program.get(program)
        if session is None:
            session = self._session_of_program[program] = int(self._programs.table("programs")[program].session)
        return session

    def _look(self) -> None:
        """Look at the counters of all sessions."""
        if self._awaited is not None:
            self._join_arrivals()
        newest = 0
        maps = Maps(self._programs)
        for live in list(self._live.values()):
            stats = live.reader.stats()
            newest = max(newest, stats[STAT_LAST_NEW])
            if stats[STAT_LAST_NEW]:
                live.recording.last_new = max(live.recording.last_new, live.reader.seconds(stats[STAT_LAST_NEW]))
            if not live.session.ended:
                live.reader.read_calls(maps)
                self._look_for_end(live, stats[STAT_LIVE])
        if self._spare is not None:
            self._spare.follow(newest)

    def _look_for_end(self, live: _Live, threads: int) -> None:
        gone = live.directories and live.began and not any(map(os.path.isdir, live.directories))
        if live.session.kind == "cgroup" and gone and not threads:
            self._end(live)
        elif live.reader.ended() or (live.session.kind == "pid" and self._all_gone(live)):
            # The news may be behind what another processor is still writing into the ring. If it is not there at the
            # next look, it found no room.
            if live.overdue:
                self._end(live)
            live.overdue = True

    def _all_gone(self, live: _Live) -> bool:
        """Whether a process has ended, and no watched thread lives. A thread that ended while it was joined is counted
        as living for ever."""
        if living_thread(int(live.session.subject)) is not None:
            return False
        listed = set(self._programs.table("live"))
        # Read twice, because each thread of a chain may start the next one and end.
        return not any(map(thread_lives, listed)) and set(self._programs.table("live")) == listed

    # -- what was seen -------------------------------------------------------------------------------------------------

    def snapshot(self, session: Session) -> Recording:
        """See Watcher.snapshot."""
        return self.snapshots([session])[0]

    def snapshots(self, sessions: Sequence[Session]) -> list[Recording]:
        """See Watcher.snapshots. The kernel's maps are read once for all."""
        self._work()
        if self._spare is not None:
            self._spare.count_in_flight()
        maps, losses = Maps(self._programs), self._common_losses()
        return [self._snapshot(self._of(session), maps, losses) for session in sessions]

    def _common_losses(self) -> Counter[str]:
        """Return what counts as lost in every session: a skipped run may have belonged to any of them."""
        losses: Counter[str] = Counter()
        if self._spare is not None:
            losses["missed"] += self._spare.missed
            losses["results"] += self._spare.failed
        losses["missed"] += self._programs.missed(
            *TRACEPOINTS, *_WATCH_TRACEPOINTS, *_WAIT_TRACEPOINTS, CAPABILITY_TRACEPOINT
        )
        return +losses

    def _snapshot(self, live: _Live, maps: Maps, losses: Counter[str]) -> Recording:
        session, known = live.session, live.recording
        recording = Recording(known.native)
        recording.began, recording.no_new_privs, recording.last_new = known.began, known.no_new_privs, known.last_new
        recording.features = [*self._features, *([JOINED_FEATURE] if session.joined else [])]
        recording.inherited = known.inherited
        recording.losses, recording.warnings = Counter(known.losses) + losses, list(known.warnings)
        if self._programs.first_fault is not None:
            recording.failed(*self._programs.first_fault, self._programs.faults)
        if live.uses is not None:
            while live.uses.resolve():
                pass
        live.reader.collect(recording, maps)
        if live.uses is not None:
            live.uses.collect(recording, maps, over=session.ended or self._stopped)
        live.reader.collect_checks(recording, maps)
        recording.last_new = max(known.last_new, live.reader.seconds(live.reader.stats()[STAT_LAST_NEW]))
        if session.ended:
            self._hashes.settle(_HASH_SECONDS)
        hashes = self._hashes.of(session.number)
        recording.hashes = {
            index: hashes[key]
            for index, row in enumerate(recording.programs)
            if (key := (row.path, row.interpreter)) in hashes
        }
        return recording

    def refused(self, session: Session) -> list[Refused]:
        """See Watcher.refused."""
        self._work()
        return self._of(session).reader.refused() if self._options.denials else []

    def _of(self, session: Session) -> _Live:
        for live in self._live.values():
            if live.session.number == session.number:
                return live
        raise InputError(f"session {session.number} was forgotten")

    # -- forgetting ----------------------------------------------------------------------------------------------------

    def forget(self, session: Session) -> None:
        """See Watcher.forget."""
        live = self._of(session)
        if not live.session.ended:
            raise InputError(f"the session of {live.session.subject} has not ended")
        self._free(live)

    def _free(self, live: _Live) -> None:
        live.let_go()
        if self._holder is not None:
            self._holder.forget(live.number)
        self._hashes.forget(live.session.number)
        del self._live[live.number]
        known = self._programs.table("names")
        for key, number in known.items():
            if number == live.number:
                if key.text in self._wanted:
                    known[key] = 0
                else:
                    del known[key]
        for program in live.reader.numbers():
            self._session_of_program.pop(program, None)
        live.reader.forget()
        self._free_stacks()

    def _free_stacks(self) -> None:
        """Delete call chains that no check names any more, when they take up half of the room. All sessions share
        them."""
        stacks = self._programs.table("stacks")
        if len(stacks) * 2 > stacks.shape.entries:
            used = {key.stack for key in self._programs.table("checks")}
            for stack in stacks:
                if stack not in used:
                    del stacks[stack]

    # -- figures, and the end ------------------------------------------------------------------------------------------

    def lost(self) -> int:
        """See Watcher.lost."""
        return self._programs.counter("LOST_SESSIONS")

    def fill(self) -> Mapping[str, tuple[int, int]]:
        """See Watcher.fill."""
        programs = sum(len(live.reader.numbers()) for live in self._live.values())
        found = {
            "sessions": (len(self._live), len(self._programs.table("sessions")) - 1),
            "programs": (programs, len(self._programs.table("programs")) - constant("PROGRAM_FIRST")),
        }
        for limit, name in STORES.items():
            if self._programs.has(name):
                table = self._programs.table(name)
                found[limit] = len(table), table.shape.entries
        return found

    def kernel_bytes(self) -> int:
        """See Watcher.kernel_bytes."""
        return self._programs.kernel_bytes()

    def stop(self) -> None:
        """See Watcher.stop."""
        if self._loaded is not None:
            if self._awaited is not None:
                self._awaited.clear()
            self._work()
            if self._spare is not None:
                self._spare.count_in_flight()
            self._loaded.detach_all()
            self._work()
            self._stopped = True
            self._hashes.settle(_LAST_HASH_SECONDS)


def _allow_descriptors(number: int) -> None:
    """Raise the limit on open descriptors by so many, as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number + _SPARE_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
