# The service without a database: HPO_STORAGE_URL must name one. A CUDA base image is not needed: torch's
# Linux wheels carry the CUDA libraries, and the host provides the driver.
FROM python:3.11-slim

# Workers on a CPU compile their training steps; without a compiler they are slower.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

# A new volume takes the owner of the folder it is mounted on, so the folders belong to the user.
ARG UID=1000
RUN useradd --create-home --uid "${UID}" hpo \
    && install --directory --owner=hpo --group=hpo /data /artifacts
ENV HPO_DATA_DIR=/data \
    HPO_ARTIFACTS=/artifacts

WORKDIR /source

# Gigabytes of dependencies get a layer of their own, so that a change of code leaves them in the cache.
COPY pyproject.toml constraints.txt ./
RUN touch README.md && pip install --no-cache-dir --constraint constraints.txt .

# `hpo/data` and `hpo/models` are links to these two folders: the build follows them.
COPY data ./data
COPY models ./models
COPY hpo ./hpo
RUN pip install --no-cache-dir --no-deps .

# A worker is `python -m hpo`, which imports from its folder first: run it outside the source.
WORKDIR /home/hpo
USER hpo
ENTRYPOINT ["hpo"]
CMD ["--help"]
