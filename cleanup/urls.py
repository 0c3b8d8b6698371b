from django.contrib.auth.views import LogoutView
from django.urls import path

from cleanup.views.answers import answers
from cleanup.views.clear import clear_run
from cleanup.views.problems import look_again, mark_gone, problem_list
from cleanup.views.runs import run_detail, run_list, run_row
from cleanup.views.session import SignIn
from cleanup.views.sweeps import go_on, sweep_detail, sweep_list

urlpatterns = [
    path("", run_list, name="run-list"),
    path("runs/<int:pk>/", run_detail, name="run-detail"),
    path("runs/<int:pk>/row/", run_row, name="run-row"),
    path("runs/<int:pk>/clear/", clear_run, name="clear-run"),
    path("runs/<int:pk>/answers/", answers, name="answers"),
    path("sweeps/", sweep_list, name="sweep-list"),
    path("sweeps/<int:pk>/", sweep_detail, name="sweep-detail"),
    path("breakers/<int:pk>/go-on/", go_on, name="go-on"),
    path("problems/", problem_list, name="problem-list"),
    path("problems/<int:pk>/look/", look_again, name="look-again"),
    path("problems/<int:pk>/gone/", mark_gone, name="mark-gone"),
    path("login/", SignIn.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
]
