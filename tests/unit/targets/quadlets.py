"""A reader of Quadlet units: the command line that Podman's generator makes of a [Container] section.

The keys, and how each is read, are those of Podman 5 (podman-systemd.unit(5); pkg/systemd/quadlet/quadlet.go).
"""

from __future__ import annotations

import re

LAST = {
    "Entrypoint": "--entrypoint",
    "PidsLimit": "--pids-limit",
    "WorkingDir": "--workdir",
}
"""The rest of the line, as it is; of several lines the last."""
EACH = {"Network": "--network", "PublishPort": "--publish", "Tmpfs": "--tmpfs"}
"""The rest of each line, as it is."""
SWITCH = {"ReadOnly": "--read-only", "ReadOnlyTmpfs": "--read-only-tmpfs"}
WORDS = {"AddDevice": "--device", "DropCapability": "--cap-drop", "AddCapability": "--cap-add"}
"""Words, each one value."""
_ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|.)")


def lines(text: str) -> list[tuple[str, str]]:
    """The keys and values of the section, which must be the only one."""
    found: list[tuple[str, str]] = []
    sections = []
    for line in text.splitlines():
        assert not line.endswith("\\"), "the next line would belong to it"
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            sections.append(line)
            continue
        key, equals, value = line.partition("=")
        assert equals, line
        assert re.fullmatch("[A-Za-z]+", key), line
        assert value == value.strip(), line
        found.append((key, value))
    assert sections == ["[Container]"]
    return found


def split(text: str) -> list[str]:
    """Words of a line, with quotes and escapes (systemd.syntax(7)), and specifiers and variables that stand for
    themselves."""
    words: list[bytes] = []
    word: bytes | None = None
    quoted = False
    position, data = 0, text.encode("utf-8", "surrogateescape")
    while position < len(data):
        char = data[position : position + 1]
        if char == b"\\":
            escape = _ESCAPE.match(data, position)
            assert escape is not None, text
            code = escape[1]
            word = (word or b"") + (bytes([int(code[1:], 16)]) if code[:1] == b"x" else code)
            position = escape.end()
            continue
        if char == b'"':
            quoted, word = not quoted, word or b""
        elif char == b" " and not quoted:
            if word is not None:
                words.append(word)
            word = None
        else:
            word = (word or b"") + char
        position += 1
    assert not quoted, text
    words += [] if word is None else [word]
    return [_literal(os_text) for os_text in (each.decode("utf-8", "surrogateescape") for each in words)]


def _literal(text: str) -> str:
    """What systemd makes of a word of ExecStart. %E stays: it is the directory of the configuration."""
    assert not re.search(r"(?<!%)(%%)*%(?![%E])", text), text
    assert not re.search(r"(?<!\$)(\$\$)*\$(?!\$)", text), text
    return text.replace("%%", "%").replace("$$", "$")


def command(text: str) -> list[str]:
    """The arguments of ``podman run``, each option in one word."""
    options, image, arguments = parts(text)
    return [*options, *([] if image is None else [image]), *arguments]


def parts(text: str) -> tuple[list[str], str | None, list[str]]:
    """The options of ``podman run``, the image, and what follows it."""
    options: list[str] = []
    image, arguments = None, []
    found = lines(text)
    for key, value in found:
        if key in LAST:
            assert [name for name, _ in found].count(key) == 1
        if key in LAST | EACH:
            options.append(f"{(LAST | EACH)[key]}={_literal(value)}")
        elif key in SWITCH:
            assert value in ("true", "false")
            options.append(f"{SWITCH[key]}={value}")
        elif key in WORDS:
            options += [f"{WORDS[key]}={word}" for word in split(value)]
        elif key == "PodmanArgs":
            options += split(value)
        elif key == "NoNewPrivileges":
            options += ["--security-opt=no-new-privileges"] if value == "true" else []
        elif key == "SeccompProfile":
            options.append(f"--security-opt=seccomp={value}")
        elif key == "Image":
            assert image is None
            image = value
        elif key == "Exec":
            arguments = split(value)
        else:
            raise AssertionError(f"unknown key {key}")
    return options, image, arguments
