# nearfirst-generation-cuda: the generation server on vLLM's own CUDA image, and the generation worker.
#
#   docker build -f docker/generation-cuda.Dockerfile -t nearfirst-generation-cuda .
#
# vLLM's packages stay in its image; ours go to an environment that sees them, and its versions win over our pins.
# For a build that can be repeated, give the base by its digest: --build-arg VLLM_IMAGE=vllm/vllm-openai:v0.32.0@sha256:...
ARG VLLM_IMAGE=vllm/vllm-openai:v0.32.0

FROM ${VLLM_IMAGE} AS dependencies
WORKDIR /src
# The suite's own distributions lie beside the environment: a change of them leaves its layer, which is large, as it is.
RUN python3 -m venv --without-pip --system-site-packages /opt/venv \
 && echo /opt/nearfirst > "$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nearfirst.pth"
COPY constraints.txt ./
COPY docker/requirements.py docker/pins.py docker/
COPY shared/pyproject.toml shared/
COPY services/generation/pyproject.toml services/generation/
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip --python /opt/venv/bin/python freeze > installed.txt \
 && python3 docker/pins.py constraints.txt < installed.txt > pins.txt \
 && python3 docker/requirements.py 'shared[web,s3]' 'services/generation[server,transformers,worker]' > requirements.txt \
 && python3 -m pip --python /opt/venv/bin/python install --constraint pins.txt --requirement requirements.txt

FROM dependencies AS distributions
COPY shared shared
COPY services/generation services/generation
RUN --mount=type=cache,target=/root/.cache/pip \
    PIP_CONSTRAINT=constraints.txt python3 -m pip --python /opt/venv/bin/python install --no-deps --target /opt/nearfirst ./shared ./services/generation

FROM ${VLLM_IMAGE}
# tini is the first process: it passes signals on and reaps what others leave behind. The suite's user; the folders that
# volumes are mounted at, whose owner a new volume takes. vLLM compiles kernels when it starts, so the compiler of its image stays.
RUN apt-get update -qq \
 && apt-get install --yes --no-install-recommends -qq tini \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 nearfirst \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/nearfirst --no-create-home --shell /usr/sbin/nologin nearfirst \
 && install -d -o 10001 -g 10001 /var/lib/nearfirst /var/lib/nearfirst/tmp \
      /shared /shared/data /shared/hub /shared/models /shared/runs /shared/store
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=distributions /opt/nearfirst /opt/nearfirst
COPY --chmod=0755 docker/healthcheck.py /usr/local/bin/nearfirst-health
ENV PATH=/opt/nearfirst/bin:/opt/venv/bin:${PATH} \
    HOME=/var/lib/nearfirst \
    NEARFIRST_HOME=/var/lib/nearfirst \
    NEARFIRST_GENERATION_ENGINE=vllm \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/nearfirst
EXPOSE 8000
# Not /readyz: the server has no weights before the first POST /weights, which must be able to reach it.
HEALTHCHECK --interval=30s --timeout=15s --start-period=600s --retries=3 CMD ["nearfirst-health", "/healthz"]
ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "uvicorn", "nearfirst_generation.app:make_app", "--factory", "--host", "0.0.0.0", "--port", "8000", "--log-level", "warning"]
# The revision changes often, so what it is written on comes last.
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nearfirst-generation-cuda" \
      org.opencontainers.image.description="Nearfirst: generation server (vLLM) and worker" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
