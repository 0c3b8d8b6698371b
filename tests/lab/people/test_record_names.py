"""Which accounts the names in records mean."""

from datetime import datetime

import pytest
from django.contrib.auth.models import User

from cleanup.lab.people import record_names
from cleanup.models import AccountName, Person, Run, StagingRoot, fold_name
from cleanup.runs import run_people
from tests.tools.rows import run_row

pytestmark = pytest.mark.django_db


@pytest.fixture
def runs(now: datetime) -> list[Run]:
    root = StagingRoot.objects.create(name="lab", host="lab-pc", path="/nonexistent/lab")
    people = [["ASmith"], ["Anna Weiß", "bo"], None, ["bo"]]
    made = [
        run_row(root, f"F/P/Runs/Run_2026-04-1{number}T00-00", first_seen_at=now, people=names)
        for number, names in enumerate(people)
    ]
    run_people.add(made)
    return made


def test_a_user_name_and_the_names_that_the_account_has(runs: list[Run]) -> None:
    smith = User.objects.create_user("asmith", email="a@lab.example")
    other = User.objects.create_user("bo", email="b@lab.example")
    AccountName.objects.create(user=smith, name=" anna  WEISS ")
    User.objects.create_user("annaweiss", email="c@lab.example")
    AccountName.objects.create(user=User.objects.create_user("nobody", is_active=False, email="x@x"), name="bo")
    AccountName.objects.create(user=User.objects.create_user("without"), name="bo")

    def names_of(user: User) -> set[str]:
        return set(Person.objects.filter(pk__in=record_names.persons_of(user)).values_list("name", flat=True))

    assert names_of(smith) == {"ASmith", "Anna Weiß"}
    assert names_of(other) == {"bo"}
    told = {user.username: keys for user, keys in record_names.accounts_of_runs(runs)}
    assert told == {"asmith": {runs[0].pk, runs[1].pk}, "bo": {runs[1].pk, runs[3].pk}}
    assert list(record_names.accounts_of_runs([runs[2]])) == []


def test_a_name_is_kept_as_it_was_typed_and_folded() -> None:
    row = AccountName.objects.create(user=User.objects.create_user("x"), name="  Anna\tWEISS ")
    assert (row.name, row.folded) == ("Anna WEISS", fold_name("anna weiß"))
