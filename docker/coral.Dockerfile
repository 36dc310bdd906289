# syntax=docker/dockerfile:1
# nanonet-edge for a Coral USB Accelerator on x86-64 or 64-bit Arm: LiteRT and the Edge TPU's delegate.
#
# The delegate is not on any package index. Name a Debian package of libedgetpu1-std for your machine and
# its digest; the builds of github.com/feranick/libedgetpu are reported to work with today's LiteRT,
# Google's own 16.0 to crash.
#
#   docker build -f docker/coral.Dockerfile -t nanonet-edge:coral \
#     --build-arg LIBEDGETPU_URL=https://...deb --build-arg LIBEDGETPU_SHA256=... .
#   docker run --rm --device /dev/bus/usb --group-add "$(stat -c %g /dev/bus/usb/001/001)" \
#     -v "$PWD/artifacts:/data/artifacts" nanonet-edge:coral bench --device coral-usb

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
    "${wheel}[litert]"
ARG LIBEDGETPU_URL
ARG LIBEDGETPU_SHA256
RUN test -n "$LIBEDGETPU_URL" && test -n "$LIBEDGETPU_SHA256" \
 || { echo "expected the build arguments LIBEDGETPU_URL and LIBEDGETPU_SHA256" >&2; exit 1; }
RUN python -c "import sys, urllib.request; urllib.request.urlretrieve(*sys.argv[1:])" \
    "$LIBEDGETPU_URL" /tmp/libedgetpu.deb \
 && echo "$LIBEDGETPU_SHA256  /tmp/libedgetpu.deb" > /tmp/libedgetpu.sha256 \
 && sha256sum --check /tmp/libedgetpu.sha256 \
 && dpkg-deb --extract /tmp/libedgetpu.deb /opt/edgetpu \
 && mkdir /opt/edgetpu-lib \
 && find /opt/edgetpu -name 'libedgetpu.so.1*' -exec cp --no-dereference {} /opt/edgetpu-lib/ \;

FROM python:3.12.11-slim-bookworm
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libusb-1.0-0=2:1.0.26-1 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/nanonet-edge /opt/nanonet-edge
COPY --from=build /opt/edgetpu-lib/ /usr/local/lib/
RUN ldconfig && useradd --create-home --uid 1000 --user-group nanonet
USER 1000:1000
WORKDIR /data
ENV PATH=/opt/nanonet-edge/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["nanonet-edge"]
CMD ["--help"]
