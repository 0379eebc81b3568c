"""Intake over the DICOM network: a storage SCP whose studies end as batches in the inbox.

`objects` reads who an arriving object is, `spool` keeps objects on disk until their study is whole,
`settling` turns whole studies into batches, `transport` reads the network in large pieces, `receiver` is the
service itself. What arrives is written as it was sent, never decoded; names on disk are digests.
"""
