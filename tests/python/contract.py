"""Beside schemathesis' own requests: each comes with the token that its method takes, and a key of a request serves one update, so that
no two have the same by chance."""

import os
import uuid

import schemathesis
from schemathesis.generation import GenerationMode


@schemathesis.auth()
class Tokens:
    def get(self, case, context):
        return os.environ["PUBLISH_TOKEN" if case.method == "POST" else "READ_TOKEN"]

    def set(self, case, data, context):
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {self.get(case, context)}"}


@schemathesis.hook
def before_call(context, case, kwargs):
    meta = case.meta
    if case.headers and "Idempotency-Key" in case.headers and meta and meta.generation.mode == GenerationMode.POSITIVE:
        case.headers["Idempotency-Key"] = uuid.uuid4().hex
