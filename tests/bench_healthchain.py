"""A peer for the benchmark: HealthChain with handlers that return one card. Runs in an environment of its own.

``.bench/healthchain/bin/python tests/bench_healthchain.py PORT``
"""

import sys

import uvicorn
from healthchain.gateway import CDSHooksService, HealthChainAPI
from healthchain.models import Card, CDSResponse

CARD = Card(
    summary="A fixed card",
    indicator="info",
    detail="What a service says that looks at nothing.",
    source={"label": "Benchmark"},
)

app = HealthChainAPI()
hooks = CDSHooksService()


@hooks.hook("order-select", id="jaki-order-select")
def order_select(request):
    return CDSResponse(cards=[CARD])


@hooks.hook("patient-view", id="jaki-patient-view")
def patient_view(request):
    return CDSResponse(cards=[CARD])


app.register_service(hooks)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="error")
