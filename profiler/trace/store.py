"""Read and write traces as JSON files: sorted and stable so that two of them diff well, and checked strictly."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from profiler.errors import InputError
from profiler.files import read_start
from profiler.quoting.text import printable
from profiler.trace.collection import no_collection
from profiler.trace.model import (
    FILE_ACCESSES,
    FILE_KINDS,
    FILE_OWNERS,
    FILE_STATES,
    GAINED,
    INSPECTIONS,
    SCHEMA,
    SIGNAL_WHOM,
    SOCKET_OPERATIONS,
    WHOM,
    Arguments,
    Capability,
    Container,
    ContainerMount,
    Exec,
    File,
    Inspection,
    Meta,
    Mount,
    Pod,
    Program,
    Results,
    Signal,
    Socket,
    Syscall,
    Trace,
    Use,
    row_order,
)
from profiler.wording import cause

T = TypeVar("T")
AnyUse = TypeVar("AnyUse", bound=Use)

USES = ("files", "sockets", "signals", "inspections", "mounts")
"""Sections that can have many rows: each row is one line of the file."""

_WORD = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_FLAG = re.compile(rf"{_WORD.pattern}|0x[0-9a-f]{{1,8}}", re.ASCII)
_SOCKET_NAME = re.compile(r"[a-z][a-z0-9_]*|-?[0-9]{1,10}", re.ASCII)
_SIGNAL_NAME = re.compile(r"[A-Z][A-Z0-9]*(\+[0-9]{1,2})?|-?[0-9]{1,10}", re.ASCII)
_RESULT = re.compile(r"ok|E[A-Z0-9_]+", re.ASCII)

READ_LIMIT_BYTES = 256 << 20
"""A larger file is not a trace: the largest seen in tests is below 1 MiB."""


def to_dict(trace: Trace) -> dict[str, Any]:
    """Return the trace as plain JSON data in canonical form: the same trace gives the same data."""
    return {
        "schema": SCHEMA,
        "meta": _plain(trace.meta),
        "programs": [_plain(program) for program in trace.programs],
        "syscalls": [_syscall_dict(row) for row in sorted(trace.syscalls, key=lambda row: (row.abi, row.number))],
        "capabilities": sorted((_plain(row) for row in trace.capabilities), key=_capability_order),
        "execs": [
            _plain(row) for row in sorted(trace.execs, key=lambda row: (row.program, -1 if row.by is None else row.by))
        ],
        "files": _use_dicts(trace.files),
        "sockets": _use_dicts(trace.sockets),
        "signals": _use_dicts(trace.signals),
        "inspections": _use_dicts(trace.inspections),
        "mounts": _use_dicts(trace.mounts),
    }


@no_collection()
def dumps(trace: Trace) -> str:
    """Return the text of the file.

    Bytes that are not UTF-8, as in file names, become lone surrogates, ``\\udcXX`` (PEP 383).
    """
    document = to_dict(trace)
    row_text = json.JSONEncoder(sort_keys=True, ensure_ascii=True).encode
    members = []
    for name in sorted(document):
        if name in USES:
            text = (
                "[" + ",".join("\n  " + row_text(row) for row in document[name]) + ("\n ]" if document[name] else "]")
            )
        else:
            # JSON strings contain no raw newlines, so each newline ends a line; here each line gets one more level of
            # indentation.
            text = json.dumps(document[name], indent=1, sort_keys=True, ensure_ascii=True).replace("\n", "\n ")
        members.append(f'\n "{name}": {text}')
    return "{" + ",".join(members) + "\n}\n"


def read_trace(path: str | Path) -> Trace:
    """Read and check a trace. Raises InputError with one line that names the file and what is wrong."""
    return loads(read_limited(path), str(path))


def is_trace(data: bytes) -> bool:
    """Return whether bytes can only be a trace: they begin a JSON object. Everything else is read as a policy."""
    return data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")


def read_limited(path: str | Path, limit: int = READ_LIMIT_BYTES, *, own_links: bool = False) -> bytes:
    """Return the bytes of a file that the user named; ``own_links`` as in read_start. Raises InputError if it is
    unreadable or too large."""
    try:
        data = read_start(path, limit + 1, own_links=own_links)
    except OSError as error:
        raise InputError(f"cannot read {path}: {cause(error)}") from error
    if len(data) > limit:
        raise InputError(f"cannot read {path}: larger than {limit >> 20} MiB; profgen reads no such file")
    return data


@no_collection()
def loads(data: bytes, name: str) -> Trace:
    """Parse the text of a trace; ``name`` is for messages. Raises InputError."""
    try:
        document = json.loads(data, parse_constant=_no_constant, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{name} is not a trace: not JSON ({reason[:120]})") from error
    return from_dict(document, name, uses_up=True)


def from_dict(document: object, name: str = "trace", *, uses_up: bool = False) -> Trace:
    """Return the Trace in JSON data, of which nothing is left with ``uses_up``. Raises InputError."""
    if not isinstance(document, dict) or not isinstance(schema := document.get("schema"), str):
        raise InputError(f"{name} is not a trace: no schema; record one with: profgen record -- COMMAND")
    if schema != SCHEMA:
        kind, _, _version = schema.partition("/")
        if kind == SCHEMA.partition("/")[0]:
            raise InputError(f"{name} has schema {schema[:40]!r}, but this profgen reads {SCHEMA}; use a newer profgen")
        raise InputError(f"{name} is not a trace: its schema is {schema[:40]!r}, not {SCHEMA}")
    return _Reader(name, uses_up).trace(document)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise ValueError(f"key {printable(twice)[:40]!r} is given twice")
    return found


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON number")


def _plain(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


def _syscall_dict(row: Syscall) -> dict[str, Any]:
    plain: dict[str, Any] = _plain(dataclasses.replace(row, arguments=None))
    if row.arguments is not None:
        values = [
            {"programs": sorted(programs), "value": list(value)}
            for value, programs in sorted(row.arguments.values.items())
        ]
        plain["arguments"] = {
            "fields": list(row.arguments.fields),
            "values": values,
            "overflow": row.arguments.overflow,
        }
    return plain


def _use_dicts(rows: Sequence[Use]) -> list[dict[str, Any]]:
    return [_use_dict(row) for row in sorted(rows, key=lambda row: row_order(row.key))]


def _use_dict(row: Use) -> dict[str, Any]:
    # Do the same as _plain in a fraction of the time: there may be 100 000 rows.
    plain = {**vars(row), "programs": sorted(row.programs), "results": dict(row.results)}
    if isinstance(row, File):
        plain["owner"] = sorted(row.owner)
    if isinstance(row, Mount):
        plain["flags"] = list(row.flags)
    return plain


def _capability_order(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(str(row[key]) for key in ("capability", "namespace", "verdict", "audited", "decisive", "inferred"))


class _Reader:
    """Convert JSON data to the model; the first error raises InputError with one line that says where it is."""

    def __init__(self, name: str, uses_up: bool = False) -> None:
        """``uses_up``: the data is not used again, and each row is freed once it is read: there may be 100 000."""
        self.name = name
        self.uses_up = uses_up
        self.programs = 0
        self.sets: dict[frozenset[Any], frozenset[Any]] = {}
        self.results_known: set[str] = set()

    def fail(self, where: str, what: str) -> NoReturn:
        raise InputError(f"{self.name} is not a valid trace: {where[:200]} {what}")

    def get(self, data: object, key: str, kind: type[T] | tuple[type[T], ...], where: str) -> T:
        if not isinstance(data, dict):
            self.fail(where, "must be an object")
        try:
            value: T = data[key]
        except KeyError:
            self.fail(where, f"has no {key!r}")
        # JSON has no subclasses, and a bool, which Python counts as an int, is not a number here.
        found = type(value)
        if found is not kind and (type(kind) is not tuple or found not in kind):
            self.fail(f"{where}.{key}", "has the wrong type")
        return value

    def count(self, data: object, key: str, where: str, end: int = 1 << 64) -> int:
        value = self.get(data, key, int, where)
        if not 0 <= value < end:
            self.fail(f"{where}.{key}", "is out of range")
        return value

    def seconds(self, data: object, key: str, where: str) -> float:
        value: float = self.get(data, key, (int, float), where)
        if not 0 <= value < 1e12:
            self.fail(f"{where}.{key}", "is out of range")
        return float(value)

    def text(self, data: object, key: str, where: str) -> str | None:
        return self.get(data, key, (str, type(None)), where)

    def index(self, value: object, where: str) -> int:
        if type(value) is not int or not 0 <= value < self.programs:
            self.fail(where, f"refers to program {str(value)[:20]!a}, but there are {self.programs} programs")
        return value

    def index_key(self, key: str, where: str) -> int:
        """Return an index from a JSON key, which must be in canonical decimal form."""
        if not (key.isascii() and key.isdigit() and len(key) < 10 and str(int(key)) == key):
            self.fail(where, f"refers to program {key[:20]!a}, which is not an index")
        return self.index(int(key), where)

    def indexes(self, data: object, key: str, where: str) -> frozenset[int]:
        return frozenset(self.index(item, f"{where}.{key}") for item in self.get(data, key, list, where))

    def strings(self, data: object, key: str, where: str) -> tuple[str, ...]:
        values = self.get(data, key, list, where)
        if not all(isinstance(value, str) for value in values):
            self.fail(f"{where}.{key}", "must hold strings")
        return tuple(values)

    def counts(self, data: object, key: str, where: str) -> dict[str, int]:
        table = self.get(data, key, dict, where)
        return {name: self.count(table, name, f"{where}.{key}") for name in table}

    def rows(self, document: object, key: str) -> Iterator[tuple[object, str]]:
        found = self.get(document, key, list, "the file")
        for number, row in enumerate(found):
            if self.uses_up:
                found[number] = None
            yield row, f"{key}[{number}]"

    def trace(self, document: object) -> Trace:
        programs = tuple(self.program(row, where) for row, where in self.rows(document, "programs"))
        self.programs = len(programs)
        meta = self.meta(self.get(document, "meta", dict, "the file"))
        syscalls = tuple(self.syscall(row, where) for row, where in self.rows(document, "syscalls"))
        if len({(row.abi, row.number) for row in syscalls}) != len(syscalls):
            self.fail("syscalls", "contain one (ABI, number) twice")
        capabilities = tuple(self.capability(row, where) for row, where in self.rows(document, "capabilities"))
        execs = tuple(self.exec(row, where) for row, where in self.rows(document, "execs"))
        return Trace(
            meta,
            programs,
            syscalls,
            capabilities,
            execs,
            files=self.uses(document, "files", self.file),
            sockets=self.uses(document, "sockets", self.socket),
            signals=self.uses(document, "signals", self.signal),
            inspections=self.uses(document, "inspections", self.inspection),
            mounts=self.uses(document, "mounts", self.mount),
        )

    def meta(self, data: object) -> Meta:
        where = "meta"
        status = self.get(data, "exit_status", (int, type(None)), where)
        if status is not None and not 0 <= status < 256:
            self.fail("meta.exit_status", "is out of range")
        runs = self.count(data, "runs", where)
        groups = self.get(data, "groups", list, where)
        if not all(type(group) is int and 0 <= group < 1 << 32 for group in groups):
            self.fail("meta.groups", "must hold group ids")
        return Meta(
            tool=self.get(data, "tool", str, where),
            tracer=self.get(data, "tracer", str, where),
            features=self.strings(data, "features", where),
            kernel=self.get(data, "kernel", str, where),
            arch=self.get(data, "arch", str, where),
            distribution=self.text(data, "distribution", where),
            libc=self.text(data, "libc", where),
            argv=self.strings(data, "argv", where),
            cwd=self.get(data, "cwd", str, where),
            uid=self.count(data, "uid", where),
            gid=self.count(data, "gid", where),
            groups=tuple(groups),
            no_new_privs=self.get(data, "no_new_privs", bool, where),
            start=self.get(data, "start", str, where),
            duration=self.seconds(data, "duration", where),
            exit_status=status,
            complete=self.get(data, "complete", bool, where),
            losses=self.counts(data, "losses", where),
            last_new=self.seconds(data, "last_new", where),
            runs=runs,
            container=self.container(self.get(data, "container", (dict, type(None)), where)),
            watched=self.text(data, "watched", where),
            standing=self.strings(data, "standing", where),
            tasks=self.count(data, "tasks", where),
        )

    def container(self, data: object) -> Container | None:
        where = "meta.container"
        if data is None:
            return None
        capabilities = self.get(data, "capabilities", (list, type(None)), where)
        return Container(
            engine=self.text(data, "engine", where),
            runtime=self.text(data, "runtime", where),
            id=self.text(data, "id", where),
            name=self.text(data, "name", where),
            image=self.text(data, "image", where),
            digest=self.text(data, "digest", where),
            entrypoint=self.strings(data, "entrypoint", where),
            command=self.strings(data, "command", where),
            user=self.text(data, "user", where),
            directory=self.text(data, "directory", where),
            network=self.text(data, "network", where),
            mounts=tuple(self.container_mount(row, f"{where}.mounts") for row in self.get(data, "mounts", list, where)),
            ports=self.strings(data, "ports", where),
            capabilities=None if capabilities is None else self.strings(data, "capabilities", where),
            privileged=self.get(data, "privileged", bool, where),
            read_only=self.get(data, "read_only", bool, where),
            no_new_privs=self.get(data, "no_new_privs", bool, where),
            pod=self.pod(self.get(data, "pod", (dict, type(None)), where)),
        )

    def pod(self, data: object) -> Pod | None:
        if data is None:
            return None
        return Pod(*(self.text(data, name, "meta.container.pod") for name in ("namespace", "name", "uid", "workload")))

    def container_mount(self, data: object, where: str) -> ContainerMount:
        return ContainerMount(
            kind=self.get(data, "kind", str, where),
            source=self.get(data, "source", str, where),
            destination=self.get(data, "destination", str, where),
            read_only=self.get(data, "read_only", bool, where),
        )

    def program(self, data: object, where: str) -> Program:
        return Program(
            path=self.get(data, "path", str, where),
            interpreter=self.text(data, "interpreter", where),
            argv0=self.text(data, "argv0", where),
            sha256=self.text(data, "sha256", where),
            build_id=self.text(data, "build_id", where),
            executions=self.count(data, "executions", where),
        )

    def syscall(self, data: object, where: str) -> Syscall:
        results = self.get(data, "results", dict, where)
        programs = {
            self.index_key(index, f"{where}.programs"): calls
            for index, calls in self.counts(data, "programs", where).items()
        }
        raw = self.get(data, "arguments", (dict, type(None)), where)
        return Syscall(
            abi=self.get(data, "abi", str, where),
            number=self.count(data, "number", where, 1 << 32),
            name=self.text(data, "name", where),
            calls=self.count(data, "calls", where),
            results=Results(
                ok=self.count(results, "ok", f"{where}.results"),
                errors=self.counts(results, "errors", f"{where}.results"),
            ),
            first=self.seconds(data, "first", where),
            last=self.seconds(data, "last", where),
            programs=programs,
            arguments=None if raw is None else self.arguments(raw, f"{where}.arguments"),
            runs=self.count(data, "runs", where),
        )

    def arguments(self, data: object, where: str) -> Arguments:
        fields = self.strings(data, "fields", where)
        values: dict[tuple[int, ...], frozenset[int]] = {}
        for row in self.get(data, "values", list, where):
            value = tuple(self.get(row, "value", list, where))
            if len(value) != len(fields) or not all(type(item) is int and 0 <= item < 1 << 64 for item in value):
                self.fail(f"{where}.values", f"must hold {len(fields)} unsigned 64-bit numbers each")
            values[value] = self.indexes(row, "programs", where)
        return Arguments(fields, values, self.get(data, "overflow", bool, where))

    def capability(self, data: object, where: str) -> Capability:
        namespace, verdict = self.get(data, "namespace", str, where), self.get(data, "verdict", str, where)
        if namespace not in ("initial", "child") or verdict not in ("granted", "refused"):
            self.fail(where, "has an unknown namespace or verdict")
        chains = self.get(data, "chains", list, where)
        if not all(isinstance(chain, list) and all(isinstance(name, str) for name in chain) for chain in chains):
            self.fail(f"{where}.chains", "must hold lists of function names")
        return Capability(
            capability=self.get(data, "capability", str, where),
            namespace=namespace,
            verdict=verdict,
            audited=self.get(data, "audited", (bool, type(None)), where),
            decisive=self.get(data, "decisive", bool, where),
            inferred=self.get(data, "inferred", bool, where),
            count=self.count(data, "count", where),
            first=self.seconds(data, "first", where),
            last=self.seconds(data, "last", where),
            programs=self.indexes(data, "programs", where),
            syscalls=self.counts(data, "syscalls", where),
            chains=tuple(tuple(chain) for chain in chains),
            runs=self.count(data, "runs", where),
        )

    def exec(self, data: object, where: str) -> Exec:
        by = self.get(data, "by", (int, type(None)), where)
        return Exec(
            program=self.index(self.get(data, "program", int, where), where),
            by=None if by is None else self.index(by, where),
            count=self.count(data, "count", where),
            runs=self.count(data, "runs", where),
            entered=self.count(data, "entered", where),
            gained=self.words(data, "gained", where, GAINED),
        )

    def uses(self, document: object, key: str, read: Callable[[object, str], AnyUse]) -> tuple[AnyUse, ...]:
        rows = tuple(read(row, where) for row, where in self.rows(document, key))
        if len({row.key for row in rows}) != len(rows):
            self.fail(key, "have two rows with the same key")
        return rows

    def word(self, data: object, key: str, where: str, known: Collection[str]) -> str:
        value = self.get(data, key, str, where)
        if value not in known:
            self.fail(f"{where}.{key}", f"is an unknown word, {value[:20]!a}")
        return value

    def words(self, data: object, key: str, where: str, known: Collection[str]) -> frozenset[str]:
        values = frozenset(self.strings(data, key, where))
        if not values <= frozenset(known):
            self.fail(f"{where}.{key}", "has an unknown word")
        return values

    def like(self, data: object, key: str, where: str, pattern: re.Pattern[str]) -> str:
        value = self.get(data, key, str, where)
        if not pattern.fullmatch(value):
            self.fail(f"{where}.{key}", f"is {value[:20]!a}, which is impossible")
        return value

    def fs_text(self, data: object, key: str, where: str) -> str | None:
        """Return text that represents bytes of the kernel: any but NUL (abstract socket addresses may hold it)."""
        value = self.text(data, key, where)
        if value is not None and not value.isascii():
            try:
                value.encode("utf-8", "surrogateescape")
            except UnicodeEncodeError:
                self.fail(f"{where}.{key}", "has a character that does not represent a byte")
        return value

    def path(self, data: object, key: str, where: str) -> str | None:
        value = self.fs_text(data, key, where)
        if value is not None and (not value or "\0" in value):
            self.fail(f"{where}.{key}", "is empty or has a NUL, so it is not a path")
        return value

    def results(self, data: object, where: str) -> dict[str, int]:
        found = self.counts(data, "results", where)
        for name in found:
            if name not in self.results_known:
                if not _RESULT.fullmatch(name):
                    self.fail(f"{where}.results", f"has {name[:20]!a}, which is neither ok nor an errno name")
                self.results_known.add(name)
        return found

    def interned(self, found: frozenset[T]) -> frozenset[T]:
        """Return one object for all equal sets: most rows have one of a few."""
        return self.sets.setdefault(found, found)

    def file(self, data: object, where: str) -> File:
        path = self.path(data, "path", where)
        if path is None:
            self.fail(where, "has no path")
        owner = self.words(data, "owner", where, FILE_OWNERS)
        whose = self.text(data, "whose", where)
        if whose is not None and whose not in WHOM:
            self.fail(f"{where}.whose", "is an unknown word")
        return File(
            path=path,
            access=self.word(data, "access", where, FILE_ACCESSES),
            kind=self.word(data, "kind", where, FILE_KINDS),
            state=self.word(data, "state", where, FILE_STATES),
            results=self.results(data, where),
            owner=self.interned(owner),
            programs=self.interned(self.indexes(data, "programs", where)),
            first=self.seconds(data, "first", where),
            last=self.seconds(data, "last", where),
            existing=self.path(data, "existing", where),
            whose=whose,
            runs=self.count(data, "runs", where),
        )

    def socket(self, data: object, where: str) -> Socket:
        protocol = self.get(data, "protocol", int, where)
        if not -(1 << 31) <= protocol < 1 << 32:
            self.fail(f"{where}.protocol", "is out of range")
        port = self.get(data, "port", (int, type(None)), where)
        if port is not None and not 0 <= port < 1 << 32:
            self.fail(f"{where}.port", "is out of range")
        return Socket(
            family=self.like(data, "family", where, _SOCKET_NAME),
            type=self.like(data, "type", where, _SOCKET_NAME),
            protocol=protocol,
            operation=self.word(data, "operation", where, SOCKET_OPERATIONS),
            port=port,
            address=self.fs_text(data, "address", where),
            results=self.results(data, where),
            programs=self.interned(self.indexes(data, "programs", where)),
            first=self.seconds(data, "first", where),
            last=self.seconds(data, "last", where),
            runs=self.count(data, "runs", where),
        )

    def signal(self, data: object, where: str) -> Signal:
        return Signal(
            signal=self.like(data, "signal", where, _SIGNAL_NAME),
            whom=self.word(data, "whom", where, SIGNAL_WHOM),
            results=self.results(data, where),
            programs=self.interned(self.indexes(data, "programs", where)),
            runs=self.count(data, "runs", where),
        )

    def inspection(self, data: object, where: str) -> Inspection:
        return Inspection(
            operation=self.word(data, "operation", where, INSPECTIONS),
            whom=self.word(data, "whom", where, WHOM),
            results=self.results(data, where),
            programs=self.interned(self.indexes(data, "programs", where)),
            runs=self.count(data, "runs", where),
        )

    def mount(self, data: object, where: str) -> Mount:
        flags = self.strings(data, "flags", where)
        if not all(_FLAG.fullmatch(flag) for flag in flags) or list(flags) != sorted(set(flags)):
            self.fail(f"{where}.flags", "must hold names in lower case, or a hexadecimal number, sorted")
        return Mount(
            operation=self.like(data, "operation", where, _WORD),
            source=self.fs_text(data, "source", where),
            target=self.fs_text(data, "target", where),
            filesystem=self.fs_text(data, "filesystem", where),
            flags=flags,
            results=self.results(data, where),
            programs=self.interned(self.indexes(data, "programs", where)),
            runs=self.count(data, "runs", where),
        )
