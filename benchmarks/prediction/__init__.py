"""How long an artifact takes on a device that is not at hand: predicted, never measured.

`predict_artifact` and `predict_bundle` count what each operator costs, take the device's rates from
its profile and the efficiencies from a fit on published latencies (`fit`), and give a range with
the error that the fit has on figures it has not seen.
"""

from __future__ import annotations

from nanonet_edge.benchmarks.prediction.predict import predict_artifact, predict_bundle, result_of
from nanonet_edge.benchmarks.prediction.result import Prediction, PredictResult

__all__ = ["PredictResult", "Prediction", "predict_artifact", "predict_bundle", "result_of"]
