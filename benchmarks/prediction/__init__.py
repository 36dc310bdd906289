"""How long an artifact takes on a device that is not at hand: predicted, never measured.

`predict_artifact` and `predict_bundle` count what each operator costs, take the device's rates from
its profile and the efficiencies from a fit on published latencies (`fit`), and give a range with
the error that the fit has on figures it has not seen.
"""

from __future__ import annotations

from nanonet_edge.benchmarks.prediction.check import CheckResult, check_bundle
from nanonet_edge.benchmarks.prediction.host import calibrated_profile, is_host
from nanonet_edge.benchmarks.prediction.instructions import load_counts
from nanonet_edge.benchmarks.prediction.predict import predict_artifact, predict_bundle, result_of
from nanonet_edge.benchmarks.prediction.result import Prediction, PredictResult

__all__ = [
    "CheckResult",
    "PredictResult",
    "Prediction",
    "calibrated_profile",
    "check_bundle",
    "is_host",
    "load_counts",
    "predict_artifact",
    "predict_bundle",
    "result_of",
]
