"""Which heading of the guide explains which page."""

# The beginning of an address, as `urls` has it, and where the guide explains the pages there: a heading of the guide,
# or `page#heading`. The longest beginning that fits counts.
HEADINGS = {
    "": "free-the-disk-in-under-a-minute",
    "overview/": "free-the-disk-in-under-a-minute",
    "runs/": "clear-only-some",
    "runs/<int:pk>/": "it-will-not-clear-and-i-want-to-know-why",
    "runs/<int:pk>/clear/": "free-the-disk-in-under-a-minute",
    "runs/<int:pk>/hold/": "keep-a-run-for-longer",
    "runs/<int:pk>/receipt": "receipts#what-it-says",
    "runs/<int:pk>/check_receipt.py": "receipts#how-to-check-one",
    "selection/": "selections",
    "selected/": "selections",
    "reminders/": "selections",
    "clear/": "free-the-disk-in-under-a-minute",
    "batches/": "free-the-disk-in-under-a-minute",
    "room/": "make-room",
    "holds/": "keep-a-run-for-longer",
    "policies/": "admin#policies",
    "policies/roots/": "admin#first-nights",
    "sweeps/": "what-goes-by-itself",
    "breakers/": "admin#when-automatic-clearing-stops-and-asks",
    "problems/": "problems",
    "instruments/": "at-the-bench",
    "bench/": "at-the-bench",
    "notice/": "at-the-bench",
    "audit/": "admin#the-account-of-what-was-freed",
    "audit/runs/": "the-past",
    "roots/": "roots",
    "roots/<int:pk>/alarm/": "alarm",
    "first-admin/": "first-morning",
    "setup/": "first-morning",
    "people/": "people",
    "login/": "your-account",
    "logout/": "your-account",
    "account/": "your-account",
    "account/names/": "whose-run",
    "guide/": "more-help",
    "admin/": "admin#who-may-do-what-and-where",
}


def heading(route: str) -> str | None:
    """The heading for a page by its route; None if the guide has none."""
    fitting = [beginning for beginning in HEADINGS if beginning and route.startswith(beginning)]
    if not route:
        return HEADINGS[""]
    return HEADINGS[max(fitting, key=len)] if fitting else None
