"""A data root in an object store: a working copy on this machine, brought into line with the store.

Everything else works on local files. `tree` tells which files of a working copy belong to the store, `store`
moves objects and generations with retries, `generations` is what a generation says, `copy` brings the
working copy up to date and publishes what changed, `needs` tells which part of the data root a step reads,
`session` is where commands and steps are hooked in. See docs/operate_storage.md.
"""
