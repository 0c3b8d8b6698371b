"""Every setting is read once and strictly."""

import importlib.util
import os
import pwd
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from cleanup.management.supervisor import Child
from exlab import dotenv
from exlab.reading import Reader, WrongSettings
from exlab.settings import read
from tests.tools.checkout import CHECKOUT

pytestmark = pytest.mark.one_engine(by="function")


NAMES = sorted(read.settings)
HOME = pwd.getpwuid(os.geteuid()).pw_dir
# Invented parts of a user and a password.
FAKE = "not@real/w#rd"


def read_anew(monkeypatch: pytest.MonkeyPatch, **given: str | None) -> ModuleType:
    """Read the settings with only these set. Raises WrongSettings."""
    with monkeypatch.context() as patch:
        for name in [name for name in os.environ if name in read.settings or name.startswith("EXLAB")]:
            patch.delenv(name)
        for name, text in {"EXLAB_SECRET_KEY": "k" * 50, **given}.items():
            if text is not None:
                patch.setenv(name, text)
        spec = importlib.util.spec_from_file_location("settings_read_anew", CHECKOUT / "exlab/settings.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def sentence(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> str:
    with pytest.raises(WrongSettings) as caught:
        read_anew(monkeypatch, **{name: text})
    (said,) = caught.value.sentences
    assert said.startswith(f"{name}: ")
    assert said.endswith(".")
    assert "\n" not in said
    return said


READ: list[tuple[str, str, str, object]] = [
    ("EXLAB_NAS_TIMEOUT", "2", "EXLAB_NAS_TIMEOUT", 2.0),
    ("EXLAB_NAS_TIMEOUT", " 2.5 ", "EXLAB_NAS_TIMEOUT", 2.5),
    ("EXLAB_NAS_TIMEOUT", "060", "EXLAB_NAS_TIMEOUT", 60.0),
    ("EXLAB_NAS_TIMEOUT", "", "EXLAB_NAS_TIMEOUT", 60.0),
    ("EXLAB_NAS_TIMEOUT", " \t", "EXLAB_NAS_TIMEOUT", 60.0),
    *[("EXLAB_DEBUG", text, "DEBUG", True) for text in ("1", "true", "TRUE", "Yes", "on", " on\r")],
    *[("EXLAB_DEBUG", text, "DEBUG", False) for text in ("0", "false", "No", "OFF", "", "  ")],
    ("EXLAB_HTTPS", "yes", "SESSION_COOKIE_SECURE", True),
    ("EXLAB_ALLOWED_HOSTS", "a, b ,,c,", "ALLOWED_HOSTS", ["a", "b", "c"]),
    ("EXLAB_ALLOWED_HOSTS", "https://lab.example:8443/", "ALLOWED_HOSTS", ["lab.example"]),
    ("EXLAB_ALLOWED_HOSTS", "*,.lab.example,[::1],::1", "ALLOWED_HOSTS", ["*", ".lab.example", "[::1]", "[::1]"]),
    ("EXLAB_TRUSTED_PROXIES", "", "EXLAB_TRUSTED_PROXIES", ()),
    (
        "EXLAB_TRUSTED_ORIGINS",
        "https://a.example, http://b:8000/",
        "CSRF_TRUSTED_ORIGINS",
        ["https://a.example", "http://b:8000"],
    ),
    ("EXLAB_BASE_URL", "https://staging.lab.example/", "EXLAB_BASE_URL", "https://staging.lab.example"),
    ("EXLAB_BASE_URL", "http://lab-pc:8000", "EXLAB_BASE_URL", "http://lab-pc:8000"),
    ("EXLAB_DATA_DIR", "/srv/lab//data/", "EXLAB_DATA_DIR", Path("/srv/lab/data")),
    ("EXLAB_DATA_DIR", "", "EXLAB_DATA_DIR", CHECKOUT / "var"),
    ("EXLAB_DATA_DIR", " ", "EXLAB_DATA_DIR", CHECKOUT / "var"),
    ("EXLAB_DATA_DIR", "data", "EXLAB_DATA_DIR", CHECKOUT / "data"),
    ("EXLAB_DATA_DIR", "./data/../other", "EXLAB_DATA_DIR", CHECKOUT / "other"),
    ("EXLAB_DATA_DIR", "~/data", "EXLAB_DATA_DIR", Path(HOME, "data")),
    ("EXLAB_DATA_DIR", "~", "EXLAB_DATA_DIR", Path(HOME)),
    ("EXLAB_DATA_DIR", "/srv/50% of #1?", "EXLAB_DATA_DIR", Path("/srv/50% of #1?")),
    ("EXLAB_TIME_ZONE", "Europe/Zurich", "TIME_ZONE", "Europe/Zurich"),
    ("EXLAB_SECRET_KEY", "$4,5'#=" * 9, "SECRET_KEY", "$4,5'#=" * 9),
    ("EXLAB_EMAIL_FROM", "ExLab <staging@lab.example>", "DEFAULT_FROM_EMAIL", "ExLab <staging@lab.example>"),
]


@pytest.mark.parametrize(("name", "text", "becomes", "value"), READ)
def test_what_is_written_is_what_is_meant(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, becomes: str, value: object
) -> None:
    monkeypatch.setenv("HOME", HOME)
    assert getattr(read_anew(monkeypatch, **{name: text}), becomes) == value


NUMBERS = [
    "1m",
    "60s",
    "1 m",
    "nan",
    "inf",
    "-1",
    "+1",
    "0",
    "0.5",
    "1e9",
    "1e1",
    "1_000",
    "1,5",
    "0x10",
    "٦٠",
    "60 # s",
    ".5",
    "2.",
]
WRONG: list[tuple[str, str, str]] = [
    *[("EXLAB_NAS_TIMEOUT", text, "number of seconds from 1 to 86400") for text in (*NUMBERS, "86401", "9" * 400)],
    *[("EXLAB_DEBUG", text, "write 1 or 0") for text in ("maybe", "2", "t", "y", "enable", "0.0", "on,off", "None")],
    ("EXLAB_HTTPS", "https", "write 1 or 0"),
    ("EXLAB_HTTPS", '"1"', "quotation marks"),
    ("EXLAB_HOST", "lab,pc", "no name of one host"),
    ("EXLAB_HOST", "h" * 256, "no name of one host"),
    *[
        ("EXLAB_ALLOWED_HOSTS", text, "no name of a host")
        for text in ("a b", "a;b", "lab_pc", "*.lab.example", "büro", "-", "http://[a")
    ],
    *[("EXLAB_TRUSTED_PROXIES", text, "no address") for text in ("proxy", "10.0.0.5 10.0.0.6", "10.0.0.0/33", "*")],
    *[
        ("EXLAB_TRUSTED_ORIGINS", text, "no origin")
        for text in ("lab.example", "https://a b", "https://a:99999", "ftp://a")
    ],
    *[("EXLAB_BASE_URL", text, "no origin") for text in ("lab.example", "https://lab.example/staging", "ftp://a")],
    ("EXLAB_BASE_URL", "https://*.lab.example", "several hosts"),
    ("EXLAB_DATA_DIR", "$HOME/data", "begins with $"),
    ("EXLAB_DATA_DIR", "${DATA}", "begins with $"),
    ("EXLAB_DATA_DIR", "~nobody-of-that-name/data", "whole path"),
    ("EXLAB_DATA_DIR", "'/srv/data'", "quotation marks"),
    ("EXLAB_DATA_DIR", "file:///srv/data", "no path"),
    ("EXLAB_DATA_DIR", "/srv/one\n/srv/two", "cannot be seen"),
    *[
        ("EXLAB_TIME_ZONE", text, "no time zone")
        for text in ("Europe/Zurch", "CET-1", "+02:00", "../UTC", "Europe", "Mars")
    ],
    ("EXLAB_TIME_ZONE", "Europe/Zurch", "as in Europe/Zurich"),
    ("EXLAB_SECRET_KEY", "$SECRET", "begins with $"),
    *[("EXLAB_EMAIL_FROM", text, "no mail address") for text in ("staging", "@lab.example", "a@", "a b@c d")],
    ("DATABASE_URL", f"postgres://lab:{FAKE}@db/exlab", "% and two digits"),
    ("DATABASE_URL", "postgres://lab:not/real@db/exlab", "% and two digits"),
    ("DATABASE_URL", "postgres://lab:not?real@db/exlab", "% and two digits"),
    ("DATABASE_URL", "postgres://lab:not#real@db/exlab", "% and two digits"),
    ("DATABASE_URL", "postgres://lab:not@real@db/exlab", "% and two digits"),
    ("DATABASE_URL", "postgres://lab:not[real@db/exlab", "% and two digits"),
    ("DATABASE_URL", "postgres://lab:not real@db/exlab", "% and two digits"),
    ("DATABASE_URL", "postgres://lab:50%real@db/exlab", "a % in it is not followed"),
    ("DATABASE_URL", "postgres://lab:%ff@db/exlab", "is no text"),
    ("DATABASE_URL", "postgres://lab:real", "no port"),
    ("DATABASE_URL", "postgres://db:0/exlab", "no port"),
    ("DATABASE_URL", "postgres://db:99999/exlab", "no port"),
    ("DATABASE_URL", "postgres://db:٥٤٣٢/exlab", "no port"),
    ("DATABASE_URL", "postgres://lab@/exlab/more", "names no database"),
    ("DATABASE_URL", "postgres://lab@db", "names no database"),
    ("DATABASE_URL", "postgres://lab@db/", "names no database"),
    ("DATABASE_URL", "postgres://lab@a b/exlab", "told from the rest"),
    ("DATABASE_URL", "postgres://lab@db;x/exlab", "no name of a host"),
    ("DATABASE_URL", "postgres://lab@db/exlab?ssl=1", "none of the options"),
    ("DATABASE_URL", "postgres://lab@db/exlab?atomic_requests=1", "none of the options"),
    ("DATABASE_URL", "postgres://lab@db/exlab?sslmode", "no option"),
    ("DATABASE_URL", "mysql://lab@db/exlab", "no database that can be used"),
    ("DATABASE_URL", "host=db dbname=exlab", "no address with ://"),
    ("DATABASE_URL", "sqlite://", "names no file"),
    ("DATABASE_URL", "sqlite:///", "names no file"),
    ("DATABASE_URL", "sqlite://db.sqlite3", "names no file"),
    ("DATABASE_URL", "sqlite://:memory:", "names no file"),
    ("DATABASE_URL", "sqlite:///:memory:", "names no file"),
    ("DATABASE_URL", "sqlite:db.sqlite3", "names no file"),
    ("DATABASE_URL", "sqlite:////srv/db?timeout=5", "options"),
    ("DATABASE_URL", "postgres://lab:not%00real@db/exlab", "%00 stands for no character"),
    ("DATABASE_URL", "postgres://lab@db/ex%00lab", "%00 stands for no character"),
    ("DATABASE_URL", "sqlite:////srv/exlab%00.sqlite3", "%00 stands for no character"),
    ("DATABASE_URL", "sqlite:////srv/50%", "%25"),
    ("EXLAB_EMAIL_URL", f"smtp+tls://lab:{FAKE}@mail.example:587", "% and two digits"),
    ("EXLAB_EMAIL_URL", "smtps://lab:real@mail.example:465", "smtp+ssl"),
    ("EXLAB_EMAIL_URL", "mail.example:25", "no address with ://"),
    ("EXLAB_EMAIL_URL", "smtp://mail.example:smtp", "no port"),
    ("EXLAB_EMAIL_URL", "smtp://", "not one mail server"),
    ("EXLAB_EMAIL_URL", "smtp://a.example,b.example", "not one mail server"),
    ("EXLAB_EMAIL_URL", "smtp://mail.example?timeout=5", "not one mail server"),
]


@pytest.mark.parametrize(("name", "text", "words"), WRONG)
def test_what_cannot_be_meant_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, words: str
) -> None:
    said = sentence(monkeypatch, name, text)
    assert words in said
    assert "real" not in said.replace("not%40real", ""), "no part of a password is shown"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "postgres://lab:not%40real%2F50%25%231@db.example:5432/exlab",
            ("lab", "not@real/50%#1", "db.example", "5432", "exlab"),
        ),
        ("postgresql://lab:a:b+c@db_1/ex%20lab", ("lab", "a:b+c", "db_1", "", "ex lab")),
        ("postgres:///exlab", ("", "", "", "", "exlab")),
        ("postgres:////var/run/postgresql/exlab", ("", "", "/var/run/postgresql", "", "exlab")),
        ("postgres://lab@%2Fvar%2Frun:5433/exlab", ("lab", "", "/var/run", "5433", "exlab")),
        ("postgres://lab@a:1,b:2/exlab", ("lab", "", "a,b", "1,2", "exlab")),
        ("postgres://lab@[2001:db8::1]:5432/exlab", ("lab", "", "2001:db8::1", "5432", "exlab")),
    ],
)
def test_the_parts_of_a_database_s_address(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: tuple[str, ...]
) -> None:
    database = read_anew(monkeypatch, DATABASE_URL=text).DATABASES["default"]
    assert tuple(database[part] for part in ("USER", "PASSWORD", "HOST", "PORT", "NAME")) == expected
    assert database["OPTIONS"]["connect_timeout"] == "10", "a server that is silent is given up"


