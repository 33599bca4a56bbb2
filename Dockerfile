# mettrail as a BIDS App, with the pinned packages of requirements.txt:
#     docker build -t mettrail .
#     docker run --rm -u $(id -u):$(id -g) -v DATASET:/data:ro -v RESULTS:/out mettrail /data /out participant
# With a GPU: docker run --gpus all …
FROM python:3.11-slim-bookworm

WORKDIR /opt/mettrail
COPY requirements.txt ./
# torch first and with what its own build needs, then the rest without resolving: see scripts/setup.sh.
RUN pip install --no-cache-dir -c requirements.txt torch==2.13.0 \
    && pip install --no-cache-dir --no-deps -r requirements.txt

COPY LICENSE README.md Snakefile pyproject.toml setup.py ./
COPY config config
COPY envs envs
COPY profiles profiles
COPY resources/atlas resources/atlas
COPY resources/models resources/models
COPY resources/references.bib resources/references.bib
COPY resources/weights.yaml resources/weights.yaml
COPY scripts scripts
COPY workflow workflow
RUN pip install --no-cache-dir --no-deps .

# Whoever runs it may have no home here; there is no git in this image, and none is needed.
ENV HOME=/tmp GIT_PYTHON_REFRESH=quiet PYTHONNOUSERSITE=1 METTRAIL_CONTAINER=docker
WORKDIR /tmp
ENTRYPOINT ["mettrail"]
