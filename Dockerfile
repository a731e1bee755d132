# The gateway; and, as the target `embedded-worker`, the small model that stands in for a worker.
#
#     docker build --pull -t qwythos-gateway:0.1.0 .
#
# The base is pinned by its tag, and brings its security fixes to each build with --pull. Where two
# builds have to be the same, name its digest: --build-arg BASE=python:3.13-slim-trixie@sha256:...
# A package index of your own: --build-arg PIP_INDEX_URL=https://... or, where it takes a password,
# --secret id=pip,src=pip.conf. Neither is kept in the image. docs/docker.md has the rest.
ARG BASE=python:3.13-slim-trixie

# -- what is installed: from wheels whose hashes are known, without pip in the result
FROM ${BASE} AS build
ARG PIP_INDEX_URL
ENV TOOLS=/opt/tools VENV=/opt/gateway EMPTY=/opt/empty
WORKDIR /build
RUN python3 -m venv $TOOLS && python3 -m venv --without-pip $VENV && mkdir -m 0750 $EMPTY
COPY requirements/build.lock requirements/image.lock requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    $TOOLS/bin/python -m pip install --no-cache-dir --no-deps --require-hashes \
        --only-binary :all: -r requirements/build.lock && \
    $TOOLS/bin/python -m pip --python $VENV/bin/python install --no-cache-dir --no-compile \
        --no-deps --require-hashes --only-binary :all: -r requirements/image.lock
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY migrations migrations
RUN $TOOLS/bin/python -m pip wheel --no-index --no-deps --no-build-isolation -w dist . && \
    $TOOLS/bin/python -m pip --python $VENV/bin/python install --no-index --no-compile --no-deps \
        dist/*.whl
COPY deploy/image/prune.py ./
# Compiled here: the file system is read-only later. By content, so that no time stamp matters.
RUN $TOOLS/bin/python prune.py $VENV && \
    $VENV/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash $VENV/lib

FROM build AS build-embedded-worker
COPY requirements/embedded-worker.lock requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    $TOOLS/bin/python -m pip --python $VENV/bin/python install --no-cache-dir --no-compile \
        --no-deps --require-hashes --only-binary :all: -r requirements/embedded-worker.lock
# llama.cpp's wheel takes it from the system, and slim ones have none.
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && \
    cp -L /usr/lib/*/libgomp.so.1 $VENV/lib/

# -- what runs: the base, one directory, no step that needs a shell
FROM ${BASE} AS runtime
# A user without a name, a home or a password. Its numbers are what a volume has to belong to.
COPY --from=build --chown=10001:10001 /opt/empty /var/lib/gateway
ENV PATH=/opt/gateway/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/var/lib/gateway \
    GATEWAY_HOME=/var/lib/gateway \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /var/lib/gateway
# The spool of the audit log, which has to outlive the container.
VOLUME /var/lib/gateway
USER 10001:10001
# Running streams are finished, for as long as GATEWAY_DRAIN_SECONDS says.
STOPSIGNAL SIGTERM
ENTRYPOINT ["gateway"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.vendor="Qwythos Gateway" \
      org.opencontainers.image.licenses="Apache-2.0"

FROM runtime AS embedded-worker
LABEL org.opencontainers.image.title="qwythos-embedded-worker" \
      org.opencontainers.image.description="SmolLM2-135M on llama.cpp, in the place of a Qwythos worker."
COPY --from=build-embedded-worker /opt/gateway /opt/gateway
COPY --from=build-embedded-worker /opt/gateway/lib/libgomp.so.1 /usr/lib/
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-m", "app.health", "http://127.0.0.1:8000/health"]
CMD ["embedded-worker", "--host", "0.0.0.0"]

# The last target is what a build without --target makes.
FROM runtime AS gateway
LABEL org.opencontainers.image.title="qwythos-gateway" \
      org.opencontainers.image.description="OpenAI-compatible gateway for Qwythos-9B: keys, redacted reasoning, audit, and a pool of vLLM workers."
COPY --from=build /opt/gateway /opt/gateway
EXPOSE 8080
# Alive, not ready: an orchestrator that restarts what is unhealthy must not do so because a worker
# or the database is away. A check of another port is given its URL.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-I", "-m", "app.health"]
CMD ["serve", "--host", "0.0.0.0"]
