"""POST /datasets, GET /datasets and below."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from nearfirst.contracts.datasets import Dataset, DatasetFormat, DatasetSource, ExampleRow, TaskSize
from nearfirst.contracts.problems import InvalidInput, invalid_input_from_validation
from nearfirst.registry import records
from nearfirst.web.dependencies import (
    Contained,
    DatabaseDep,
    ListOrder,
    Page,
    PageDep,
    ReadSession,
    SettingsDep,
    Start,
    StoreDep,
    encode_cursor,
)
from nearfirst_arrangement.datasets import rows, service

router = APIRouter(prefix="/datasets", tags=["datasets"])

_FORM_FIELDS = {"file", "format", "split", "name"}
_UPLOAD_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "additionalProperties": False,
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "format": {"type": "string", "enum": [f.value for f in DatasetFormat]},
        "split": {"type": "string"},
        "name": {"type": "string", "maxLength": 200},
    },
}
_SOURCE_SCHEMA = DatasetSource.model_json_schema()
# Inline: a reference inside this schema would be looked up in the whole document.
_SOURCE_SCHEMA["properties"]["format"]["anyOf"][0] = _SOURCE_SCHEMA.pop("$defs")["DatasetFormat"]
_REQUEST_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _UPLOAD_SCHEMA},
            "application/json": {"schema": _SOURCE_SCHEMA},
        },
    }
}


@router.post(
    "",
    status_code=201,
    response_model=Dataset,
    responses={200: {"model": Dataset, "description": "The same rows are registered under this name already"}},
    openapi_extra=_REQUEST_BODY,
)
async def register_dataset(
    request: Request, response: Response, settings: SettingsDep, database: DatabaseDep, store: StoreDep
) -> Dataset:
    """Register a file (multipart) or a source (JSON). 200 when the same rows have this name already."""
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        async with request.form(max_files=1, max_fields=len(_FORM_FIELDS)) as form:
            upload, source = _upload(dict(form))
            dataset, is_new = await run_in_threadpool(
                service.register_upload,
                upload.file,
                upload.filename or "upload",
                format=source.format,
                split=source.split,
                name=source.name,
                settings=settings,
                database=database,
                store=store,
            )
    else:
        source = _source(await request.body())
        dataset, is_new = await run_in_threadpool(
            service.register_source, source, settings=settings, database=database, store=store
        )
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/datasets/{dataset.id}"
    return dataset


def _upload(form: dict[str, Any]) -> tuple[UploadFile, DatasetSource]:
    upload = form.pop("file", None)
    if not isinstance(upload, UploadFile):
        raise InvalidInput("file: a multipart file is required")
    try:
        return upload, DatasetSource.model_validate({"source": upload.filename or "upload", **form})
    except ValidationError as error:
        raise invalid_input_from_validation(error, "form") from error


def _source(body: bytes) -> DatasetSource:
    try:
        return DatasetSource.model_validate_json(body)
    except ValidationError as error:
        raise invalid_input_from_validation(error, "body") from error


@router.get("")
def list_datasets(
    session: ReadSession, page: PageDep, text: Contained = None, order: ListOrder = "oldest"
) -> Page[Dataset]:
    """Datasets in the order of their registration."""
    items, following = records.list_datasets(session, page.after, page.limit, text=text, newest_first=order == "newest")
    return Page[Dataset](items=items, next_cursor=encode_cursor(following))


@router.get("/{dataset_id}")
def get_dataset(dataset_id: str, session: ReadSession) -> Dataset:
    """One dataset."""
    return records.get_dataset(session, dataset_id)


@router.get("/{dataset_id}/tasks")
def list_tasks(
    dataset_id: str, session: ReadSession, store: StoreDep, page: PageDep, text: Contained = None
) -> Page[TaskSize]:
    """The tasks of a dataset with their rows, the largest first; `?text=` keeps those whose name has it."""
    sizes = rows.task_sizes(session, records.get_dataset(session, dataset_id), store)
    found = sizes if text is None else [each for each in sizes if text.casefold() in each.task.casefold()]
    stop = page.after + page.limit
    return Page[TaskSize](
        items=found[page.after : stop], next_cursor=encode_cursor(stop if stop < len(found) else None)
    )


@router.get("/{dataset_id}/examples")
def list_examples(
    dataset_id: str,
    session: ReadSession,
    store: StoreDep,
    page: PageDep,
    task: Annotated[str | None, Query(max_length=1000, description="Only rows of this task.")] = None,
    start: Start = None,
) -> Page[ExampleRow]:
    """The rows of a dataset, in dataset order, from any row on."""
    dataset = records.get_dataset(session, dataset_id)
    items, following = rows.examples_page(dataset, store, page.first_row(start), page.limit, task)
    return Page[ExampleRow](items=items, next_cursor=encode_cursor(following))
