"""Routes, one module a part of the site."""

from backflip.web.routes import accounts, health, home, labelling

MODULES = (health, accounts, home, labelling)
