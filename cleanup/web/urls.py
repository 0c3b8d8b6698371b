from django.contrib.auth.views import LogoutView
from django.urls import path

from cleanup.web.account import (
    ChangePassword,
    SignIn,
    account,
    add_record_name,
    remove_record_name,
    sign_out_everywhere,
)
from cleanup.web.audit.charts import chart, chart_page, charts
from cleanup.web.audit.entries import entry_list
from cleanup.web.audit.files import audit_ledger, audit_table
from cleanup.web.audit.freed import freed
from cleanup.web.audit.months import audit_month
from cleanup.web.audit.past_runs import ask_nas, past_run_list
from cleanup.web.audit.reconcile import reconcile
from cleanup.web.clears.batches import batch_detail, batch_list, batch_progress, pause_batch, resume_batch, stop_batch
from cleanup.web.clears.confirm import clear_run, clear_runs
from cleanup.web.clears.room import make_room
from cleanup.web.guide import guide
from cleanup.web.holds import extend_hold, hold_list, hold_run, release_hold
from cleanup.web.instruments import bench, bench_now, bench_qr, instrument_card, instrument_list
from cleanup.web.notice import notice
from cleanup.web.overview.alarm_mark import disk_alarm
from cleanup.web.overview.overview import overview, overview_now
from cleanup.web.password_again import password_again
from cleanup.web.people.accounts import add_person, people_list, person
from cleanup.web.people.first_admin import make_first_admin
from cleanup.web.policies.edit import change_policy
from cleanup.web.policies.policy_list import policy_detail, policy_list, promote_policy, promote_root, rehearse_policy
from cleanup.web.problems.missing import mark_all_gone, move_runs
from cleanup.web.problems.problem_group import ended_problems, problem_group
from cleanup.web.problems.problem_list import look_again, mark_gone, problem_list, remove_shell
from cleanup.web.roots.add import add_nas_root, add_root, import_wizard_config
from cleanup.web.roots.root_list import move_root, retire_root, root_detail, root_list
from cleanup.web.roots.shown_request import root_request
from cleanup.web.runs.detail import run_detail, run_live
from cleanup.web.runs.receipts import receipt, receipt_file, receipt_script
from cleanup.web.runs.run_list import run_changes, run_list, run_row
from cleanup.web.runs.selected import (
    finish_reminder,
    hold_selected,
    release_selected,
    remind_of_selected,
    selected_file,
    selected_runs,
)
from cleanup.web.runs.selection import select_runs
from cleanup.web.runs.verified import run_verified
from cleanup.web.runs.ways_out.all_ways import WAYS
from cleanup.web.runs.ways_out.page import way_out
from cleanup.web.setup.guided import keep_manual, setup, setup_now
from cleanup.web.sweeps.sweep_list import dry_run, go_on, sweep_changes, sweep_detail, sweep_list
from cleanup.web.sweeps.why import answers

