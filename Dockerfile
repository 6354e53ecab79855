# A server for packages of compiled models, made of this checkout; mount a repository at /models.
# `foretell image` makes one with models and exact versions in it (docs/image.md).
# Any base does that has Python 3.11 or newer with venv and pip in it, wherever they lie.
ARG BASE_IMAGE=python:3.12-slim

FROM ${BASE_IMAGE} AS build
# What else the packages need, as in EXTRAS=sklearn,columnar.
ARG EXTRAS=
WORKDIR /build
# pip is needed here only: the environment that goes into the image has none.
RUN python3 -m venv tools && python3 -m venv --without-pip /opt/foretell
COPY LICENSE README.md pyproject.toml ./
COPY src src
RUN tools/bin/pip wheel --no-cache-dir --no-deps --wheel-dir wheels . \
    && tools/bin/pip --python /opt/foretell/bin/python install --no-cache-dir \
      --only-binary=:all: "$(echo ./wheels/*.whl)${EXTRAS:+[${EXTRAS}]}"
RUN tools/bin/pip install --no-cache-dir cyclonedx-bom==7.5.0 \
    && tools/bin/cyclonedx-py environment --output-reproducible \
      --output-file /opt/foretell/sbom.cdx.json /opt/foretell/bin/python

FROM ${BASE_IMAGE}
ARG BASE_IMAGE
LABEL org.opencontainers.image.base.name="${BASE_IMAGE}"
LABEL org.opencontainers.image.title="foretell"
# ONNX Runtime would otherwise send telemetry to its maker.
ENV PATH=/opt/foretell/bin:$PATH \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    FORETELL_BIND=0.0.0.0:8000,0.0.0.0:50051
COPY --from=build /opt/foretell /opt/foretell
# foretell.toml is read here, if one is mounted.
WORKDIR /app
USER 10001:10001
EXPOSE 8000 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["/opt/foretell/bin/python", "-ISc", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=3); c.request('GET', '/health/ready'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["foretell"]
CMD ["serve", "/models"]
