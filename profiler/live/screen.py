"""The screen, drawn with Textual. All text on it comes from state.py and aside.py."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from functools import partial

from rich.segment import Segment
from rich.style import Style
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from profiler.live.aside import Aside
from profiler.live.feed import END, SECONDS
from profiler.live.news import loads
from profiler.live.state import ALL, OUTPUT, PAGES, State
from profiler.quoting.text import cut, padded

_SIDE_COLUMNS = 22
_CURVE_ROWS = 2
_STYLES = {
    "program": Style(color="green"),
    "syscall": Style(),
    "capability": Style(color="red"),
    "file": Style(color="cyan"),
    "socket": Style(color="magenta"),
    "other": Style(color="yellow"),
}
_KEYS = "q quit  p pause  s sort  o output  1-8 ←→ page  ↑↓ scroll  ^C interrupt"


class Lines(Widget):
    """Lines of text of a fixed width, drawn as they are."""

    can_focus = False

    def __init__(self, content: Callable[[int], Sequence[tuple[str, Style]]], id: str) -> None:
        super().__init__(id=id)
        self._content = content

    def render_lines(self, crop: object) -> list[Strip]:
        """See Widget: all lines at once."""
        columns, rows = self.size
        shown = [
            Strip([Segment(padded(text, columns), style)], columns) for text, style in self._content(columns)[:rows]
        ]
        return shown + [Strip.blank(columns)] * (rows - len(shown))


class Rows(ScrollView):
    """The main part: many lines, of which only those on the screen are made."""

    can_focus = True

    def __init__(self, state: State) -> None:
        super().__init__()
        self._state = state
        self._lines: Sequence[tuple[Callable[[int], str], Style]] = ()

    def show(self, lines: Sequence[tuple[Callable[[int], str], Style]], *, from_top: bool) -> None:
        """Show lines, each made for a width. A place that was scrolled to stays when lines are added before it."""
        added, at = len(lines) - len(self._lines), self.scroll_offset.y
        at_end = at >= self.max_scroll_y
        self._lines = lines
        self.virtual_size = Size(self.scrollable_content_region.width, len(lines))
        if from_top and at and added > 0:
            self.scroll_to(y=at + added, animate=False)
        elif not from_top and at_end:
            self.scroll_end(animate=False)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """See Widget."""
        columns, at = self.scrollable_content_region.width, y + self.scroll_offset.y
        if at >= len(self._lines):
            return Strip.blank(columns)
        line, style = self._lines[at]
        return Strip([Segment(padded(line(columns), columns), style)], columns)


class Screen(App[None]):
    """The live view. ``connection``: to the recorder (feed.py). ``aside``: what the workload prints.

    It ends when the recording does, unless it is paused: see ``ended``.
    """

    ENABLE_COMMAND_PALETTE = False
    CSS = f"""
    Screen {{ background: ansi_default; color: ansi_default; overflow: hidden; }}
    Lines {{ height: 1; }}
    #curve {{ height: {_CURVE_ROWS}; }}
    #middle {{ height: 1fr; }}
    #side {{ width: {_SIDE_COLUMNS}; height: 1fr; }}
    Rows {{ width: 1fr; height: 1fr; background: ansi_default; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 0;
            overflow-x: hidden; }}
    .narrow #side {{ display: none; }}
    """
    BINDINGS = [
        Binding("ctrl+c", "interrupt('SIGINT')", priority=True),
        Binding("ctrl+backslash", "interrupt('SIGQUIT')", priority=True),
        Binding("q,ctrl+q", "end", priority=True),
        Binding("p,space", "pause", priority=True),
        Binding("s", "sort", priority=True),
        Binding("o", f"page({PAGES.index(OUTPUT)})", priority=True),
        Binding("right,l,tab", "turn(1)", priority=True),
        Binding("left,h,shift+tab", "turn(-1)", priority=True),
        Binding("j", "scroll(1)"),
        Binding("k", "scroll(-1)"),
        Binding("g", "edge(True)"),
        Binding("G", "edge(False)"),
        *(Binding(str(number), f"page({number - 1})", priority=True) for number in range(1, len(PAGES) + 1)),
    ]

    def __init__(
        self,
        state: State,
        aside: Aside,
        connection: socket.socket,
        interrupt: Callable[[str], None],
        why_no_output: str,
    ) -> None:
        super().__init__(ansi_color=True)
        self._state, self._aside, self._connection = state, aside, connection
        self._interrupt, self._why_no_output = interrupt, why_no_output
        self._unread = b""
        self._back = PAGES[0]

    def compose(self) -> ComposeResult:
        """See App."""
        state, bold, dim, green = self._state, Style(bold=True), Style(dim=True), Style(color="green")
        yield Lines(lambda columns: [(state.head(columns), Style(bold=True, reverse=True))], id="head")
        yield Lines(lambda columns: [(row, green) for row in state.curve(columns, _CURVE_ROWS)], id="curve")
        yield Lines(lambda columns: [(state.saturation(columns), Style())], id="saturation")
        with Horizontal(id="middle"):
            yield Lines(self._side, id="side")
            yield Rows(state)
        yield Lines(lambda columns: [(state.message, dim)], id="message")
        yield Lines(lambda columns: [(_KEYS, bold)], id="keys")

    def on_mount(self) -> None:
        """Begin to listen to the recorder."""
        self._connection.setblocking(False)
        self.query_one(Rows).focus()
        self.set_interval(SECONDS, self._listen)
        self._show()

    def on_resize(self) -> None:
        """Fit the new size; the workload's terminal gets it too."""
        columns, rows = self.size
        self.screen.set_class(columns < 2 * _SIDE_COLUMNS, "narrow")
        self._aside.resize(rows, columns)
        self._show()

    def _side(self, columns: int) -> list[tuple[str, Style]]:
        own = self._state.side(columns - 2, None if self._why_no_output else self._aside.total)
        return [
            (f"{text} │", Style(reverse=page == self._state.page) if page else Style(dim=True)) for text, page in own
        ] + [(" " * (columns - 2) + " │", Style())] * (self.size.height - len(own))

    # -- the recorder ------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        before = len(self._state.items[ALL])
        while True:
            try:
                data = self._connection.recv(1 << 16)
            except OSError:
                break
            if not data:
                break
            *lines, self._unread = (self._unread + data).split(b"\n")
            for line in lines:
                self._state.take(loads(line))
        if self._state.over and not self._state.paused:
            self.exit()
        if not self._state.paused:
            if self._state.page == OUTPUT or len(self._state.items[ALL]) != before:
                self._show_rows()
            self._show_lines()
        self.query_one("#head").refresh()
        self.query_one("#message").refresh()

    def _show(self) -> None:
        self._show_rows()
        self._show_lines()

    def _show_lines(self) -> None:
        for part in self.query(Lines):
            part.refresh()

    def _show_rows(self) -> None:
        state, rows = self._state, self.query_one(Rows)
        if state.page == OUTPUT:
            lines = [self._why_no_output] if self._why_no_output else self._aside.lines()
            rows.show([(partial(cut, line), Style()) for line in lines], from_top=False)
        else:
            shown = [(partial(state.row, item), _STYLES[item.kind]) for item in state.rows()]
            rows.show(shown, from_top=state.sort == "newest first")

    def _print_error_renderables(self) -> None:
        """Print no traceback of Textual's: process.py says in a line what failed."""

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_interrupt(self, name: str) -> None:
        """Do what the key does in the workload's terminal."""
        self._interrupt(name)

    def action_end(self) -> None:
        """Ask for the end; a view that was only held leaves at once."""
        state = self._state
        if state.over:
            self.exit()
            return
        state.asked, state.paused = True, False
        try:
            self._connection.send(END)
        except OSError:
            self.exit()
        self._show()

    def action_pause(self) -> None:
        """Hold what is shown, or go on."""
        self._state.pause()
        self._listen()
        if not self._state.paused:
            self._show()

    def action_sort(self) -> None:
        """Choose the next order."""
        self._state.next_sort()
        self.query_one(Rows).scroll_home(animate=False)
        self._state.message = f"sorted {self._state.sort}"
        self._show()

    def action_page(self, number: int) -> None:
        """Show a page; once more ``o`` goes back from the output."""
        state, page = self._state, PAGES[number]
        if page == OUTPUT == state.page:
            page = self._back
        elif page == OUTPUT:
            self._back = state.page
        state.page = page
        self._show()
        self.query_one(Rows).scroll_to(y=1 << 30 if page == OUTPUT else 0, animate=False)

    def action_turn(self, by: int) -> None:
        """Show the page before or after."""
        self.action_page((PAGES.index(self._state.page) + by) % len(PAGES))

    def action_scroll(self, by: int) -> None:
        """Scroll by lines."""
        self.query_one(Rows).scroll_relative(y=by, animate=False)

    def action_edge(self, top: bool) -> None:
        """Scroll to the first or the last line."""
        rows = self.query_one(Rows)
        rows.scroll_home(animate=False) if top else rows.scroll_end(animate=False)


def forget_size_of_environment() -> None:
    """Make Textual ask the terminal for its size: COLUMNS and LINES, if they are set, do not follow a resize."""
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)
