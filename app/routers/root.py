"""What stands outside the base path: the banner, the metrics, and the page on the API."""

from pathlib import Path
from typing import Final

import fastapi_offline
from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, JSONResponse, Response

from app import __version__
from app.dependencies import SettingsDep
from app.metrics import CONTENT_TYPE, Metrics
from app.routers import BASE_PATH
from app.routers.health import SERVICE_NAME

DOCS_PATH: Final = "/docs"
DOCS_FILES_PATH: Final = "/static-offline-docs"
DOCS_FILES: Final = Path(fastapi_offline.__file__).parent / "static"
"""Swagger UI's scripts and styles, to be served at ``DOCS_FILES_PATH``."""

router = APIRouter(include_in_schema=False)
docs_router = APIRouter(include_in_schema=False)


@router.head("/")
@router.get("/")
async def banner(settings: SettingsDep) -> Response:
    return JSONResponse(
        {
            "service": SERVICE_NAME,
            "version": __version__,
            "docs": DOCS_PATH if settings.serves_docs else None,
            "health": f"{BASE_PATH}/health/",
        }
    )


@router.get("/metrics")
async def exposition(request: Request) -> Response:
    metrics: Metrics = request.app.state.metrics
    return Response(metrics.render(), media_type=CONTENT_TYPE)


@docs_router.get(DOCS_PATH)
async def docs_page(request: Request) -> HTMLResponse:
    """Swagger UI with its files from here: it is read without the internet too."""
    root = request.scope.get("root_path", "")
    files = f"{root}{DOCS_FILES_PATH}"
    return get_swagger_ui_html(
        openapi_url=f"{root}{request.app.openapi_url}",
        title=f"{request.app.title} - Swagger UI",
        swagger_js_url=f"{files}/swagger-ui-bundle.js",
        swagger_css_url=f"{files}/swagger-ui.css",
        swagger_favicon_url=f"{files}/favicon.png",
    )
