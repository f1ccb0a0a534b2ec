"""Beside schemathesis' own requests: a key of a request serves one update, so that no two have the same by chance."""

import uuid

import schemathesis
from schemathesis.generation import GenerationMode


@schemathesis.hook
def before_call(context, case, kwargs):
    meta = case.meta
    if case.headers and "Idempotency-Key" in case.headers and meta and meta.generation.mode == GenerationMode.POSITIVE:
        case.headers["Idempotency-Key"] = uuid.uuid4().hex
