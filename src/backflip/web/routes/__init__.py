"""Routes, one module a part of the site."""

from backflip.web.guard import Router
from backflip.web.routes import (
    accounts,
    admin,
    answers,
    chat,
    data,
    forgetting,
    health,
    home,
    labelling,
    members,
    models,
    oidc,
    playground,
    projects,
    quality,
    questions,
    rules,
    webhooks,
)

_OWN = (
    health,
    accounts,
    home,
    labelling,
    chat,
    projects,
    quality,
    answers,
    data,
    models,
    playground,
    questions,
    rules,
    members,
    forgetting,
    admin,
    webhooks,
    oidc,
)
ROUTERS: list[Router] = [module.router for module in _OWN]
"""All that a server has, in the order in which an address is looked for."""


def add_router(router: Router) -> None:
    """Have servers that are made from now on serve the routes of another module, too.

    Args:
        router: of `backflip.web.guard`, so that rights are asked before a body is read.
    """
    if router not in ROUTERS:
        ROUTERS.append(router)
