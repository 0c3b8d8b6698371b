"""From whom a proxy's headers are believed."""

import html
import re

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory

from cleanup.web.proxies import BelieveTrustedProxies
from exlab import addresses

pytestmark = pytest.mark.one_engine


PASSWORD = "a password for a test"
HERE, ELSEWHERE = "127.0.0.1", "192.0.2.7"


def seen(settings, peer: str, *, trusted: str = "127.0.0.0/8,10.0.0.0/8", **headers: str) -> HttpRequest:
    settings.EXLAB_TRUSTED_PROXIES = addresses.networks(trusted.split(","), setting="X")
    settings.ALLOWED_HOSTS = ["*"]
    arrived: list[HttpRequest] = []

    def take(request: HttpRequest) -> HttpResponse:
        arrived.append(request)
        return HttpResponse()

    BelieveTrustedProxies(take)(RequestFactory().get("/", REMOTE_ADDR=peer, **headers))
    return arrived[0]


# Of whom it is believed


def test_a_trusted_proxy_says_scheme_name_and_client(settings):
    request = seen(
        settings,
        HERE,
        HTTP_X_FORWARDED_PROTO="https",
        HTTP_X_FORWARDED_HOST="lab.example:8443",
        HTTP_X_FORWARDED_FOR="198.51.100.4",
    )
    assert (request.scheme, request.get_host()) == ("https", "lab.example:8443")
    assert request.META["REMOTE_ADDR"] == "198.51.100.4"


@pytest.mark.parametrize("peer", [ELSEWHERE, "2001:db8::1", "not an address"])
def test_no_other_one_does(settings, peer):
    request = seen(
        settings,
        peer,
        HTTP_X_FORWARDED_PROTO="https",
        HTTP_X_FORWARDED_HOST="lab.example",
        HTTP_X_FORWARDED_FOR="198.51.100.4",
        HTTP_X_REAL_IP="198.51.100.4",
        HTTP_FORWARDED="for=198.51.100.4;proto=https",
    )
    assert (request.scheme, request.get_host(), request.META["REMOTE_ADDR"]) == ("http", "testserver", peer)
    assert not [name for name in request.META if "FORWARDED" in name or "REAL_IP" in name]


def test_no_proxy_at_all_may_be_trusted(settings, monkeypatch):
    assert addresses.networks([], setting="X") == ()
    settings.EXLAB_TRUSTED_PROXIES = ()
    arrived = []
    request = RequestFactory().get("/", HTTP_X_FORWARDED_PROTO="https")
    BelieveTrustedProxies(lambda one: arrived.append(one.scheme) or HttpResponse())(request)
    assert arrived == ["http"]


@pytest.mark.parametrize(
    ("said", "client"),
    [
        ("203.0.113.9, 198.51.100.4", "198.51.100.4"),  # the first was written by the browser itself
        ("198.51.100.4, 10.0.0.5", "198.51.100.4"),  # two trusted proxies
        ("10.0.0.9, 10.0.0.5", "10.0.0.9"),  # one of the proxies asks by itself
        ("nonsense", HERE),
        ("203.0.113.9, nonsense, 10.0.0.5", "10.0.0.5"),
        ("2001:db8::1", "2001:db8::1"),
        ("", HERE),
    ],
)
def test_the_client_is_the_nearest_that_is_no_proxy(settings, said, client):
    assert seen(settings, HERE, HTTP_X_FORWARDED_FOR=said).META["REMOTE_ADDR"] == client


def test_what_the_nearest_proxy_added_last_is_what_counts(settings):
    forged = {"HTTP_X_FORWARDED_PROTO": "https, http", "HTTP_X_FORWARDED_HOST": "evil.example, lab.example"}
    request = seen(settings, HERE, **forged)
    assert (request.scheme, request.get_host()) == ("http", "lab.example")


@pytest.mark.parametrize("peer", ["::ffff:127.0.0.1", ""])
def test_this_host_has_other_addresses_too(settings, peer):
    """IPv6 form, and no address over a Unix socket."""
    assert seen(settings, peer, HTTP_X_FORWARDED_PROTO="https").is_secure()
    assert not seen(settings, peer, trusted="10.0.0.5", HTTP_X_FORWARDED_PROTO="https").is_secure()


@pytest.mark.parametrize(
    ("host", "proto", "taken_for"),
    [
        ("lab.example:443", "https", "lab.example"),
        ("lab.example:80", "http", "lab.example"),
        ("lab.example:443", "http", "lab.example:443"),
        ("lab.example:8443", "https", "lab.example:8443"),
    ],
)
def test_the_usual_port_is_left_out_as_browsers_do(settings, host, proto, taken_for):
    assert seen(settings, HERE, HTTP_HOST=host, HTTP_X_FORWARDED_PROTO=proto).get_host() == taken_for


# The settings


