"""Settings come from the environment, or from a `.env` file beside manage.py; see the README's table."""

import os
import secrets
import socket
import warnings
from pathlib import Path

import environ
from csp.constants import NONE, SELF

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
environ.Env.read_env(BASE_DIR / ".env")

# Everything the product writes for itself: the database, locks, plans, tombstones, the secret key.
EXLAB_DATA_DIR = Path(env("EXLAB_DATA_DIR", default=str(BASE_DIR / "var"))).absolute()

# The host whose staging disks this process serves; it is written into attempts and history entries.
EXLAB_HOST = env("EXLAB_HOST", default=socket.gethostname())

# Seconds of silence after which a NAS is given up.
EXLAB_NAS_TIMEOUT = env.float("EXLAB_NAS_TIMEOUT", default=60.0)

# Where reminders go out by mail; without it they stand on the pages alone.
EXLAB_EMAIL = env("EXLAB_EMAIL_URL", default="")
vars().update(env.email_url_config(EXLAB_EMAIL or "dummymail://"))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env("EXLAB_EMAIL_FROM", default=f"exlab-staging@{EXLAB_HOST}")


def _kept_secret_key() -> str:
    """A secret key made once and kept beside the data, so that a lab has nothing to invent."""
    EXLAB_DATA_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = EXLAB_DATA_DIR / "secret-key"
    if not path.exists():
        # Two processes may start at once: each writes its own file, and the first link wins.
        mine = EXLAB_DATA_DIR / f"secret-key.{os.getpid()}"
        descriptor = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(50))
        try:
            os.link(mine, path)
        except FileExistsError:
            pass
        finally:
            mine.unlink()
    return path.read_text().strip()


SECRET_KEY = env("EXLAB_SECRET_KEY", default="") or _kept_secret_key()
DEBUG = env.bool("EXLAB_DEBUG", default=False)
ALLOWED_HOSTS = env.list("EXLAB_ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]", EXLAB_HOST])

# One switch, because many labs serve plain http inside: redirect to https, and cookies over https only.
EXLAB_HTTPS = env.bool("EXLAB_HTTPS", default=False)
SECURE_SSL_REDIRECT = EXLAB_HTTPS
SESSION_COOKIE_SECURE = EXLAB_HTTPS
CSRF_COOKIE_SECURE = EXLAB_HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if EXLAB_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = EXLAB_HTTPS
SECURE_HSTS_PRELOAD = EXLAB_HTTPS
if EXLAB_HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
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
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
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

DATABASES = {"default": env.db("DATABASE_URL", default=f"sqlite:///{EXLAB_DATA_DIR / 'db.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # IMMEDIATE and the timeout: without them two writers fail each other with "database is locked".
    # WAL with synchronous=FULL: the other journals and NORMAL lose committed rows when the power goes.
    # recursive_triggers: without it REPLACE goes round the triggers of the append-only tables.
    DATABASES["default"].setdefault("OPTIONS", {}).update(
        transaction_mode="IMMEDIATE",
        timeout=20,
        init_command=(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA recursive_triggers=ON; PRAGMA foreign_keys=ON"
        ),
    )
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Tasks are wake-ups, the truth is in our tables. The queue hands a task out again after `retry`, so it is a
# day, and `timeout` is off: a clear may take hours. Heartbeat, recovery and discovery run on the first
# cluster, clears and sweeps on the second, so that the short work never waits behind the long.
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
    "ALT_CLUSTERS": {"exlab-clear": {"workers": 2}},
}
EXLAB_CLEAR_CLUSTER = "exlab-clear"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "overview"
LOGOUT_REDIRECT_URL = "login"

LANGUAGE_CODE = "en-gb"
TIME_ZONE = env("EXLAB_TIME_ZONE", default="UTC")
USE_I18N = False
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
    },
}
