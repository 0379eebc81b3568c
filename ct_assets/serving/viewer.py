"""The viewer's routes: a page that shows an image in three planes with its masks, and the data behind it.

Belongs here: addresses and headers. Does not: which files an item has (`serving.viewable`), drawing (NiiVue in the
browser, `static/viewer.js`), who may look: `application` is mounted in the Dagster webserver, whose proxy asks for the
password, and in the API behind its check of roles. Addresses on the pages are relative, so it does not matter under
which prefix they are mounted.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from ct_assets.imaging.windows import WINDOWS
from ct_assets.layout import Layout
from ct_assets.serving import gallery, viewable
from ct_assets.serving.viewable import Collection, Item

STATIC = Path(__file__).parent / "static"
STATIC_FILES = {
    "niivue.js": ("niivue-0.69.0.umd.js", "text/javascript"),
    "viewer.js": ("viewer.js", "text/javascript"),
    "viewer.css": ("viewer.css", "text/css"),
    "LICENSE-niivue.txt": ("LICENSE-niivue.txt", "text/plain"),
}
WINDOW_NAMES = ("lung", "mediastinum", "bone", "brain")
NIFTI_TYPE = "application/gzip"
PRIVATE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
PAGE_HEADERS = {
    **PRIVATE,
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "connect-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
    ),
}
"""Only this server's scripts run, and they ask only this server."""


def collections(layout: Layout) -> dict[str, Collection]:
    """Return what the viewer shows of a platform, by the name in its addresses."""
    return {"cases": viewable.Cases(layout), "results": viewable.Results(layout.root / "serving/results")}


def application(layout: Layout, shown: Mapping[str, Collection] | None = None) -> Starlette:
    """Return the viewer as an application to be mounted; `shown` by default is `collections(layout)`."""
    served = collections(layout) if shown is None else shown

    def item_of(request: Request) -> Item:
        try:
            return served[request.path_params["collection"]].item(request.path_params["key"])
        except KeyError:
            raise HTTPException(404, "nothing to view under this address") from None

    def cases(request: Request) -> Response:
        from ct_assets.reports.page import template

        shown_cases = gallery.select(layout, request.query_params)
        return HTMLResponse(template("gallery.html").render(gallery=shown_cases), headers=PAGE_HEADERS)

    def thumbnail(request: Request) -> Response:
        path = viewable.inside(layout.reports / "cases", f"{item_of(request).key}_small.png")
        if not path.is_file():
            raise HTTPException(404, "no picture of this case")
        return FileResponse(path, media_type="image/png", headers=PRIVATE)

    def page(request: Request) -> Response:
        from ct_assets.reports.page import template

        item = item_of(request)
        return HTMLResponse(
            template("viewer.html").render(item=item, collection=request.path_params["collection"]),
            headers=PAGE_HEADERS,
        )

    def view(request: Request) -> Response:
        item = item_of(request)
        collection = served[request.path_params["collection"]]
        return JSONResponse(description(item, viewable.neighbours(collection, item.key)), headers=PRIVATE)

    def image(request: Request) -> Response:
        return _nifti(item_of(request).image)

    def mask(request: Request) -> Response:
        wanted = request.path_params["mask"]
        for one in item_of(request).masks:
            if one.key == wanted:
                return _nifti(one.path)
        raise HTTPException(404, "no such mask")

    def static(request: Request) -> Response:
        if request.path_params["name"] not in STATIC_FILES:
            raise HTTPException(404)
        name, kind = STATIC_FILES[request.path_params["name"]]
        return FileResponse(STATIC / name, media_type=kind, headers={"X-Content-Type-Options": "nosniff"})

    return Starlette(
        routes=[
            Route("/", cases),
            Route("/static/{name}", static),
            Route("/{collection}/{key}/small.png", thumbnail),
            Route("/{collection}/{key}", page),
            Route("/{collection}/{key}/view.json", view),
            Route("/{collection}/{key}/image.nii.gz", image),
            Route("/{collection}/{key}/masks/{mask}.nii.gz", mask),
        ]
    )


def description(item: Item, neighbours: tuple[str | None, str | None]) -> dict[str, Any]:
    """Return what the page's script needs of an item; addresses relative to the item's own."""
    found = [one for mask in item.masks for one in viewable.findings(mask)]
    return {
        "key": item.key,
        "title": item.title,
        "image": "image.nii.gz",
        "masks": [
            {
                "key": mask.key,
                "title": mask.title,
                "is_prediction": mask.is_prediction,
                "url": f"masks/{mask.key}.nii.gz",
                "volume_ml": round(sum(one.volume_ml for one in found if one.mask == mask.key), 3),
            }
            for mask in item.masks
        ],
        "findings": [
            {
                "mask": one.mask,
                "label": one.label,
                "center_ras_mm": one.center_ras_mm,
                "volume_ml": one.volume_ml,
            }
            for one in found
        ],
        "voxel_of_ras_mm": viewable.voxel_of_ras_mm(item.image),
        "windows": {name: [WINDOWS[name].lower_hu, WINDOWS[name].upper_hu] for name in WINDOW_NAMES},
        "previous": neighbours[0],
        "next": neighbours[1],
    }


def _nifti(path: Path) -> Response:
    if not path.name.endswith(viewable.NIFTI_SUFFIX) or not path.is_file():
        raise HTTPException(404, "the file is not there")
    return FileResponse(path, media_type=NIFTI_TYPE, headers=PRIVATE)
