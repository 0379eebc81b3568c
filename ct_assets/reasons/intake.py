"""Reason codes of arrival of batches: (code, meaning, what the user can do)."""

REASONS: tuple[tuple[str, str, str], ...] = (
    (
        "batch_without_marker",
        "A folder in the inbox has no marker yet.",
        "It is taken when unchanged for intake.settle_seconds; or bring it in with `ct-assets ingest`.",
    ),
    (
        "batch_name_refused",
        "A folder in the inbox has a name that may not become a batch's.",
        "Bring it in with `ct-assets ingest`, or name it with letters, digits, '_' and '-'.",
    ),
    (
        "marker_unreadable",
        "The marker is no list of path, bytes and sha256.",
        "Have the sender write it again, or remove it and let the folder settle.",
    ),
    (
        "marker_leaves_folder",
        "The marker lists a path outside its folder.",
        "Have the sender write it again with paths relative to the batch.",
    ),
    ("file_not_delivered", "The marker lists a file that is not there.", "Deliver the batch again."),
    ("file_not_listed", "A file is there that the marker does not list.", "Deliver the batch again."),
    ("file_altered", "A file is not the one whose digest the marker gives.", "Deliver the batch again."),
    (
        "association_aborted",
        "An association that sent a series over the network broke off: the series may be half.",
        "Have it sent again; or decide with `ct-assets receive --deliver` or `--discard`.",
    ),
    (
        "receiver_stopped",
        "The receiver ended while a series was being sent: the series may be half.",
        "Have it sent again; or decide with `ct-assets receive --deliver` or `--discard`.",
    ),
    (
        "object_not_stored",
        "An object could not be put on disk, and its sender was told to send it again (A700).",
        "Make room on the disk; the sender sends it again, by itself or by hand.",
    ),
    (
        "object_unreadable",
        "A received object tells no study or series; its sender was told so (C000).",
        "Look at the object where it came from.",
    ),
    (
        "object_not_as_announced",
        "A received object is of another SOP class or instance than its sender said (A900).",
        "Look at the object where it came from.",
    ),
    (
        "object_cut_off",
        "A received object ends inside an element: bytes are missing; its sender was told so (C000).",
        "Have it sent again; if it comes so again, export it again where it came from.",
    ),
    (
        "object_uid_invalid",
        "The SOP Instance UID of a sent object is missing, longer than 64 characters or no ASCII (0117).",
        "Export the object with a valid UID and send it again; or deliver it as a file.",
    ),
    (
        "object_class_not_supported",
        "A sent object is of no SOP class that is stored (0122).",
        "Send images and what belongs to them; or deliver the object as a file.",
    ),
    (
        "object_context_not_accepted",
        "An object was sent in a presentation context that was not accepted for storage (0122).",
        "Have the sender propose its class and transfer syntax when the association is made.",
    ),
)
