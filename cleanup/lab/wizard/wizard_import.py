"""The wizard's configuration beside what is registered on this host: for the command and for the page."""

import os

from django.conf import settings

from cleanup.lab.wizard.wizard_config import WizardConfig
from cleanup.lab.wizard.wizard_plan import Answers, Registered, WizardPlan, planned, staging_path
from cleanup.models import RetentionPolicy, StagingRoot

# Stands in the policy that an import writes.
NOTE = "as in ExLab-Wizard's configuration"


def known_root(config: WizardConfig, answers: Answers) -> StagingRoot | None:
    """The staging root that lies where the configuration says. Raises WizardConfigError."""
    path, _obstacles = staging_path(config, answers, settings.EXLAB_HOST)
    return StagingRoot.objects.filter(host=settings.EXLAB_HOST, path=os.path.realpath(path)).first()


def plan_of(config: WizardConfig, answers: Answers, known: StagingRoot | None) -> WizardPlan:
    """What would be registered on this host. Raises WizardConfigError."""
    others = StagingRoot.objects.exclude(pk=known.pk) if known else StagingRoot.objects.all()
    return planned(
        config,
        host=settings.EXLAB_HOST,
        answers=answers,
        registered=_registered(known) if known else None,
        taken=set(others.values_list("name", flat=True)),
    )


def _registered(root: StagingRoot) -> Registered:
    return Registered(
        name=root.name,
        nas_path=root.nas_path,
        nas_layout=root.nas_layout,
        instrument_nas={name: own["path"] for name, own in root.instrument_nas.items()},
    )


def own_policy(known: StagingRoot | None) -> RetentionPolicy | None:
    """The version in force for this root alone: the import does not overwrite it."""
    if known is None:
        return None
    own = RetentionPolicy.objects.newest_of(root=known, equipment="", project="", run_kind="")
    return own if own and (own.mode or own.retain_hours is not None) else None
