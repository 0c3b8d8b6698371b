"""How gunicorn serves the pages: `gunicorn --config python:exlab.serving exlab.wsgi`."""

from exlab import starting

worker_class = "exlab.slow_clients.Worker"
workers = 2
threads = 256  # most wait for clients: `exlab.slow_clients` limits how many work
graceful_timeout = 10
loglevel = "warning"
forwarded_allow_ips = ""  # the pages decide which proxies to trust: EXLAB_TRUSTED_PROXIES
control_socket_disable = True  # else it makes a folder in the user's home


def on_starting(server: object) -> None:
    """Before the first worker: a fault is said once and ends the server."""
    with starting.guarded():
        starting.expect_all()