def test_options_of_a_database_s_address(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "postgres://lab@db/exlab?sslmode=require&connect_timeout=3&conn_max_age=60"
    database = read_anew(monkeypatch, DATABASE_URL=text).DATABASES["default"]
    assert (database["CONN_MAX_AGE"], database["OPTIONS"]) == (
        60,
        {"connect_timeout": "3", "tcp_user_timeout": "30000", "sslmode": "require"},
    )


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("sqlite:////srv/50%25 of %231.sqlite3", "/srv/50% of #1.sqlite3"),
        ("sqlite:///db.sqlite3", f"{CHECKOUT}/db.sqlite3"),
        ("sqlite:///~/db.sqlite3", f"{HOME}/db.sqlite3"),
        ("", "/srv/50% of #1?/db.sqlite3"),
    ],
)
def test_the_file_of_a_database(monkeypatch: pytest.MonkeyPatch, text: str, path: str) -> None:
    monkeypatch.setenv("HOME", HOME)
    settings = read_anew(monkeypatch, DATABASE_URL=text, EXLAB_DATA_DIR="/srv/50% of #1?")
    assert settings.DATABASES["default"]["NAME"] == path
    again = read_anew(monkeypatch, **settings.read.handed_on())
    assert again.DATABASES["default"]["NAME"] == path


