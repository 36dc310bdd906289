# syntax=docker/dockerfile:1
# nanonet-edge for a Raspberry Pi with a 64-bit system (3B+, 4, 5, Zero 2 W): LiteRT and ONNX Runtime.
#
#   docker build -f docker/raspberry-pi.Dockerfile -t nanonet-edge:raspberry-pi .      # on the Pi
#   docker buildx build --platform linux/arm64 -f docker/raspberry-pi.Dockerfile .     # elsewhere
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD/artifacts:/data/artifacts" \
#     nanonet-edge:raspberry-pi bench --device raspberry-pi
#
# The Pi's model and its throttle word are read from the kernel's files, which a container sees.

FROM python:3.12.11-slim-bookworm AS build
ARG TARGETARCH=arm64
WORKDIR /src
COPY docker/constraints.txt pyproject.toml README.md LICENSE ./
COPY nanonet_edge nanonet_edge
COPY export export
COPY runtimes runtimes
COPY benchmarks benchmarks
RUN test "$TARGETARCH" = arm64 || { echo "expected the platform linux/arm64, found $TARGETARCH" >&2; exit 1; }
RUN python -m venv /opt/nanonet-edge \
 && python -m pip wheel --no-cache-dir --no-deps --wheel-dir /dist . \
 && wheel="$(echo /dist/*.whl)" \
 && /opt/nanonet-edge/bin/python -m pip install --no-cache-dir --constraint constraints.txt \
    "${wheel}[litert,onnx]"

FROM python:3.12.11-slim-bookworm
COPY --from=build /opt/nanonet-edge /opt/nanonet-edge
RUN useradd --create-home --uid 1000 --user-group nanonet
USER 1000:1000
WORKDIR /data
ENV PATH=/opt/nanonet-edge/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["nanonet-edge"]
CMD ["--help"]