def test_settings_are_read_as_people_write_them():
    wanted = ["https://lab.example", "https://lab.example:8443", "http://[2001:db8::1]:8000", "https://*.lab.example"]
    written = ["https://Lab.example:443/", " https://lab.example:8443", "http://[2001:db8::1]:8000", wanted[3]]
    assert addresses.origins(written, setting="EXLAB_TRUSTED_ORIGINS") == wanted
    names = ["https://lab.example:8443/", "lab.example:8000", "[::1]:8000", "[::1]", "*", ".lab.example", " labpc "]
    assert addresses.host_names(names) == ["lab.example", "lab.example", "[::1]", "[::1]", "*", ".lab.example", "labpc"]
    assert [str(one) for one in addresses.networks(["10.0.0.5", "172.16.3.1/12"], setting="X")] == [
        "10.0.0.5/32",
        "172.16.0.0/12",
    ]


@pytest.mark.parametrize("text", ["lab.example", "null", "https://", "https://lab.example/exlab", "https://a@b", ""])
def test_what_is_no_origin_is_refused_at_the_start(text):
    with pytest.raises(Exception, match=re.escape(f"EXLAB_TRUSTED_ORIGINS: {text!r} is no origin")):
        addresses.origins([text], setting="EXLAB_TRUSTED_ORIGINS")


@pytest.mark.parametrize("text", ["proxy.example", "10.0.0", "10.0.0.0/33", "*"])
def test_what_is_no_address_is_refused_at_the_start(text):
    with pytest.raises(Exception, match=re.escape(f"EXLAB_TRUSTED_PROXIES: {text!r} is no address")):
        addresses.networks([text], setting="EXLAB_TRUSTED_PROXIES")


# Signing in behind a proxy


def sign_in(settings, origin: str | None, *, host: str = "lab.example", peer: str = HERE, **headers: str):
    settings.ALLOWED_HOSTS = ["lab.example"]
    if not User.objects.exists():
        User.objects.create_superuser("admin", password=PASSWORD)
    client = Client(enforce_csrf_checks=True, REMOTE_ADDR=peer)
    passed_on = {"HTTP_HOST": host, **headers}
    token = client.get("/login/", **passed_on).cookies["csrftoken"].value
    said = {} if origin is None else {"HTTP_ORIGIN": origin}
    form = {"username": "admin", "password": PASSWORD, "csrfmiddlewaretoken": token}
    return client.post("/login/", form, **passed_on, **said)


def words_of(answer) -> str:
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", answer.content.decode())).split())


HTTPS = {"HTTP_X_FORWARDED_PROTO": "https"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("origin", "headers"),
    [
        ("https://lab.example", HTTPS),  # also where EXLAB_HTTPS was forgotten
        ("https://lab.example", {**HTTPS, "host": "lab.example:443"}),
        ("https://lab.example:8443", {**HTTPS, "HTTP_X_FORWARDED_HOST": "lab.example:8443", "host": "127.0.0.1:8000"}),
        ("http://lab.example:8000", {"host": "lab.example:8000"}),
    ],
)
def test_one_signs_in_where_the_proxy_says_what_the_browser_asked_for(settings, origin, headers):
    assert sign_in(settings, origin, **headers).status_code == 302


@pytest.mark.django_db
def test_a_lost_port_is_named_and_the_setting_that_helps_does(settings):
    origin = "https://lab.example:8443"
    answer = sign_in(settings, origin, **HTTPS)
    words = words_of(answer)
    assert answer.status_code == 403
    assert "too old" not in words
    assert f"the page stands at {origin} . The server takes its own address for https://lab.example , and" in words
    assert f"EXLAB_TRUSTED_ORIGINS={origin}" in words
    settings.CSRF_TRUSTED_ORIGINS = addresses.origins([origin], setting="EXLAB_TRUSTED_ORIGINS")
    assert sign_in(settings, origin, **HTTPS).status_code == 302


@pytest.mark.django_db
def test_a_hidden_address_is_no_trusted_one(settings):
    words = words_of(sign_in(settings, "null", **HTTPS))
    assert "Instead of an address your browser has sent null ." in words
    assert "EXLAB_TRUSTED_ORIGINS" in words
    assert "Referrer-Policy: no-referrer" in words
    words = words_of(sign_in(settings, None, **HTTPS, HTTP_REFERER="https://other.example/login/?a=b"))
    assert "the page stands at https://other.example ." in words


@pytest.mark.django_db
def test_a_proxy_that_is_not_trusted_is_named(settings):
    """It says https and is not believed: the page names the setting."""
    answer = sign_in(settings, "https://lab.example", peer="172.18.0.1", **HTTPS)
    assert answer.status_code == 403
    assert "EXLAB_TRUSTED_PROXIES=172.18.0.1" in words_of(answer)
    settings.EXLAB_TRUSTED_PROXIES = addresses.networks(["172.18.0.1"], setting="X")
    assert sign_in(settings, "https://lab.example", peer="172.18.0.1", **HTTPS).status_code == 302