@pytest.mark.parametrize(
    ("scheme", "port", "on"),
    [("smtp", 25, None), ("smtp+tls", 587, "EMAIL_USE_TLS"), ("smtp+ssl", 465, "EMAIL_USE_SSL")],
)
def test_a_mail_server(monkeypatch: pytest.MonkeyPatch, scheme: str, port: int, on: str | None) -> None:
    read_now = read_anew(monkeypatch, EXLAB_EMAIL_URL=f"{scheme}://lab:not%40real@mail.example")
    assert ("mail.example", port) == (read_now.EMAIL_HOST, read_now.EMAIL_PORT)
    assert (read_now.EMAIL_HOST_USER, read_now.EMAIL_HOST_PASSWORD) == ("lab", "not@real")
    assert [name for name in ("EMAIL_USE_TLS", "EMAIL_USE_SSL") if hasattr(read_now, name)] == ([on] if on else [])


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("EXLAB_NAS_TIMOUT", "EXLAB_NAS_TIMEOUT"),
        ("EXLAB_NASTIMEOUT", "EXLAB_NAS_TIMEOUT"),
        ("exlab_nas_timeout", "EXLAB_NAS_TIMEOUT"),
        ("EXLAB_NAS_TIMEOUT_SECONDS", "EXLAB_NAS_TIMEOUT"),
        ("EXLABDATA_DIR", "EXLAB_DATA_DIR"),
        ("EXLAB_DATADIR", "EXLAB_DATA_DIR"),
        ("EXLAB_HOSTS", "EXLAB_HOST"),
        ("EXLAB_ALLOWED_HOST", "EXLAB_ALLOWED_HOSTS"),
        ("EXLAB_DATABASE_URL", "DATABASE_URL"),
        ("EXLAB_TIMEZONE", "EXLAB_TIME_ZONE"),
    ],
)
def test_a_slip_in_a_name_names_the_setting_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, slip: str, meant: str
) -> None:
    assert f"write {meant} instead" in sentence(monkeypatch, slip, "1")


