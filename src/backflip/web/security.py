"""Passwords, signed cookies and how often somebody may try to sign in."""

import hmac
import secrets
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from itsdangerous import BadSignature, URLSafeSerializer

from backflip.errors import BackflipError
from backflip.workspace import User, Workspace

MIN_PASSWORD = 10
MAX_PASSWORD = 200


class TooManyAttemptsError(BackflipError):
    """More failed attempts to sign in than are allowed in a while."""


class Passwords:
    """Hashes of passwords by argon2id, with the library's own parameters."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        # Compared with when there is no such user, so that both take the same time.
        self._nobody = self._hasher.hash(secrets.token_urlsafe(16))

    def hash(self, password: str) -> str:
        """The hash to keep.

        Raises:
            BackflipError: a password that is too short or too long.
        """
        if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
            raise BackflipError(
                f"the password has {len(password)} characters",
                hint=f"Choose one of {MIN_PASSWORD} to {MAX_PASSWORD}: a few words do well.",
            )
        return self._hasher.hash(password.encode("utf-8", "surrogatepass"))

    def fits(self, kept: str | None, password: str) -> bool:
        """Whether a password is the one whose hash was kept; None fits nothing."""
        raw = password[:MAX_PASSWORD].encode("utf-8", "surrogatepass")
        try:
            return self._hasher.verify(kept or self._nobody, raw) and kept is not None
        except (VerificationError, InvalidHashError):
            return False


class Signer:
    """Signs what a browser keeps, so that it cannot be made up."""

    def __init__(self, key: str):
        self._serializer = URLSafeSerializer(key, salt="cookie")

    def sign(self, value: str) -> str:
        """The value with its signature."""
        signed = self._serializer.dumps(value)
        return signed if isinstance(signed, str) else signed.decode()

    def read(self, signed: str | None) -> str | None:
        """The value; None when it was not signed here."""
        try:
            value = self._serializer.loads(signed) if signed else None
        except BadSignature:
            return None
        return value if isinstance(value, str) else None


def same(first: str | None, second: str | None) -> bool:
    """Whether two tokens are there and equal, in a time that does not tell how far."""
    if not first or not second:
        return False
    return hmac.compare_digest(
        first.encode("utf-8", "surrogatepass"), second.encode("utf-8", "surrogatepass")
    )


@dataclass(frozen=True)
class Authenticator:
    """Lets users in by name and password.

    Attributes:
        workspace: whose users.
        passwords: how they are checked.
        attempts: failed ones of a name, and ten times as many of an address, before more are
            refused.
        seconds: for which a failed one counts.
    """

    workspace: Workspace
    passwords: Passwords
    attempts: int
    seconds: float

    def enter(self, name: str, password: str, address: str) -> User | None:
        """The user; None when name and password do not fit.

        Raises:
            TooManyAttemptsError: too many failed before.
        """
        people = self.workspace.people
        limits = {f"name {name}": self.attempts, f"address {address}": 10 * self.attempts}
        for key, limit in limits.items():
            if people.failures(key, self.seconds) >= limit:
                raise TooManyAttemptsError(
                    "too many failed attempts to sign in",
                    hint=f"Wait {max(round(self.seconds / 60), 1)} minutes and try again.",
                )
        user = people.named(name)
        kept = user.password if user is not None and user.active else None
        if self.passwords.fits(kept, password):
            return user
        people.note_failure(*limits)
        return None