@pytest.mark.django_db
def test_an_old_token_is_another_matter(settings):
    settings.ALLOWED_HOSTS = ["lab.example"]
    client = Client(enforce_csrf_checks=True)
    client.get("/login/", HTTP_HOST="lab.example")
    answer = client.post("/login/", {}, HTTP_HOST="lab.example", HTTP_ORIGIN="http://lab.example")
    assert (answer.status_code, "This page was too old" in words_of(answer)) == (403, True)


@pytest.mark.django_db
def test_the_text_of_an_origin_is_only_text(settings):
    answer = sign_in(settings, "https://<b>\u202e", **HTTPS)
    assert b"<b>" not in answer.content
    assert r"\u202e" in answer.content.decode()


# Unknown hosts


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["/", "/login/", "/runs/", "/nothing/"])
@pytest.mark.parametrize("https", [False, True])
def test_an_unknown_host_gets_a_page_that_names_it_and_the_setting(settings, address, https):
    settings.SECURE_SSL_REDIRECT = https
    answer = Client().get(address, HTTP_HOST="Labpc-04.example:8000")
    words = words_of(answer)
    assert answer.status_code == 400
    assert "under the name Labpc-04.example:8000 . The server answers only under" in words
    assert "adds labpc-04.example to EXLAB_ALLOWED_HOSTS" in words
    assert "default-src" in answer["Content-Security-Policy"]
    assert b"<html" in answer.content


@pytest.mark.django_db
def test_a_name_that_no_host_can_have_says_so(settings):
    for host in ("confocal_01:8000", "<b>", ""):
        answer = Client().get("/", HTTP_HOST=host)
        assert answer.status_code == 400
        assert b"<b>" not in answer.content
        assert "A host cannot have this name" in words_of(answer)


@pytest.mark.django_db
def test_a_name_that_a_trusted_proxy_passes_on_is_the_one_that_is_named(settings):
    words = words_of(Client().get("/", HTTP_HOST="localhost", HTTP_X_FORWARDED_HOST="lab.example"))
    assert "adds lab.example to EXLAB_ALLOWED_HOSTS" in words


@pytest.mark.django_db
def test_a_request_that_is_not_understood_gets_a_page_too(people):
    fields = {str(number): "" for number in range(1_200)}
    answer = people.operator.post("/selection/", fields)
    assert answer.status_code == 400
    assert "This request was not understood" in words_of(answer)


# https


@pytest.mark.django_db
class TestHttps:
    @pytest.fixture(autouse=True)
    def _https(self, settings):
        settings.SECURE_SSL_REDIRECT = True

    def test_a_browser_is_sent_there_and_its_next_request_is_served(self):
        client = Client()
        answer = client.get("/login/")
        assert (answer.status_code, answer["Location"]) == (301, "https://testserver/login/")
        assert "no-store" in answer["Cache-Control"]  # or the browser would follow it by itself later
        answer = client.get("/login/", **HTTPS)
        assert answer.status_code == 200
        assert client.cookies["exlab-sent-to-https"].value == ""

    def test_one_that_comes_back_as_http_is_told(self):
        client = Client()
        assert client.get("/login/").status_code == 301
        answer = client.get("/login/")
        words = words_of(answer)
        assert answer.status_code == 400
        assert "EXLAB_HTTPS is on" in words
        assert "X-Forwarded-Proto" in words
        assert "no-store" in answer["Cache-Control"]

    def test_a_proxy_that_is_not_trusted_is_named_at_once(self):
        answer = Client(REMOTE_ADDR="172.18.0.1").get("/login/", **HTTPS)
        assert answer.status_code == 400
        assert "EXLAB_TRUSTED_PROXIES=172.18.0.1" in words_of(answer)


# Buttons


def test_a_form_that_comes_too_late_leads_back_to_its_page(people, runs):
    """The session is over: nothing was done, the sign-in page says so and leads back to the button."""
    referer = {"HTTP_REFERER": "http://testserver/problems/?page=2"}
    answer = people.nobody.post("/problems/1/look/", **referer, follow=True)
    assert answer.redirect_chain == [("/login/?next=/problems/%3Fpage%3D2", 302)]
    assert "nothing was done. Sign in, and do it again." in words_of(answer)
    for elsewhere in ("https://evil.example/", "//evil.example", "nonsense:", ""):
        answer = Client().post("/problems/1/look/", HTTP_REFERER=elsewhere)
        assert answer["Location"] == "/login/?next=/", elsewhere


def test_the_address_of_a_button_is_no_blank_page(people):
    answer = people.operator.get("/problems/1/look/")
    assert (answer.status_code, answer["Allow"]) == (405, "POST")
    assert "This address works only by its button" in words_of(answer)
