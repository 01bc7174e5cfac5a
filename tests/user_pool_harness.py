"""A user pool of the emulated Cognito: an issuer of tokens, with the app clients and the users that they are for."""

import secrets
from pathlib import Path
from typing import Any

from local.addresses import ISSUER_HOST

SCOPE = "aws.cognito.signin.user.admin"
"""What Cognito lets a user's access token do who has signed in by its API. ID tokens have no scope."""


class UserPool:
    """A pool made for a test. `cognito` is a boto3 client."""

    def __init__(self, cognito: Any) -> None:
        self._cognito = cognito
        self._passwords: dict[str, str] = {}
        self.id: str = cognito.create_user_pool(PoolName="callers")["UserPool"]["Id"]
        self.url = f"https://{ISSUER_HOST}/{self.id}"

    def app(self, *, seconds: int = 3600) -> str:
        """Makes an app client, whose access tokens count for so long; returns its id."""
        made = self._cognito.create_user_pool_client(
            UserPoolId=self.id,
            ClientName="app",
            ExplicitAuthFlows=["ALLOW_ADMIN_USER_PASSWORD_AUTH"],
            AccessTokenValidity=seconds,
            TokenValidityUnits={"AccessToken": "seconds"},
        )
        return made["UserPoolClient"]["ClientId"]

    def token(self, user: str, app: str, kind: str = "AccessToken") -> str:
        """Signs a user in, who is made the first time; returns the token of that kind."""
        if user not in self._passwords:
            self._passwords[user] = f"Aa1!{secrets.token_urlsafe(16)}"
            self._cognito.admin_create_user(UserPoolId=self.id, Username=user, MessageAction="SUPPRESS")
            self._cognito.admin_set_user_password(
                UserPoolId=self.id, Username=user, Password=self._passwords[user], Permanent=True
            )
        signed_in = self._cognito.admin_initiate_auth(
            UserPoolId=self.id,
            ClientId=app,
            AuthFlow="ADMIN_USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": user, "PASSWORD": self._passwords[user]},
        )
        return signed_in["AuthenticationResult"][kind]

    def signing_key(self, state: Path) -> Path:
        """The file, in an emulator's state folder, with the key of access tokens.

        AWS changes a pool's keys by itself; the emulator makes a new one where it finds none when it starts.
        """
        return state / "cloud" / "services" / "cognito-pool-keys" / f"{self.id}-access.pem"

    def delete(self) -> None:
        """Deletes the pool, and all that is in it."""
        self._cognito.delete_user_pool(UserPoolId=self.id)
