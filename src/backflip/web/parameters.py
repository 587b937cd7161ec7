"""What a path and a query may hold: nothing that no row could be called or numbered."""

from typing import Annotated

from fastapi import HTTPException, Path, Query, Request

LARGEST = 2**63 - 1
"""What a database can hold of an integer."""
MAX_ID = 1000
Number = Annotated[int, Path(ge=1, le=LARGEST)]
"""The number of a row, in a path."""
Word = Annotated[str, Query(max_length=200)]
"""A name or a key in a query."""
Place = Annotated[str, Query(max_length=2000)]
"""An address in a query."""


def check_path(request: Request) -> None:
    """Refuse (404) a path with an id that none can be: too long, or with unseen characters."""
    for value in request.path_params.values():
        if isinstance(value, str) and not (len(value) <= MAX_ID and value.isprintable()):
            raise HTTPException(404, "There is nothing by that name.")
