"""Labelling in a terminal, for a person at the workspace's own machine."""

from backflip.terminal.keyboard import Keyboard, TerminalKeyboard
from backflip.terminal.session import label_terminal

__all__ = ["Keyboard", "TerminalKeyboard", "label_terminal"]
