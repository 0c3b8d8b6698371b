"""Settings come from the environment, or from a `.env` file beside manage.py; see docs/settings.md."""

import socket
import warnings
from datetime import timedelta
from pathlib import Path

from csp.constants import NONE, SELF

from exlab import addresses, connections, dotenv, kinds, places, sqlite
from exlab.reading import Reader, items, parse_flag

BASE_DIR = Path(__file__).resolve().parent.parent

# Every setting is read only here, in the order of docs/settings.md.
read = Reader(dotenv.environment(BASE_DIR / ".env"))

EXLAB_DATA_DIR = read.value(
    "EXLAB_DATA_DIR",
    kinds.path_from(BASE_DIR),
    BASE_DIR / "var",
    said="`var/` in the checkout",
    may_be="a path; a relative one counts from the checkout, `~` is a home",
    means="everything that the program keeps for itself",
)
_database = read.value(
    "DATABASE_URL",
    connections.database(BASE_DIR),
    connections.sqlite_file(EXLAB_DATA_DIR / "db.sqlite3"),
    said="SQLite in the data directory",
    may_be="`postgres://…` or `sqlite:///…`, with [some characters encoded](#passwords-in-addresses)",
    means="as in `postgres://user:password@host/name`",
)
EXLAB_HOST = read.value(
    "EXLAB_HOST",
    kinds.parse_host,
    socket.gethostname(),
    said="the host's name",
    may_be="a name without commas and blanks",
    means="the host whose staging disks this process serves",
)
_own_names = [name for name in ("localhost", "127.0.0.1", "[::1]", EXLAB_HOST) if addresses.is_host_name(name)]
ALLOWED_HOSTS = read.value(
    "EXLAB_ALLOWED_HOSTS",
    lambda text: addresses.host_names(items(text)),
    _own_names,
    said="localhost and this host's name",
    may_be="names of hosts",
    means="names by which browsers may call the pages, with commas",
)
# Many labs serve plain http inside: one switch for the redirect and for cookies over https only.
EXLAB_HTTPS = read.flag(
    "EXLAB_HTTPS", means="`1` behind a proxy that speaks https: redirect to it, and send cookies over it only"
)
# Only these proxies may name scheme, host and client: every client can write such headers.
EXLAB_TRUSTED_PROXIES = read.value(
    "EXLAB_TRUSTED_PROXIES",
    lambda text: addresses.networks(items(text), setting="EXLAB_TRUSTED_PROXIES"),
    addresses.networks(["127.0.0.0/8", "::1"], setting="EXLAB_TRUSTED_PROXIES"),
    nothing=(),
    said="this host itself",
    may_be="addresses and networks; set to nothing it believes none",
    means="addresses or networks of the proxies that are believed, with commas: [proxy.md](proxy.md)",
)
# Pages under these addresses may send forms although the server sees another address.
CSRF_TRUSTED_ORIGINS: list[str] = read.value(
    "EXLAB_TRUSTED_ORIGINS",
    lambda text: addresses.origins(items(text), setting="EXLAB_TRUSTED_ORIGINS"),
    [],
    said="none",
    may_be="addresses with `http://` or `https://`",
    means="further addresses from which forms are taken, as in `https://lab.example:8443`, where a proxy loses a part "
    "of the address",
)
_secret_key = read.value(
    "EXLAB_SECRET_KEY",
    str,
    "",
    said="made once, kept in the data directory",
    may_be="a long text that is hard to guess",
    means="signs the sessions",
)
DEBUG = read.flag("EXLAB_DEBUG", means="for developers only")
EXLAB_NAS_TIMEOUT = read.seconds(
    "EXLAB_NAS_TIMEOUT",
    60.0,
    low=1,
    high=86_400,
    means="seconds of silence after which a read is given up: a NAS that does not answer otherwise either is not asked "
    "again for five minutes, a run whose copy alone is slow has its turn after the others",
)
# Proofs ahead of clicks: the limits of each NAS stand with its staging root.
EXLAB_PROVE = read.value(
    "EXLAB_PROVE",
    parse_flag,
    True,
    said="on",
    may_be="`1` or `0` (true, yes, on; false, no, off)",
    means="`0`: runs are not proven ahead, so a clear reads every byte after the click",
)
# Without it reminders stand only on the pages.
_mail_server = read.value(
    "EXLAB_EMAIL_URL",
    connections.mail,
    None,
    said="off",
    may_be="`smtp+tls://…`, `smtp+ssl://…` or `smtp://…`, with [some characters encoded](#passwords-in-addresses)",
    means="the mail server that sends reminders of holds, alarms of disks, what goes tonight and what was freed in a "
    "month, as in `smtp+tls://user:password@mail.example:587`",
)
DEFAULT_FROM_EMAIL = read.value(
    "EXLAB_EMAIL_FROM",
    kinds.parse_mail_address,
    f"exlab-staging@{EXLAB_HOST}",
    said="`exlab-staging@` and the host",
    may_be="a mail address",
    means="the sender of these mails",
)
EXLAB_BASE_URL = read.value(
    "EXLAB_BASE_URL",
    addresses.base_url,
    "",
    said="none",
    may_be="an address with `http://` or `https://`, without a path",
    means="the address under which people open the pages, as in `https://staging.lab.example`: mails link to pages "
    "with it, without it they name the path alone",
)
TIME_ZONE = read.value(
    "EXLAB_TIME_ZONE",
    kinds.parse_zone,
    "UTC",
    may_be="a name of the IANA database",
    means="the time zone of the lab, as in `Europe/Zurich`: pages tell times in it, the days of holds end in it",
)
# A session ends when its user has not clicked for this long; polling pages do not count.
EXLAB_SESSION_IDLE = timedelta(
    hours=read.whole(
        "EXLAB_SESSION_IDLE_HOURS",
        12,
        low=1,
        high=8760,
        of="hours",
        means="hours without a click after which a session ends",
    )
)
read.finish()

