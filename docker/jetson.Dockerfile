# syntax=docker/dockerfile:1
# nanonet-edge for a Jetson with JetPack 6: TensorRT through trtexec, LiteRT, ONNX Runtime. Build it on
# the Jetson, for the JetPack that is on it (6.2 runs containers of 6.1); JetPack 5 and older bring Python
# 3.8, which is too old.
#
#   docker build -f docker/jetson.Dockerfile --build-arg JETPACK=6.1 -t nanonet-edge:jetson .
#   docker run --rm --runtime nvidia --group-add video -v "$PWD/artifacts:/data/artifacts" \
#     nanonet-edge:jetson bench --device jetson
#
# ONNX Runtime of the public index has no GPU on aarch64. NVIDIA's index for your JetPack has one that does:
#     --build-arg ONNXRUNTIME=onnxruntime-gpu==VERSION --build-arg PIP_EXTRA_INDEX_URL=THAT_INDEX
#
# Mount a volume at /data/cache to keep the engines that TensorRT builds.

ARG JETPACK=6.1

FROM python:3.10.18-slim-bookworm AS build
ARG ONNXRUNTIME=onnxruntime==1.23.2
ARG PIP_EXTRA_INDEX_URL=
WORKDIR /src
COPY docker/constraints.txt pyproject.toml README.md LICENSE ./
COPY nanonet_edge nanonet_edge
COPY export export
COPY runtimes runtimes
COPY benchmarks benchmarks
# Into a folder for the JetPack's own Python, which is of the same version.
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /dist . \
 && wheel="$(echo /dist/*.whl)" \
 && python -m pip install --no-cache-dir --constraint constraints.txt --target /opt/nanonet-edge \
    "${wheel}[litert]" "$ONNXRUNTIME"

FROM nvcr.io/nvidia/l4t-jetpack:r36.3.0 AS jetpack-6.0
FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0 AS jetpack-6.1

# hadolint ignore=DL3006
FROM jetpack-${JETPACK}
COPY --from=build /opt/nanonet-edge /opt/nanonet-edge
RUN python3 -c "import sys; sys.exit(sys.version_info[:2] != (3, 10) and f'expected Python 3.10, found {sys.version}')" \
 && test -x /usr/src/tensorrt/bin/trtexec \
 && useradd --create-home --uid 1000 --user-group nanonet \
 && mkdir --parents /data/cache \
 && chown 1000:1000 /data/cache
USER 1000:1000
WORKDIR /data
ENV PYTHONPATH=/opt/nanonet-edge \
    PYTHONDONTWRITEBYTECODE=1 \
    NANONET_EDGE_CACHE=/data/cache
ENTRYPOINT ["python3", "-m", "nanonet_edge"]
CMD ["--help"]
