"""Schemas of de-identification: dispositions and the crosswalk; a line a column, units in names."""

import dataframely as dy

DISPOSITIONS = ("released", "quarantined", "rejected")


class Files(dy.Schema):
    """A row a file of the batch: nothing is lost (restricted)."""

    path = dy.String(primary_key=True)  # relative to the batch, forward slashes
    sha256 = dy.String(nullable=True)  # of the file as it came; null where it cannot be read
    disposition = dy.Enum(DISPOSITIONS)
    reasons = dy.List(dy.String())  # codes of `ct_assets.reasons.deid`; empty where released
    new_sop_instance_uid = dy.String(nullable=True)  # of the released instance; null where none


class PatientMap(dy.Schema):
    """A row a spelling of a patient's identity: the crosswalk of persons (restricted)."""

    old_patient_id = dy.String(primary_key=True)  # PatientID (0010,0020), padding removed
    issuer = dy.String(primary_key=True)  # IssuerOfPatientID (0010,0021), padding removed; empty where none
    new_patient_id = dy.String()  # the pseudonym
    shift_days = dy.Int32()  # added to every date; 0 only where dates are not shifted


class UidMap(dy.Schema):
    """A row a distinct old UID: the crosswalk of UIDs as a graph (restricted)."""

    old_uid = dy.String(primary_key=True)
    new_uid = dy.String()
    uid_type = (
        dy.String()
    )  # study, series, instance, frame_of_reference, ... (`ct_assets.deid.batch.uid_graph`)
    parent_new_uid = dy.String(nullable=True)  # instance: its series; series: its study; null where unknown
    seen_as = dy.Enum(("instance", "reference"))  # instance: an object with this UID was in the batch
