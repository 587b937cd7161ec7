"""Labelling in a terminal, for a person at the workspace's own machine."""

from backflip.feedback.terminal.desk import label_terminal
from backflip.feedback.terminal.keyboard import Keyboard, TerminalKeyboard
from backflip.feedback.terminal.views import clean_text

__all__ = ["Keyboard", "TerminalKeyboard", "clean_text", "label_terminal"]
