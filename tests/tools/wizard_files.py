"""Configurations as ExLab-Wizard writes them: every key, empty values as nothing, words without quotes."""

_OLDER = """\
paths:
  templates_dir: /srv/exlab/templates
  plugin_dir: /srv/exlab/plugins
  local_root: /data/acquired
lims:
  endpoint: ''
  email: ''
  cache_ttl_hours: 24
  offline_catalogue_path: ''
readme:
  defaults:
    - id: sample_id
      label: Sample
      type: text
      required: false
      default: ''
      options:
      hint:
equipment:{equipment}
nas_cleanup:
  enabled: {nas_cleanup}
  min_verify_passes: 2
  min_age_hours: 24
  retain_cache: true
logging:
  level: INFO
  central_log_max_mb: 10
  central_log_keep: 5
operators:
  allowlist: []
validator:
  content_scan_max_mib: 5
  content_scan_extensions:
    - .txt
    - .csv
plugins:
  allow_network: false
sync:
  enabled: true
  retry_attempts: 3
orchestrator:
  label: {label}
  staging_root: {staging}
  staging_cleanup:
    mode: {mode}
    retain_hours: {hours}
"""

_INSTRUMENT = """
  - id: {equipment}
    label: yes
    local_root: /data/acquired
    nas_root: \\\\nas01\\lab\\{equipment}
    completeness_signal: sentinel_file
    sentinel_filename: run_complete
    manifest_filename:
    sync_mode: {sync_mode}
    transport:{transport}
    orchestrator_staging_transport:{pushes}"""

_BANDWIDTH = """
      bandwidth:
        upload_mbps: 20.0
        schedule:
          - days:
              - mon
            from_: 08:00
            to: 18:00"""


def rclone(equipment: str, path: str, *, remote: str = "nas") -> str:
    transport = f"""
      type: rclone
      rclone_remote: {remote}
      rclone_remote_path: {path}{_BANDWIDTH}"""
    return _INSTRUMENT.format(equipment=equipment, sync_mode="nas", transport=transport, pushes="")


def rsync(equipment: str, path: str, *, target: str = "lab@nas01") -> str:
    transport = f"""
      type: rsync_ssh
      ssh_target: {target}
      ssh_key_path: ~/.ssh/id_ed25519
      remote_path: {path}{_BANDWIDTH}"""
    return _INSTRUMENT.format(equipment=equipment, sync_mode="nas", transport=transport, pushes="")


def pushed(equipment: str) -> str:
    pushes = """
      type: smb_mount
      mount_point: /mnt/labpc-02
      staging_subpath: incoming"""
    return _INSTRUMENT.format(equipment=equipment, sync_mode="stage", transport="", pushes=pushes)


def older(
    staging: object,
    *instruments: str,
    label: str = "Imaging PC",
    mode: str = "manual",
    hours: object = 24,
    nas_cleanup: str = "true",
) -> str:
    return _OLDER.format(
        staging=staging,
        equipment="".join(instruments) or " []",
        label=label,
        mode=mode,
        hours=hours,
        nas_cleanup=nas_cleanup,
    )


def newer(
    *names: str,
    orchestrator: str = "staging_root: /data/staging",
    remote: str = "nas",
    base_root: object = "lab/runs",
    more: str = "",
) -> str:
    equipment = "".join(f"\n  - id: {name}\n    label: {name}\n    nas_root: /nas/{name}" for name in names)
    return (
        f"equipment:{equipment or ' []'}\nnas:\n  remote: {remote}\n  base_root: {base_root}\n"
        f"orchestrator:\n  label: Imaging PC\n  {orchestrator}\n{more}"
    )
