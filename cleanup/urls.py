from django.contrib.auth.views import LogoutView
from django.urls import path

from cleanup.views.answers import answers
from cleanup.views.batches import batch_detail, batch_list, pause_batch, resume_batch, stop_batch
from cleanup.views.bench import bench, bench_qr, instrument_card, instrument_list
from cleanup.views.clear import clear_run, clear_runs
from cleanup.views.holds import extend_hold, hold_list, hold_run, release_hold
from cleanup.views.overview import overview
from cleanup.views.policies import policy_detail, policy_list, promote_policy, rehearse_policy
from cleanup.views.policy_form import change_policy
from cleanup.views.problems import look_again, mark_gone, problem_list
from cleanup.views.run_page import receipt, run_detail
from cleanup.views.runs import run_changes, run_list, run_row
from cleanup.views.selection import select_runs
from cleanup.views.session import SignIn
from cleanup.views.sweeps import dry_run, go_on, sweep_detail, sweep_list

urlpatterns = [
    path("", overview, name="overview"),
    path("runs/", run_list, name="run-list"),
    path("runs/changes/", run_changes, name="run-changes"),
    path("selection/", select_runs, name="select-runs"),
    path("runs/<int:pk>/", run_detail, name="run-detail"),
    path("runs/<int:pk>/row/", run_row, name="run-row"),
    path("runs/<int:pk>/clear/", clear_run, name="clear-run"),
    path("runs/<int:pk>/receipt/", receipt, name="receipt"),
    path("runs/<int:pk>/answers/", answers, name="answers"),
    path("runs/<int:pk>/hold/", hold_run, name="hold-run"),
    path("clear/", clear_runs, name="clear-runs"),
    path("batches/", batch_list, name="batch-list"),
    path("batches/<uuid:key>/", batch_detail, name="batch"),
    path("batches/<uuid:key>/pause/", pause_batch, name="pause-batch"),
    path("batches/<uuid:key>/resume/", resume_batch, name="resume-batch"),
    path("batches/<uuid:key>/stop/", stop_batch, name="stop-batch"),
    path("holds/", hold_list, name="hold-list"),
    path("holds/<int:pk>/extend/", extend_hold, name="extend-hold"),
    path("holds/<int:pk>/release/", release_hold, name="release-hold"),
    path("policies/", policy_list, name="policy-list"),
    path("policies/change/", change_policy, name="change-policy"),
    path("policies/<int:number>/", policy_detail, name="policy-detail"),
    path("policies/<int:number>/promote/", promote_policy, name="promote-policy"),
    path("policies/<int:number>/rehearse/", rehearse_policy, name="rehearse-policy"),
    path("sweeps/", sweep_list, name="sweep-list"),
    path("sweeps/dry-run/", dry_run, name="dry-run"),
    path("sweeps/<int:pk>/", sweep_detail, name="sweep-detail"),
    path("breakers/<int:pk>/go-on/", go_on, name="go-on"),
    path("problems/", problem_list, name="problem-list"),
    path("problems/<int:pk>/look/", look_again, name="look-again"),
    path("problems/<int:pk>/gone/", mark_gone, name="mark-gone"),
    path("bench/<uuid:token>/", bench, name="bench"),
    path("bench/<uuid:token>/qr.svg", bench_qr, name="bench-qr"),
    path("instruments/", instrument_list, name="instrument-list"),
    path("instruments/<int:pk>/card/", instrument_card, name="instrument-card"),
    path("login/", SignIn.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
]
