"""When assets run by themselves: the conditions, named once, each with its reason.

Belongs here: automation conditions. Training is launched by a person and has none.
"""

import dagster as dg

_changed = dg.AutomationCondition.any_deps_match(
    dg.AutomationCondition.data_version_changed() | dg.AutomationCondition.will_be_requested()
).since_last_handled()

on_changed_inputs = (
    _changed
    & ~dg.AutomationCondition.in_progress()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & dg.AutomationCondition.all_deps_blocking_checks_passed()
).with_label("on_changed_inputs")
"""Run when the content of an input changed, once nothing upstream is under way.

- The *data version* must change: an identical re-run of an input causes nothing.
- Missing inputs do not block: one batch that was rejected must not hold up the cohort.
- A blocking check stops the run it belongs to only; without the last term the next tick would request
  what stands behind a failed safety check.
- It is handled once: a failure is not retried for ever, but again when an input changes.
"""
