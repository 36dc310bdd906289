# syntax=docker/dockerfile:1
# nanonet-edge for a CPU target (x86-64 or 64-bit Arm): LiteRT, ONNX Runtime and OpenVINO, no TensorFlow.
#
#   docker build -f docker/cpu.Dockerfile -t nanonet-edge:cpu .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD/artifacts:/data/artifacts" nanonet-edge:cpu bench

FROM python:3.12.11-slim-bookworm AS build
WORKDIR /src
COPY docker/constraints.txt pyproject.toml README.md LICENSE ./
COPY nanonet_edge nanonet_edge
COPY export export
COPY runtimes runtimes
COPY benchmarks benchmarks
RUN python -m venv /opt/nanonet-edge \
 && python -m pip wheel --no-cache-dir --no-deps --wheel-dir /dist . \
 && wheel="$(echo /dist/*.whl)" \
 && /opt/nanonet-edge/bin/python -m pip install --no-cache-dir --constraint constraints.txt \
    "${wheel}[litert,onnx,openvino]"

FROM python:3.12.11-slim-bookworm
COPY --from=build /opt/nanonet-edge /opt/nanonet-edge
RUN useradd --create-home --uid 1000 --user-group nanonet
USER 1000:1000
WORKDIR /data
ENV PATH=/opt/nanonet-edge/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["nanonet-edge"]
CMD ["--help"]
