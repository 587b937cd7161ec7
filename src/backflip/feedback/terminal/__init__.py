"""Labelling in a terminal, for a person at the workspace's own machine."""

from backflip.feedback.terminal.desk import label_terminal
from backflip.feedback.terminal.keyboard import Keyboard, TerminalKeyboard

__all__ = ["Keyboard", "TerminalKeyboard", "label_terminal"]
