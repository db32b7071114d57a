# The environment of requirements.lock with this checkout in it, for a machine without Python 3.11.
#   docker build -t hvp-patching .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" hvp-patching \
#     snakemake -s /opt/hvp-patching/Snakefile --cores 2 tables/table2.tex
# Results lie in the folder that is mounted as /work. Another index for torch's build (CPU alone, or
# another CUDA): --build-arg PIP_EXTRA_INDEX_URL=…
FROM python:3.11-slim-bookworm

RUN apt-get update \
    && apt-get install --no-install-recommends --yes git make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/hvp-patching
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1
COPY . .
RUN make install PYTHON=python3 \
    && git config --system --add safe.directory /opt/hvp-patching

# Any user may run it: homes and caches lie in the folder that is mounted.
ENV HOME=/work
WORKDIR /work
USER 1000:1000
CMD ["snakemake", "-s", "/opt/hvp-patching/Snakefile", "--cores", "all"]
