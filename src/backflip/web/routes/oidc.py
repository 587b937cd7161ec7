"""Signing in through an OpenID Connect provider.

The library (authlib) makes state, nonce and PKCE challenge, and checks the signature, issuer,
audience, time and nonce of what comes back.
"""

from typing import Any

from authlib.integrations.base_client.errors import OAuthError
from fastapi import HTTPException, Request
from fastapi.responses import Response
from httpx import HTTPError
from joserfc.errors import JoseError

from backflip.web.context import Context, context_of
from backflip.web.guard import Router
from backflip.web.parameters import Place, Word
from backflip.web.routes.accounts import local, signed_in
from backflip.workspace import User

router = Router(tags=["accounts"])


@router.get("/oidc/login", include_in_schema=False)
async def leave(request: Request, next: Place = "/", invite: Word = "") -> Response:  # noqa: A002
    """Send the browser to the provider."""
    context = _context(request)
    base = context.settings.public_url or str(request.base_url).rstrip("/")
    request.session["next"] = local(next)
    request.session["invite"] = invite
    try:
        return await context.oidc.authorize_redirect(request, f"{base}/oidc/callback")
    except HTTPError as error:
        raise HTTPException(502, "The provider of single sign-on cannot be reached.") from error


@router.get("/oidc/callback", include_in_schema=False)
async def come_back(request: Request) -> Response:
    """Let in whom the provider names: a user that it named before, or one that was invited."""
    context = _context(request)
    try:
        token = await context.oidc.authorize_access_token(request)
    except (OAuthError, JoseError, ValueError) as error:
        raise HTTPException(403, "The provider of single sign-on did not let you in.") from error
    except HTTPError as error:
        raise HTTPException(502, "The provider of single sign-on cannot be reached.") from error
    claims: dict[str, Any] = token["userinfo"]
    where, key = request.session.get("next", "/"), request.session.get("invite", "")
    request.session.clear()
    user = _user(context, claims, key)
    if not user.active:
        raise HTTPException(403, "This account is closed.")
    return signed_in(request, user.id, where)


def _user(context: Context, claims: dict[str, Any], key: str) -> User:
    people = context.workspace.people
    subject = f"{claims['iss']} {claims['sub']}"
    user = people.known_as(subject)
    if user is None:
        settings = context.settings.oidc
        invite = people.invitation(key) if key else None
        if invite is None and not (settings is not None and settings.create_users):
            raise HTTPException(403, "You are not known here yet. Ask for an invitation.")
        name = str(claims.get("preferred_username") or claims.get("name") or claims["sub"])
        name = "".join(sign for sign in name if sign.isprintable())[:150] or "somebody"
        taken = people.named(name) is not None
        # Another provider, or a password, may stand behind a name: it is never taken over.
        user = people.add(f"{name} ({claims['sub'][:40]})" if taken else name, subject=subject)
    if key and people.invitation(key) is not None:
        user = people.join(key, user=user.id)
    return user


def _context(request: Request) -> Context:
    context = context_of(request)
    if context.oidc is None:
        raise HTTPException(404, "There is no single sign-on here.")
    return context