# A child reads the same place even if `.env` or its folder has changed.
read.hand_on("EXLAB_DATA_DIR", str(EXLAB_DATA_DIR))
read.hand_on("DATABASE_URL", connections.absolute(_database, read.text("DATABASE_URL")))
read.hand_on("EXLAB_HOST", EXLAB_HOST)
read.hand_on("EXLAB_TRUSTED_PROXIES", ",".join(map(str, EXLAB_TRUSTED_PROXIES)))

SECRET_KEY = _secret_key or places.kept_secret_key(EXLAB_DATA_DIR)
read.hand_on("EXLAB_SECRET_KEY", SECRET_KEY)  # so that a child makes no directory for its own key

EXLAB_EMAIL = read.text("EXLAB_EMAIL_URL")
vars().update(_mail_server or connections.mail("dummymail://"))
EMAIL_TIMEOUT = 10

CSRF_FAILURE_VIEW = "cleanup.web.refusals.csrf_failure"
# `BelieveTrustedProxies` keeps these headers only from a trusted proxy.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
USE_X_FORWARDED_HOST = True
SECURE_SSL_REDIRECT = EXLAB_HTTPS
SESSION_COOKIE_SECURE = EXLAB_HTTPS
CSRF_COOKIE_SECURE = EXLAB_HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if EXLAB_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = EXLAB_HTTPS
SECURE_HSTS_PRELOAD = EXLAB_HTTPS
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

INSTALLED_APPS = [
    "cleanup",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_q",
    "django_htmx",
    "template_partials",
    "csp",
    "axes",
]

MIDDLEWARE = [
    "csp.middleware.CSPMiddleware",
    "cleanup.web.proxies.BelieveTrustedProxies",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "cleanup.web.caching.KeepNothing",
    "django.middleware.gzip.GZipMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "cleanup.web.polls.AnswerUnchanged",
    "cleanup.web.account.SignInFirst",
    "django.contrib.messages.middleware.MessageMiddleware",
    "cleanup.web.account.EndIdle",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "cleanup.web.refusals.SayWhatOnlyButtonsDo",
    "cleanup.web.busy.BusyDatabase",
    "axes.middleware.AxesMiddleware",
]

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}

