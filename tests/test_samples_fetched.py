"""All prefetch withheld, the same data on a FHIR server: every sample gets the answer that it gets with prefetch."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import Json, client, comparable, outcome
from fault_servers import Server
from test_supply import fhir

from cds_service.json_reader import read_json, write_json
from cds_service.replay import find_cases
from cds_service.services import SERVICES
from fhir_mappings.prefetch import keys

SAMPLES = Path(__file__).parent.parent / "samples"
NAMES = sorted(case.name for case in find_cases([SAMPLES]))
WHOLE = {key.name for key in keys()}


def request_of(name: str) -> Json:
    loaded = read_json((SAMPLES / name / "request.json").read_bytes())
    assert isinstance(loaded, dict)
    return loaded


def answered(request: Json) -> Json:
    service = next(s for s in SERVICES.values() if s.hook == request["hook"])
    response = client().post(
        f"/cds-services/{service.id}", data=write_json(request), content_type="application/json"
    )
    assert response.status_code == 200, response.get_data()
    body = read_json(response.data)
    assert isinstance(body, dict)
    return body


@pytest.mark.parametrize(
    "name",
    [
        name if index % 8 == 0 else pytest.param(name, marks=pytest.mark.slow)
        for index, name in enumerate(NAMES)
    ],
)
def test_a_sample_without_prefetch_gets_the_same_answer(name: str) -> None:
    request = request_of(name)
    data = request["prefetch"]
    if lacking := WHOLE - set(data):
        # What a sample leaves out is what its server refuses; the reason told is "failed" then.
        assert lacking == {"growth"}, name
        request["prefetch"] = data | {key: outcome() for key in lacking}
    usual = comparable(answered(request)["cards"])
    del request["prefetch"]
    with Server(fhir(data, request["context"]["patientId"])) as server:
        fetched = comparable(answered(request | {"fhirServer": server.base})["cards"])
    assert fetched == usual