urlpatterns = [
    path("", overview, name="overview"),
    path("overview/now/", overview_now, name="overview-now"),
    path("roots/<int:pk>/alarm/", disk_alarm, name="disk-alarm"),
    path("runs/", run_list, name="run-list"),
    path("runs/changes/", run_changes, name="run-changes"),
    path("selection/", select_runs, name="select-runs"),
    path("selected/", selected_runs, name="selected-runs"),
    path("selected/runs.csv", selected_file, name="selected-file"),
    path("selected/hold/", hold_selected, name="hold-selected"),
    path("selected/release/", release_selected, name="release-selected"),
    path("selected/remind/", remind_of_selected, name="remind-of-selected"),
    path("reminders/<int:pk>/done/", finish_reminder, name="finish-reminder"),
    path("runs/<int:pk>/", run_detail, name="run-detail"),
    path("runs/<int:pk>/live/", run_live, name="run-live"),
    path("runs/<int:pk>/row/", run_row, name="run-row"),
    path("runs/<int:pk>/clear/", clear_run, name="clear-run"),
    path("runs/<int:pk>/receipt/", receipt, name="receipt"),
    path("runs/<int:pk>/receipt.json", receipt_file, {"what": "receipt"}, name="receipt-file"),
    path("runs/<int:pk>/receipt-files.jsonl", receipt_file, {"what": "list"}, name="receipt-list"),
    path("runs/<int:pk>/receipt-key.pem", receipt_file, {"what": "key"}, name="receipt-key"),
    path("runs/<int:pk>/check_receipt.py", receipt_script, name="receipt-script"),
    path("runs/<int:pk>/verified/", run_verified, name="run-verified"),
    path("runs/<int:pk>/answers/", answers, name="answers"),
    path("runs/<int:pk>/hold/", hold_run, name="hold-run"),
    *(path(f"runs/<int:pk>/{way.name}/", way_out, {"name": way.name}, name=way.url_name) for way in WAYS),
    path("clear/", clear_runs, name="clear-runs"),
    path("room/", make_room, name="make-room"),
    path("batches/", batch_list, name="batch-list"),
    path("batches/<uuid:key>/", batch_detail, name="batch"),
    path("batches/<uuid:key>/progress/", batch_progress, name="batch-progress"),
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
    path("policies/roots/<int:pk>/promote/", promote_root, name="promote-root"),
    path("sweeps/", sweep_list, name="sweep-list"),
    path("sweeps/changes/", sweep_changes, name="sweep-changes"),
    path("sweeps/dry-run/", dry_run, name="dry-run"),
    path("sweeps/<int:pk>/", sweep_detail, name="sweep-detail"),
    path("breakers/<int:pk>/go-on/", go_on, name="go-on"),
    path("problems/", problem_list, name="problem-list"),
    path("problems/<int:pk>/look/", look_again, name="look-again"),
    path("problems/<int:pk>/shell/", remove_shell, name="remove-shell"),
    path("problems/<int:pk>/gone/", mark_gone, name="mark-gone"),
    path("problems/<int:pk>/moved/", move_runs, name="move-runs"),
    path("problems/gone/", mark_all_gone, name="mark-all-gone"),
    path("problems/ended/", ended_problems, name="ended-problems"),
    path("problems/groups/<slug:slug>/", problem_group, name="problem-group"),
    path("audit/", freed, name="audit"),
    path("audit/entries/", entry_list, name="audit-entries"),
    path("audit/charts/", charts, name="audit-charts"),
    path("audit/charts/<slug:name>.svg", chart, name="audit-chart"),
    path("audit/charts/<slug:name>/", chart_page, name="audit-chart-page"),
    path("bench/<uuid:token>/", bench, name="bench"),
    path("bench/<uuid:token>/now/", bench_now, name="bench-now"),
    path("bench/<uuid:token>/qr.svg", bench_qr, name="bench-qr"),
    path("notice/<uuid:token>/", notice, name="notice"),
    path("instruments/", instrument_list, name="instrument-list"),
    path("instruments/<int:pk>/card/", instrument_card, name="instrument-card"),
    path("audit/tables/<slug:name>.<slug:kind>", audit_table, name="audit-table"),
    path("audit/ledger.<slug:kind>", audit_ledger, name="audit-ledger"),
    path("audit/months/<slug:month>/", audit_month, name="audit-month"),
    path("audit/runs/", past_run_list, name="past-run-list"),
    path("audit/runs/<int:pk>/nas/", ask_nas, name="ask-nas"),
    path("audit/reconcile/", reconcile, name="reconcile"),
    path("guide/", guide, name="guide"),
    path("guide/<slug:page>/", guide, name="guide-page"),
    path("login/", SignIn.as_view(), name="login"),
    path("first-admin/", make_first_admin, name="first-admin"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("setup/", setup, name="setup"),
    path("setup/now/", setup_now, name="setup-now"),
    path("setup/manual/", keep_manual, name="keep-manual"),
    path("people/", people_list, name="people"),
    path("people/add/", add_person, name="add-person"),
    path("people/<int:pk>/", person, name="person"),
    path("account/", account, name="account"),
    path("account/names/", add_record_name, name="add-record-name"),
    path("account/names/<int:pk>/remove/", remove_record_name, name="remove-record-name"),
    path("account/password/", ChangePassword.as_view(), name="change-password"),
    path("account/again/", password_again, name="password-again"),
    path("roots/", root_list, name="root-list"),
    path("roots/add/", add_root, name="add-root"),
    path("roots/nas/add/", add_nas_root, name="add-nas-root"),
    path("roots/import/", import_wizard_config, name="import-wizard-config"),
    path("roots/requests/<uuid:key>/", root_request, name="root-request"),
    path("roots/<int:pk>/", root_detail, name="root-detail"),
    path("roots/<int:pk>/move/", move_root, name="move-root"),
    path("roots/<int:pk>/retire/", retire_root, name="retire-root"),
    path("account/sign-out/", sign_out_everywhere, name="sign-out-everywhere"),
]
