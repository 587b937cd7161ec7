"""Flags that are looked for before a command line is read: an error is told as they ask."""

DEBUG = "--debug"
AS_JSON = "--json"
