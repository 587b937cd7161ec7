"""Pages from templates."""

import json
import secrets
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from backflip.records.door import whole_text
from backflip.web.access import COOKIE, GUEST_COOKIE, Visitor
from backflip.web.context import context_of
from backflip.web.texts import language_of, languages, translator

THEMES = ("auto", "light", "dark")


def page(
    request: Request,
    template: str,
    visitor: Visitor | None = None,
    *,
    status: int = 200,
    **values: Any,
) -> HTMLResponse:
    """A page for a visitor, in the visitor's language; a guest's form is proven by a cookie."""
    context = context_of(request)
    preferences = visitor.user.preferences if visitor is not None else {}
    language = language_of(request, preferences.get("language"))
    guest = context.signer.read(request.cookies.get(GUEST_COOKIE)) or secrets.token_urlsafe(24)
    csrf = guest if visitor is None else visitor.csrf
    text = context.pages.get_template(template).render(
        _=translator(language),
        language=language,
        languages=languages(),
        theme=preferences.get("theme", "auto"),
        themes=THEMES,
        visitor=visitor,
        csrf=csrf or "",
        path=request.url.path,
        oidc=context.settings.oidc,
        **values,
    )
    response = HTMLResponse(whole_text(text), status)  # old rows may hold half characters
    if visitor is None and COOKIE not in request.cookies:
        set_cookie(request, response, GUEST_COOKIE, guest, 86400)
    return response


def embedded(value: Any) -> Markup:
    """JSON inside a `<script type="application/json">`, which nothing in it can end."""
    text = json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e")
    return Markup(text.replace("&", "\\u0026"))  # noqa: S704  (no markup is left in it)


def set_cookie(request: Request, response: Any, name: str, value: str, seconds: float) -> None:
    """A signed cookie that no script can read and no other site sends along with a change."""
    context = context_of(request)
    response.set_cookie(
        name,
        context.signer.sign(value),
        max_age=int(seconds),
        httponly=True,
        samesite="lax",
        secure=context.secure,
        path="/",
    )
