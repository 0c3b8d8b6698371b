"""What a terminal says of the one-time token for the first admin."""

from cleanup.lab.people.first_admin import IssuedToken

HAS_ADMIN = (
    "There is an admin already, so no one-time token is needed. `manage.py changepassword NAME` sets a new password."
)


def say_token(issued: IssuedToken, address: str = "") -> str:
    """The lines with a new token; `address`: of the pages, where it is known."""
    where = f"Open {address} and type" if address else "Open the sign-in page, press “Make the first admin…” and type"
    kept = f" It also stands in {issued.path}." if issued.path else ""
    return (
        f"There is no admin yet. {where} this one-time token:\n"
        f"  {issued.token}\n"
        f"It makes the first admin, once. It is valid for an hour, and voids the one before.{kept}"
    )
