"""Reason codes of requests to the HTTP API: (code, meaning, what the user can do)."""

REASONS: tuple[tuple[str, str, str], ...] = (
    (
        "upload_not_an_image",
        "A received file is neither DICOM nor NIfTI.",
        "Send DICOM instances or NIfTI images only; the others were used without it.",
    ),
    (
        "upload_damaged",
        "A received file is cut off or its header cannot be read.",
        "Send the file again; the others were used without it.",
    ),
    (
        "upload_duplicate",
        "The same bytes came twice in one request.",
        "Nothing: one copy was used.",
    ),
    (
        "upload_not_of_the_study",
        "An instance belongs to another study than the address names.",
        "Send it to the address of its own study.",
    ),
    (
        "model_withdrawn",
        "A person whose data the model learned from has withdrawn: it answers no more requests.",
        "Name another model, or train and promote one without that person.",
    ),
    (
        "model_missing",
        "The bundle of the model cannot be opened.",
        "Look at serving.models and at the log of the predictor; then send the request again.",
    ),
    (
        "request_failed",
        "The prediction ended with an error that it does not know.",
        "Send the request again; the request id finds the line of the log.",
    ),
)
