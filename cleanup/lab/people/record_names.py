"""Which accounts the names in records mean: the account of that name, and those that say so of themselves."""

from collections.abc import Iterable, Iterator

from django.contrib.auth.models import User
from django.db.models import Q

from cleanup.models import AccountName, Person, Run, fold_name

# An account has at most so many names in records.
MOST = 20


def persons_of(user: User) -> list[int]:
    """The keys of the persons in records that are an account."""
    named = AccountName.objects.filter(user=user).values("folded")
    mine = Q(folded=fold_name(user.get_username())) | Q(folded__in=named)
    return list(Person.objects.filter(mine).order_by().values_list("pk", flat=True))


def accounts_of_runs(runs: Iterable[Run]) -> Iterator[tuple[User, set[int]]]:
    """The active accounts with an address that are people of these runs, each with the keys of its runs."""
    named: dict[str, set[int]] = {}
    for run in runs:
        for name in run.people or ():
            named.setdefault(fold_name(name), set()).add(run.pk)
    if not named:
        return
    claimed: dict[int, set[str]] = {}
    for key, folded in AccountName.objects.filter(folded__in=named).values_list("user", "folded"):
        claimed.setdefault(key, set()).add(folded)
    for user in User.objects.filter(is_active=True).exclude(email="").order_by("pk"):
        names = claimed.get(user.pk, set()) | {fold_name(user.get_username())}
        if mine := {run for name in names for run in named.get(name, ())}:
            yield user, mine
