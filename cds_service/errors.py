"""What the service answers when it cannot answer: every refusal, its status and its OperationOutcome.

    Refusal
    ├── BadRequest            400  the request is not what the hook defines
    ├── Unauthorised          401  one fixed text, whatever the cause
    ├── Forbidden             403
    ├── UnknownService        404
    ├── WrongMethod           405  with Allow
    ├── LengthRequired        411  no Content-Length (a chunked body)
    ├── CannotAnswer          412  nothing at all can be said
    ├── TooLarge              413
    ├── WrongMediaType        415
    ├── TooManyRequests       429
    ├── InternalFault         500  one fixed text
    └── Unavailable           503

No text here may quote the request: the names of fields, limits and cures only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus


@dataclass(frozen=True, slots=True)
class Issue:
    """One fault of a request: what is wrong and what to do, and the field as a path, where there is one."""

    diagnostics: str
    field: str | None = None


class Refusal(Exception):
    """Base of all refusals. ``issues`` go into the body, ``headers`` onto the answer."""

    status: HTTPStatus = HTTPStatus.INTERNAL_SERVER_ERROR
    code: str = "exception"
    """The OperationOutcome's issue type (http://hl7.org/fhir/issue-type)."""
    diagnostics: str = "The service failed. The fault is in its log under this answer's X-Request-Id."

    def __init__(
        self,
        issues: str | Sequence[Issue] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if issues is None:
            issues = self.diagnostics
        self.issues: tuple[Issue, ...] = (Issue(issues),) if isinstance(issues, str) else tuple(issues)
        self.headers: dict[str, str] = dict(headers or {})
        super().__init__("; ".join(issue.diagnostics for issue in self.issues))

    def outcome(self) -> dict[str, object]:
        """The body: a FHIR R4 OperationOutcome."""
        return operation_outcome(self.code, self.issues)


class BadRequest(Refusal):
    status = HTTPStatus.BAD_REQUEST
    code = "invalid"
    diagnostics = "The request is malformed."


class Unauthorised(Refusal):
    """Always without arguments: the caller learns nothing about which check failed."""

    status = HTTPStatus.UNAUTHORIZED
    code = "login"
    diagnostics = "The call needs a valid bearer token of a configured client."

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class Forbidden(Refusal):
    status = HTTPStatus.FORBIDDEN
    code = "forbidden"
    diagnostics = "This client may not use this service."


class UnknownService(Refusal):
    status = HTTPStatus.NOT_FOUND
    code = "not-found"
    diagnostics = "Nothing is here. GET /cds-services lists the services and their ids."


class WrongMethod(Refusal):
    status = HTTPStatus.METHOD_NOT_ALLOWED
    code = "not-supported"
    diagnostics = "This address does not take this method; the Allow header lists those it takes."


class LengthRequired(Refusal):
    status = HTTPStatus.LENGTH_REQUIRED
    code = "required"
    diagnostics = "The request has no Content-Length; send one, and do not send the body in chunks."


class CannotAnswer(Refusal):
    """CDS Hooks 2.0, HTTP status codes: the FHIR data that the service requires cannot be had."""

    status = HTTPStatus.PRECONDITION_FAILED
    code = "processing"
    diagnostics = "Data that the service cannot do without could not be had."


class TooLarge(Refusal):
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "too-long"
    diagnostics = "The body is too large."


class WrongMediaType(Refusal):
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    code = "not-supported"
    diagnostics = "The body must be JSON: send Content-Type: application/json."


class TooManyRequests(Refusal):
    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "throttled"
    diagnostics = "Too many calls; wait as long as the Retry-After header says."


class InternalFault(Refusal):
    pass


class Unavailable(Refusal):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "transient"
    diagnostics = "The service cannot answer at the moment; try again."


def operation_outcome(code: str, issues: Sequence[Issue]) -> dict[str, object]:
    """A FHIR R4 OperationOutcome of severity error; ``expression`` names the field."""
    return {
        "resourceType": "OperationOutcome",
        "issue": [
            {"severity": "error", "code": code, "diagnostics": issue.diagnostics}
            | ({"expression": [issue.field]} if issue.field else {})
            for issue in issues
        ],
    }
