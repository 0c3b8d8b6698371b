"""How gunicorn serves the pages: `gunicorn --config python:exlab.serving exlab.wsgi`."""

worker_class = "gthread"
workers = 2
threads = 8
graceful_timeout = 10
loglevel = "warning"
control_socket_disable = True  # or it would make a folder in the user's home
