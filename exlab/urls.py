from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

handler400 = "cleanup.web.refusals.bad_request"
handler500 = "cleanup.web.busy.handle_fault"

urlpatterns = [
    # Django's own form takes any number of guesses at the old password.
    path("admin/password_change/", admin.site.admin_view(RedirectView.as_view(pattern_name="change-password"))),
    path("admin/", admin.site.urls),
    path("", include("cleanup.web.urls")),
]
