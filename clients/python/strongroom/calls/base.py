"""What every part of the client stands on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Generic, TypeVar
from uuid import uuid4

from google.protobuf.field_mask_pb2 import FieldMask

from strongroom.errors import StrongroomError
from strongroom.names import Names
from strongroom.transport import Endpoint, Stub

Item = TypeVar("Item")

MAX_PAGE_SIZE = 1000


class Part(Generic[Stub]):
    """One subject's calls, made to one gRPC service.

    Every call takes `timeout`, in seconds with retries included, in place of the client's own, and raises
    StrongroomError when it fails.
    """

    def __init__(self, service: Endpoint[Stub], names: Names) -> None:
        self._service = service
        self._names = names


def pages(fetch: Callable[[str, int], tuple[Iterable[Item], str]], limit: int | None) -> Iterator[Item]:
    """Every item of a list, page by page, as far as they are asked for.

    `fetch` gets a page token and a page size and answers the page and the next token; the first token is
    empty.
    """
    # One size for all pages: a page token is for a request that is otherwise the same.
    size = MAX_PAGE_SIZE if limit is None else min(limit, MAX_PAGE_SIZE)
    token, left = "", limit
    while left is None or left > 0:
        items, token = fetch(token, size)
        for item in islice(items, left):
            yield item
            if left is not None:
                left -= 1
        if not token:
            return


def mask_of(given: Mapping[str, object]) -> FieldMask:
    """The mask of an update that changes what is given: not None. Raises FIELD_REQUIRED for nothing, which the services
    would take for everything."""
    paths = [path for path, value in given.items() if value is not None]
    if not paths:
        raise StrongroomError(
            "FIELD_REQUIRED", f"nothing to change is given: one of {', '.join(given)}", field="update_mask"
        )
    return FieldMask(paths=paths)


def new_request_id() -> str:
    """An id that makes a create safe to repeat: the retries of one call carry the same."""
    return str(uuid4())
