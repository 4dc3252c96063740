"""What a terminal shows of what is written to it."""

import io
import os
import re
import sys

import pytest

_PART = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])|(.)", re.DOTALL)


def shown(text: str, rows: int, columns: int) -> list[str]:
    """The lines of a terminal of this size, those that have scrolled off it first, without empty ends.

    It knows what bars need: carriage returns, new lines, the way up and what erases all below; colors are
    left out. What is longer than a line goes on in the next one.
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
        """It is one."""
        return True

    def fileno(self) -> int:
        """A number, of which only the size is asked."""
        return 0

    def lines(self) -> list[str]:
        """What it shows."""
        return shown(self.getvalue(), self.rows, self.columns)
