"""Text for a terminal, where hostile text is made harmless first.

What a policy writes may hold anything: escape sequences that repaint the screen or change what
the annotator's keys do, marks that turn the direction of writing so that a reply reads otherwise
than it is, characters that nobody sees. None of it reaches the terminal as it is: it is shown by
its code, because it is part of what is judged.

Errors are told through this, those of a broken installation too: it imports nothing.
"""

import unicodedata

MAX_MARKS = 4
# Joiners hold emoji and Indic or Persian words together and change no direction.
_HARMLESS_FORMAT = "\u200c\u200d"
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn")


def clean_text(text: str) -> str:
    r"""Text that a terminal shows and does not obey.

    Line breaks of every kind become "\n" and tabs four spaces. Control, format, surrogate,
    private and unassigned characters are shown by their code, like `\x1b` or `\u202e`, and so
    are combining marks after the fourth in a row, which would cover the lines around them.
    """
    shown: list[str] = []
    marks = 0
    text = text.replace("\r\n", "\n").replace("\u2028", "\n").replace("\u2029", "\n\n")
    for character in text.replace("\t", "    "):
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        unseen = category in _UNSEEN and character not in _HARMLESS_FORMAT and character != "\n"
        if unseen or marks > MAX_MARKS:
            shown.append(character.encode("ascii", "backslashreplace").decode("ascii"))
            if character.isascii():
                shown[-1] = f"\\x{ord(character):02x}"
        else:
            shown.append(character)
    return "".join(shown)


def counted(number: int, name: str) -> str:
    """So many of something, like "1 answer" and "2 answers"."""
    return f"{number} {name}" if number == 1 else f"{number} {name}s"
