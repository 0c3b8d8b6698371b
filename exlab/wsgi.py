"""What gunicorn serves."""

from django.core.wsgi import get_wsgi_application

from exlab import starting
from exlab.slow_clients import WholeRequests

# gunicorn takes this exit status for a start that can never succeed; with another it would try for ever.
with starting.guarded(status=3):
    starting.expect_settings()
    application = WholeRequests(get_wsgi_application())
