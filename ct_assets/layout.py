"""Where things lie under the data root: every path of the platform is made here and nowhere else.

Belongs here: paths as functions of batch, fold, case or experiment, and the permissions of restricted
folders. Does not: reading or writing what lies there.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from ct_assets.errors import UsageError

MARKER_NAME = ".complete"
RESTRICTED_MODE = 0o700
NIFTI_FOLDER = "nifti"

_OPAQUE_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_key(key: str, what: str) -> str:
    """Return `key` if it may serve as a batch, fold, experiment or set name, else refuse it.

    Such keys end in paths, partition keys and databases, so they are short and of a narrow alphabet.
    """
    if not _OPAQUE_KEY.fullmatch(key):
        raise UsageError(f"{what} {key!r}: use 1 to 64 letters, digits, '_' and '-' only")
    return key


@dataclass(frozen=True)
class DeidPaths:
    """Where one run of de-identification writes; the platform and the command differ only here."""

    dicom: Path
    """Released instances: `<PatientID>/<StudyInstanceUID>/<SeriesInstanceUID>/<SOPInstanceUID>.dcm`."""
    audit: Path
    """`deid_audit.jsonl`: a line an instance, no original value."""
    uid_dir: Path
    """Restricted: `uid_map.parquet`, `patient_map.parquet`, `files.parquet`."""
    quarantine: Path
    """Restricted: originals that may not be released, with `quarantine.jsonl`."""
    report: Path
    """The page for people."""

    @property
    def uid_map(self) -> Path:
        """The UID graph, old to new."""
        return self.uid_dir / "uid_map.parquet"

    @property
    def patient_map(self) -> Path:
        """Raw PatientID and issuer to pseudonym and shift."""
        return self.uid_dir / "patient_map.parquet"

    @property
    def files(self) -> Path:
        """Every file of the input with its disposition."""
        return self.uid_dir / "files.parquet"

    @property
    def review(self) -> Path:
        """What people decided about quarantined objects; kept when the batch is made again."""
        return self.audit.with_name("quarantine_review.jsonl")

    @classmethod
    def of_command(cls, output_dir: Path) -> "DeidPaths":
        """Return the paths of `ct-assets deid INPUT_DIR OUTPUT_DIR`."""
        return cls(
            dicom=output_dir / "dicom",
            audit=output_dir / "audits/deid/deid_audit.jsonl",
            uid_dir=output_dir / "audits/uid",
            quarantine=output_dir / "quarantine",
            report=output_dir / "reports/deid.html",
        )


WITHDRAWALS_NAME = "withdrawals.json"
"""Beside the trainings of an experiment: who has withdrawn of those it learned from, as tombstones."""


@dataclass(frozen=True)
class Layout:
    """The data root and everything under it."""

    root: Path

    @property
    def key_record(self) -> Path:
        """The platform's record of its secret key (restricted): a one-way fingerprint, never the key."""
        return self.root / "audits/uid/key_record.json"

    # Arrival

    @property
    def inbox(self) -> Path:
        """Batches as they arrive (restricted)."""
        return self.root / "inbox"

    def inbox_batch(self, batch: str) -> Path:
        """One arriving batch."""
        return self.inbox / check_key(batch, "batch")

    @property
    def raw(self) -> Path:
        """Registered originals, never changed (restricted)."""
        return self.root / "raw/dicom_input"

    def raw_batch(self, batch: str) -> Path:
        """The originals of one batch, its marker with them."""
        return self.raw / check_key(batch, "batch")

    def superseded(self, batch: str, digest: str) -> Path:
        """The originals of a delivery that a corrected one replaced (restricted)."""
        return self.root / "raw/superseded" / check_key(batch, "batch") / check_key(digest, "digest")

    @property
    def deliveries(self) -> Path:
        """A line a registration or replacement; names and digests only."""
        return self.root / "audits/intake/deliveries.jsonl"

    # Keeping and forgetting

    @property
    def platform_record(self) -> Path:
        """What form the data root has: the number of its schema."""
        return self.root / "platform.json"

    @property
    def tombstones(self) -> Path:
        """A line a withdrawn person: keyed digests, no identity, no pseudonym."""
        return self.root / "audits/withdrawals/tombstones.jsonl"

    @property
    def withdrawal_under_way(self) -> Path:
        """Whom a withdrawal is about, as long as it is not finished (restricted)."""
        return self.root / "audits/uid/withdrawal.json"

    @property
    def withdrawals_due(self) -> Path:
        """Who withdrew after a backup was made that has been restored since: digests (restricted)."""
        return self.root / "audits/uid/withdrawals_due.json"

    @property
    def backups(self) -> Path:
        """A line a backup that was made: opaque name, time, how many had withdrawn."""
        return self.root / "audits/backups/backups.jsonl"

    @property
    def storage_state(self) -> Path:
        """What this machine and an object store had in common last; brought up to date when it publishes."""
        return self.root / ".storage"

    @property
    def retired(self) -> Path:
        """A line a batch whose originals or quarantine went by the set time."""
        return self.root / "audits/intake/retired.jsonl"

    # De-identification

    @property
    def released(self) -> Path:
        """The released instances of all batches; paths in the audits are relative to it."""
        return self.root / "deid/dicom_output"

    def deid_batch(self, batch: str) -> Path:
        """The released instances of one batch."""
        return self.released / check_key(batch, "batch")

    def deid_paths(self, batch: str) -> DeidPaths:
        """Where the de-identification of one batch writes."""
        return DeidPaths(
            dicom=self.deid_batch(batch),
            audit=self.root / "audits/deid" / batch / "deid_audit.jsonl",
            uid_dir=self.root / "audits/uid" / batch,
            quarantine=self.root / "quarantine" / batch,
            report=self.reports / "deid" / f"{batch}.html",
        )

    @property
    def uid_maps(self) -> Path:
        """The crosswalks, a folder a batch (restricted)."""
        return self.root / "audits/uid"

    @property
    def restricted(self) -> tuple[Path, ...]:
        """Folders of mode 0700: originals, what may not be released, and the crosswalk."""
        return (
            self.inbox,
            self.raw,
            self.root / "raw/superseded",
            self.root / "quarantine",
            self.uid_maps,
        )

    # Audits

    @property
    def metadata_audits(self) -> Path:
        """The header tables, a folder a batch."""
        return self.root / "audits/metadata"

    def metadata_audit(self, batch: str) -> Path:
        """The header table of one batch's released instances."""
        return self.metadata_audits / check_key(batch, "batch") / "metadata_audit.parquet"

    @property
    def ct_prepro_dir(self) -> Path:
        """`ct_prepro_audit.json` and the same facts as tables."""
        return self.root / "audits/ct_prepro"

    @property
    def ct_prepro_audit(self) -> Path:
        """The CT preprocessing audit over the whole cohort."""
        return self.ct_prepro_dir / "ct_prepro_audit.json"

    # Cohort

    @property
    def cohort(self) -> Path:
        """Tables of the cohort."""
        return self.root / "cohort"

    @property
    def labels(self) -> Path:
        """The clinic's labels, keyed by pseudonym."""
        return self.cohort / "labels.parquet"

    @property
    def label_report(self) -> Path:
        """What became of each row of the clinic's table (restricted: row numbers only, no values)."""
        return self.cohort / "label_report.parquet"

    @property
    def eligibility(self) -> Path:
        """A row a patient: conditions met and not met."""
        return self.cohort / "eligibility.parquet"

    @property
    def cohort_list(self) -> Path:
        """The eligible patients."""
        return self.cohort / "cohort_list.csv"

    @property
    def excluded(self) -> Path:
        """The excluded patients with their reasons."""
        return self.cohort / "excluded.csv"

    @property
    def splits(self) -> Path:
        """The split ledger."""
        return self.cohort / "splits.parquet"

    @property
    def splits_record(self) -> Path:
        """Digests of the ledger's rows, kept apart from it: rewriting the ledger is noticed."""
        return self.root / "audits/splits/splits_record.json"

    @property
    def case_numbers(self) -> Path:
        """The append-only table of case numbers."""
        return self.cohort / "case_numbers.parquet"

    @property
    def cohort_manifest(self) -> Path:
        """The cases that training may use."""
        return self.cohort / "cohort_manifest.parquet"

    # Volumes

    @property
    def nifti(self) -> Path:
        """The hard NIfTI cache."""
        return self.root / NIFTI_FOLDER

    @property
    def nifti_digests(self) -> Path:
        """What each case of the NIfTI cache was made from."""
        return self.nifti / "digests.parquet"

    @property
    def store(self) -> Path:
        """Resampled volumes by content (ephemeral)."""
        return self.root / "store"

    # Folds

    @property
    def folds(self) -> Path:
        """What each fold knows."""
        return self.root / "folds"

    def fold(self, fold: str) -> Path:
        """What one fold knows, from its training patients only."""
        return self.folds / check_key(fold, "fold")

    def plan(self, fold: str) -> Path:
        """The plan of one fold."""
        return self.fold(fold) / "plan.json"

    def fold_volumes(self, fold: str) -> Path:
        """The table of one fold's volumes in the store."""
        return self.fold(fold) / "volumes.parquet"

    @property
    def final_train(self) -> Path:
        """Hard data for the last training."""
        return self.root / "final/train"

    @property
    def final_test(self) -> Path:
        """Hard data for the one test."""
        return self.root / "final/test"

    def derived(self, name: str) -> Path:
        """A smaller set."""
        return self.root / "derived" / check_key(name, "derived set")

    # Learning

    def experiment(self, experiment: str) -> Path:
        """Everything trained under one experiment's name."""
        return self.root / "models" / check_key(experiment, "experiment")

    def fold_model(self, experiment: str, fold: str) -> Path:
        """One fold's training: checkpoints, state, predictions."""
        return self.experiment(experiment) / check_key(fold, "fold")

    def final_model(self, experiment: str) -> Path:
        """The bundle that `ct-assets predict` takes."""
        return self.experiment(experiment) / "final"

    # For people and for tools

    @property
    def neuro(self) -> Path:
        """The data set of head CT and MR with its token cache, unless the settings name another folder."""
        return self.root / "neuro"

    @property
    def longitudinal(self) -> Path:
        """Tables, registrations, crops and models of longitudinal nodules."""
        return self.root / "longitudinal"

    @property
    def brain(self) -> Path:
        """Brain CT classification: its data set, splits, trainings and final model."""
        return self.root / "brain"

    @property
    def serving(self) -> Path:
        """Requests of the HTTP API, their files and results (restricted)."""
        return self.root / "serving"

    @property
    def reports(self) -> Path:
        """Pages, pictures and their figures as JSON."""
        return self.root / "reports"

    @property
    def dagster_home(self) -> Path:
        """Dagster's storage."""
        return self.root / ".dagster"

    @property
    def mlflow(self) -> Path:
        """The embedded tracking store."""
        return self.root / "mlflow"

    def relative(self, path: Path) -> str:
        """Return `path` as tables store it: relative to the data root, with forward slashes."""
        return path.relative_to(self.root).as_posix()

    def make_restricted(self) -> None:
        """Make the restricted folders, closed to everyone but the owner, also where they exist already."""
        for folder in self.restricted:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(RESTRICTED_MODE)
