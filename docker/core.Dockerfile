# nearfirst-core: the API, the migration, the arrangement worker and the command line.
#
#   docker build -f docker/core.Dockerfile -t nearfirst-core .
#
# For a build that can be repeated, give the base by its digest: --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS dependencies
ARG TORCH=torch==2.13.0+cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
# The suite's own distributions lie beside the environment: a change of them leaves its layer, which is large, as it is.
RUN python -m venv --without-pip /opt/venv \
 && echo /opt/nearfirst > "$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nearfirst.pth"
# torch goes in first and alone, see the Makefile.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --no-deps --retries 0 ${TORCH_INDEX:+--extra-index-url ${TORCH_INDEX}} ${TORCH}
COPY constraints.txt ./
COPY docker/requirements.py docker/
COPY shared/pyproject.toml shared/
COPY services/arrangement/pyproject.toml services/arrangement/
RUN --mount=type=cache,target=/root/.cache/pip \
    python docker/requirements.py 'shared[web,similarity,s3]' 'services/arrangement[worker]' > requirements.txt \
 && pip --python /opt/venv/bin/python install --constraint constraints.txt --requirement requirements.txt

FROM dependencies AS distributions
COPY shared shared
COPY services/arrangement services/arrangement
RUN --mount=type=cache,target=/root/.cache/pip \
    PIP_CONSTRAINT=constraints.txt pip --python /opt/venv/bin/python install --no-deps --target /opt/nearfirst ./shared ./services/arrangement

FROM ${PYTHON_IMAGE}
# tini is the first process: it passes signals on and reaps what others leave behind. The suite's user; the folders that
# volumes are mounted at, whose owner a new volume takes; no installer left, Debian's own neither.
RUN apt-get update -qq \
 && apt-get install --yes --no-install-recommends -qq tini \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 nearfirst \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/nearfirst --no-create-home --shell /usr/sbin/nologin nearfirst \
 && install -d -o 10001 -g 10001 /var/lib/nearfirst /var/lib/nearfirst/tmp \
      /shared /shared/data /shared/hub /shared/models /shared/runs /shared/store \
 && python -m pip uninstall --quiet --yes pip setuptools wheel \
 && rm -rf /usr/local/bin/pip* /usr/bin/pip* /usr/lib/python3/dist-packages/pip*
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=distributions /opt/nearfirst /opt/nearfirst
COPY --chmod=0755 docker/healthcheck.py /usr/local/bin/nearfirst-health
ENV PATH=/opt/nearfirst/bin:/opt/venv/bin:${PATH} \
    HOME=/var/lib/nearfirst \
    NEARFIRST_HOME=/var/lib/nearfirst \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/nearfirst
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=15s --start-period=120s --retries=3 CMD ["nearfirst-health"]
ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "uvicorn", "nearfirst_arrangement.app:make_app", "--factory", "--host", "0.0.0.0", "--port", "8000", "--log-level", "warning"]
# The revision changes often, so what it is written on comes last.
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nearfirst-core" \
      org.opencontainers.image.description="Nearfirst: API, migration, arrangement worker, command line" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
