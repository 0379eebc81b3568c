"""The viewer in the API: the same application as in the Dagster UI, for callers with the role of a viewer.

Belongs here: the mount and its role. Does not: the viewer itself (`serving.viewer`).
"""

from fastapi import APIRouter
from starlette.routing import Mount

from ct_assets.serving import viewer
from ct_assets.serving.keys import Role
from ct_assets.serving.platform import Serving
from ct_assets.serving.roles import Guarded

router = APIRouter()


def mounts(serving: Serving) -> list[Mount]:
    """Return the mount of the viewer, behind the check of roles."""
    application = viewer.application(serving.settings.layout)
    return [Mount("/viewer", Guarded(application, Role.VIEWER), name="viewer")]
