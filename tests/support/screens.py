"""Emulate a terminal."""

import io
import os
import re
import sys

import pytest

_PART = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])|(.)", re.DOTALL)


def shown(text: str, rows: int, columns: int) -> list[str]:
    """Return the lines of a terminal of this size, including those scrolled off, without empty ends.

    It supports carriage return, newline, cursor up and erase below, and ignores colors. Long lines wrap.
    """
    screen, top, row, column = [""], 0, 0, 0
    for number, letter, character in _PART.findall(text):
        if letter == "A":
            row = max(top, row - int(number or 1))
        elif letter == "J":
            assert not number
            screen[row:] = [screen[row][:column]]
        elif character == "\r":
            column = 0
        elif character:
            if character == "\n" or column == columns:
                row, column = row + 1, 0
                screen += [""] * (row + 1 - len(screen))
                top = max(top, row + 1 - rows)
            if character != "\n":
                line = screen[row].ljust(column)
                screen[row] = f"{line[:column]}{character}{line[column + 1 :]}"
                column += 1
        else:
            assert letter == "m", f"{letter} is unknown here"
    return "\n".join(line.rstrip() for line in screen).strip("\n").split("\n")


class Terminal(io.StringIO):
    """A terminal of this size, which is sys.stderr."""

    def __init__(self, rows: int, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns
        monkeypatch.setattr(sys, "stderr", self)
        monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((columns, rows)))
        monkeypatch.setenv("TERM", "xterm")

    def isatty(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return any number: only the terminal size is read from it."""
        return 0

    def lines(self) -> list[str]:
        """Return its lines."""
        return shown(self.getvalue(), self.rows, self.columns)