def test_names_of_other_programs_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """ExLab-Wizard, compose.yaml and the tests have their own names; only a similar name is a warning."""
    others = ("EXLAB_STAGING", "EXLAB_NAS", "EXLAB_EMAIL", "EXLAB_STATE_DIR", "EXLAB_TESTS_X", "EXLAB_REQUIRE_X")
    assert read_anew(monkeypatch, **dict.fromkeys(others, "x")).read.strangers == ()
    assert read_anew(monkeypatch, EXLAB_COLOUR="blue", OTHER="x").read.strangers == ("EXLAB_COLOUR",)


def test_compose_hands_on_whether_runs_are_proven_ahead() -> None:
    compose = (CHECKOUT / "docker/compose.yaml").read_text()
    assert "EXLAB_PROVE: ${EXLAB_PROVE:-1}\n" in compose


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WrongSettings) as caught:
        read_anew(monkeypatch, EXLAB_DEBUG="maybe", EXLAB_NAS_TIMEOUT="1m", EXLAB_TIMEZONE="UTC")
    assert [said.partition(":")[0] for said in caught.value.sentences] == [
        "EXLAB_DEBUG",
        "EXLAB_NAS_TIMEOUT",
        "EXLAB_TIMEZONE",
    ]


def any_text() -> strategies.SearchStrategy[str]:
    characters = strategies.characters(exclude_characters="\0", exclude_categories=["Cs"])
    known = strategies.sampled_from([text for _name, text, *_rest in (*READ, *WRONG)])
    return strategies.one_of(
        strategies.text(characters, max_size=30), strategies.text("a1:/@%?#[].~$,=", max_size=20), known
    )


