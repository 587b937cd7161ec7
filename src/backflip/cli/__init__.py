"""The command line; nothing heavy is imported before a command needs it."""

from backflip.cli.app import main

__all__ = ["main"]