ROOT_URLCONF = "exlab.urls"
WSGI_APPLICATION = "exlab.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": _database}
if _database["ENGINE"] == connections.SQLITE:
    # IMMEDIATE and the timeout: without them two writers fail each other with "database is locked".
    # WAL with synchronous=FULL: the other journals and NORMAL lose committed rows when the power goes.
    # recursive_triggers: without it REPLACE bypasses the triggers of the append-only tables.
    _database.setdefault("OPTIONS", {}).update(
        transaction_mode="IMMEDIATE",
        timeout=10,
        factory=sqlite.ExistingDatabase,
        init_command=(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA recursive_triggers=ON; PRAGMA foreign_keys=ON"
        ),
    )
# A preview of 1,000 runs has a box for each.
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1_100
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Tasks are wake-ups, the truth is in our tables. The queue hands a task out again after `retry`, so it is a
# day, and `timeout` is off: a clear may take hours. Heartbeat, recovery and discovery run on the first
# cluster, clears and sweeps on the second, so that the short work never waits behind the long. Proofs ahead of
# clicks have the third, which comes last on processor and disk.
warnings.filterwarnings("ignore", message="Retry and timeout are misconfigured")  # it takes "never" for a mistake
Q_CLUSTER = {
    "name": "exlab",
    "orm": "default",
    "workers": 2,
    "timeout": None,
    "retry": 86_400,
    "ack_failures": True,  # a failed task is not handed out again: recovery finds what it left
    "catch_up": False,
    "poll": 0.5,
    "save_limit": 1000,
    "label": "Task queue",
    # A click waits for the next look at the queue of clears. A look costs 2 ms of processor time.
    "ALT_CLUSTERS": {
        **{name: {"poll": 0.2} for name in ("exlab-clear", f"exlab-clear@{EXLAB_HOST}")},
        "exlab-prove": {"workers": 2},
    },
}
EXLAB_CLEAR_CLUSTER = "exlab-clear"
EXLAB_PROVE_CLUSTER = "exlab-prove"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
AUTHENTICATION_BACKENDS = ["cleanup.lab.people.sign_ins.Throttle", "cleanup.lab.people.accounts.WholeAccount"]
# A user who mistypes may soon try again; `cleanup.lab.people.sign_ins` keeps attackers off too.
AXES_HANDLER = "cleanup.lab.people.sign_ins.SignIns"
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # else an attacker could lock an account for ever
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_USERNAME_CALLABLE = "cleanup.lab.people.sign_ins.account_of"
AXES_CLIENT_IP_CALLABLE = "cleanup.lab.people.sign_ins.address_of"
AXES_LOCKOUT_CALLABLE = "cleanup.web.refusals.locked_out"
# axes keeps the fields of a form, with stars in place of these.
AXES_SENSITIVE_PARAMETERS = [
    "username",
    "csrfmiddlewaretoken",
    "next",
    "old_password",
    "new_password1",
    "new_password2",
    "password1",
    "password2",
    "own_password",
    "new_password",
    "token",
]
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False

SESSION_COOKIE_AGE = int(EXLAB_SESSION_IDLE.total_seconds())

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "overview"
LOGOUT_REDIRECT_URL = "login"

LANGUAGE_CODE = "en-gb"
USE_I18N = False
# As pages write instants; Django's admin takes these.
DATE_FORMAT, TIME_FORMAT, DATETIME_FORMAT = "Y-m-d", "H:i", "Y-m-d H:i"
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = EXLAB_DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}

# stdout belongs to `--json`; every log line goes to stderr.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        "cleanup": {"level": "INFO"},
        "django.request": {"level": "ERROR"},
        "axes": {"level": "CRITICAL"},  # `cleanup.lab.people.sign_ins` tells it, without what was typed
    },
}
