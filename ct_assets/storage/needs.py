"""Which part of the data root a step reads: what a machine must fetch before it.

Belongs here: one line a group of assets. A group that is not named needs everything that is not restricted, so that
a new one is slow at first and takes no original and no crosswalk to a training machine. Paths are shell patterns on
written names; `*` also matches slashes.
"""

from ct_assets import registry

ALWAYS = (
    "platform.json",
    "audits/[!u]*",
    "audits/uid/*.json",
    "cohort/*",
    "folds/*/plan.json",
    "folds/*/*.parquet",
    "folds/*/*.json",
    "nifti/*.parquet",
    "nifti/*.json",
    "models/*/configuration.json",
    "models/*/experiment.json",
    "inbox/*/.complete",
    "raw/dicom_input/*/.complete",
    "raw/superseded/*/.complete",
    "raw/dicom_input/*/.retired.json",
    "audits/uid/withdrawal*.json",
)
"""Tables, plans and markers: small, and read by whatever decides what is stale."""

DATABASES = (".dagster/*", "mlflow/*")

BY_THE_KEY = ("audits/uid/*/patient_map.parquet",)
"""Whose patients a batch holds: what a machine with the key reads to tell whether the clinic's rows of them changed."""

DELIVERIES = (
    "platform.json",
    "inbox/*/.complete",
    "raw/dicom_input/*/.complete",
    "raw/superseded/*/.complete",
    "raw/dicom_input/*/.retired.json",
    "audits/intake/*",
    "audits/withdrawals/*",
    "audits/uid/withdrawal*.json",
)
"""What a machine that only takes deliveries in needs to know."""

UNRESTRICTED = ("[!iqra]*", "reports/*", "audits/[!u]*", "audits/uid/*.json")
"""Everything but inbox, quarantine, raw and the crosswalk (`audits/uid`)."""

_BY_GROUP = {
    "intake": ("inbox/{key}/*", "raw/dicom_input/{key}/*"),
    "deid": ("raw/dicom_input/{key}/*", "audits/uid/*", "deid/dicom_output/{key}/*", "quarantine/{key}/*"),
    "audits": ("deid/dicom_output/{key}/*", "reports/*"),
    "cohort": ("audits/uid/*", "reports/*"),
    "volumes": ("deid/dicom_output/*", "nifti/*", "reports/*"),
    "folds": ("nifti/*", "folds/*", "store/*", "reports/*"),
    "derived": ("nifti/*", "derived/*", "reports/*"),
}


def of_group(group: str, key: str | None) -> tuple[str, ...]:
    """Return the patterns of what a step of `group` reads for partition `key` (None: all partitions)."""
    needs = dict(_BY_GROUP)
    for system in registry.systems():
        needs |= system.needs
    if group not in needs:
        return UNRESTRICTED
    return ALWAYS + tuple(pattern.format(key=key or "*") for pattern in needs[group])
