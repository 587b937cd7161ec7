"""The command line; nothing heavy is imported before a command needs it."""

from backflip.cli.entry import main

__all__ = ["main"]
