"""Routes, one module a part of the site."""

from backflip.web.routes import (
    accounts,
    admin,
    data,
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

MODULES = (
    health,
    accounts,
    home,
    labelling,
    projects,
    quality,
    data,
    models,
    playground,
    questions,
    rules,
    members,
    admin,
    webhooks,
    oidc,
)
