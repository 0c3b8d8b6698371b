from django.contrib.auth.views import LogoutView
from django.urls import path

from cleanup.views.clear import clear_run
from cleanup.views.runs import run_detail, run_list, run_row
from cleanup.views.session import SignIn

urlpatterns = [
    path("", run_list, name="run-list"),
    path("runs/<int:pk>/", run_detail, name="run-detail"),
    path("runs/<int:pk>/row/", run_row, name="run-row"),
    path("runs/<int:pk>/clear/", clear_run, name="clear-run"),
    path("login/", SignIn.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
]
