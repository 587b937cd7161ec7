"""People who sign in: sessions, tokens and invitations."""
