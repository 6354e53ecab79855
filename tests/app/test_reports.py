"""Reports: what a package says cannot command the terminal it is shown on."""

import io

from rich.console import Console

from foretell.app.reports import escape, printable, show_file

NASTY = "[red]\x1b[2J\x1b]0;pwn\x07 ünïcode 🙂"


def test_control_characters_are_shown_and_not_obeyed() -> None:
    assert printable(NASTY) == "[red]\\x1b[2J\\x1b]0;pwn\\x07 ünïcode 🙂"


def test_markup_is_shown_and_not_obeyed() -> None:
    stream = io.StringIO()
    Console(file=stream, color_system=None, soft_wrap=True).print(escape(NASTY))
    assert "[red]" in stream.getvalue()
    assert "\x1b]0" not in stream.getvalue()


def test_a_files_own_words_are_escaped() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, color_system=None)
    show_file(console, {"format": NASTY, "refused": [NASTY]})
    assert "\x1b" not in stream.getvalue()