def check_any_text(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    given = {"EXLAB_SECRET_KEY": "k" * 50, name: text}
    try:
        first = read_anew(monkeypatch, **given)
    except WrongSettings as wrong:
        (said,) = wrong.sentences
        assert re.match(f"{name}: .*[.]$", said)
        assert said.isprintable()
        return
    second = read_anew(monkeypatch, **first.read.handed_on())
    read_twice = [{key: value for key, value in vars(one).items() if key.isupper()} for one in (first, second)]
    assert read_twice[0] == read_twice[1]


def of_any(examples: int) -> Any:
    return settings(
        max_examples=examples, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    )


@given(name=strategies.sampled_from(NAMES), text=any_text())
@of_any(20)
def test_any_text_is_read_or_refused(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    check_any_text(monkeypatch, name, text)


@pytest.mark.exhaustive
@given(name=strategies.sampled_from(NAMES), text=any_text())
@of_any(1000)
def test_any_text_is_read_or_refused_in_full(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """Takes 15 s."""
    check_any_text(monkeypatch, name, text)


def test_adding_a_setting_is_one_call() -> None:
    reader = Reader({"EXLAB_HOURS": "9", "EXLAB_HOUR": "24"})
    assert reader.whole("EXLAB_HOURS", 12, low=1, high=720, of="hours", means="x") == 9
    assert reader.whole("EXLAB_HOUR", 18, low=0, high=23, of="an hour", means="x") == 18
    with pytest.raises(WrongSettings, match=re.escape("EXLAB_HOUR: '24' is no whole number of an hour from 0 to 23")):
        reader.finish()


# Children


def test_a_child_is_told_what_its_parent_has_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXLAB_DATA_DIR", "relative")
    said = tmp_path / "said"
    child = Child("A child", ["/bin/sh", "-c", f"env -0 > {said}"])
    child.start(os.open(os.devnull, os.O_RDONLY))
    assert child.process is not None
    assert child.process.wait(10) == 0
    told = dict(line.split("=", 1) for line in said.read_text().split("\0") if line)
    assert {name: told[name] for name in NAMES} == read.handed_on()
    assert Path(told["EXLAB_DATA_DIR"]).is_absolute()


# The file


def test_the_file_beside_manage_py(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    assert dotenv.read(file) == {}
    file.write_text(
        "\ufeff# of the lab\n\nEXLAB_HTTPS=1\r\n  export EXLAB_HOST = labpc-04  # the bench\n"
        'EXLAB_SECRET_KEY=\'a # b\'\nPGPASSWORD="say \\"no\\" \\\\ $x"\nEXLAB_TRUSTED_PROXIES=\nEXLAB_A=b#c\n'
    )
    assert dotenv.read(file) == {
        "EXLAB_HTTPS": "1",
        "EXLAB_HOST": "labpc-04",
        "EXLAB_SECRET_KEY": "a # b",
        "PGPASSWORD": 'say "no" \\ $x',
        "EXLAB_TRUSTED_PROXIES": "",
        "EXLAB_A": "b#c",
    }


def test_what_was_set_before_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("ONE_OF_TWO=file\nTWO_OF_TWO=file\n")
    monkeypatch.setenv("ONE_OF_TWO", "shell")
    monkeypatch.setenv("TWO_OF_TWO", "")
    assert [dotenv.environment(tmp_path / ".env")[f"{name}_OF_TWO"] for name in ("ONE", "TWO")] == ["shell", ""]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"EXLAB_HTTPS\n", "line 1: it is no setting"),
        (b"# lab\nEXLAB_SECRET_KEY: not real\n", "line 2: it is no setting"),
        (b"EXLAB-HOST=a\n", "line 1: it is no setting"),
        (b"A=1\nB=2\nA=3\n", "line 3: A stands there twice"),
        (b"A='not real\n", "quotation marks of A"),
        (b'A="not" real\n', "quotation marks of A"),
        (b"A=\xff\n", "no text in UTF-8"),
        (b"A=not\0real\n", "(NUL)"),
    ],
)
def test_a_line_that_is_no_setting_is_named_and_not_shown(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(WrongSettings, match=re.escape(words)) as caught:
        dotenv.read(tmp_path / ".env")
    assert str(tmp_path / ".env") in str(caught.value)
    assert "real" not in str(caught.value)


def test_a_folder_is_no_file_of_settings(tmp_path: Path) -> None:
    with pytest.raises(WrongSettings, match="Is a directory; let this user read it"):
        dotenv.read(tmp_path)


def test_no_module_asks_the_environment_for_a_setting() -> None:
    asking = re.compile(r"environ(\.get\(|\[)\s*[\"'](EXLAB|DATABASE_URL)|getenv")
    for path in sorted([*(CHECKOUT / "cleanup").rglob("*.py"), *(CHECKOUT / "exlab").glob("*.py")]):
        assert not asking.search(path.read_text()), path
