# The service without a database: HPO_STORAGE_URL leads to one. It needs no CUDA base image: torch's Linux
# wheels carry the CUDA libraries, and the host lends the driver.
FROM python:3.11-slim

# Workers on a CPU compile what they compute; without a compiler they are slower.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

# Folders that belong to the user hand their owner on to volumes that are mounted there.
ARG UID=1000
RUN useradd --create-home --uid "${UID}" hpo \
    && install --directory --owner=hpo --group=hpo /data /artifacts
ENV HPO_DATA_DIR=/data \
    HPO_ARTIFACTS=/artifacts

WORKDIR /source

# Gigabytes of dependencies make a layer of their own, which a change of code leaves in the cache.
COPY pyproject.toml ./
RUN touch README.md && pip install --no-cache-dir .

COPY data ./data
COPY models ./models
COPY hpo ./hpo
RUN pip install --no-cache-dir --no-deps .

# Away from the source: a worker is `python -m hpo`, which would import what lies in its folder.
WORKDIR /home/hpo
USER hpo
ENTRYPOINT ["hpo"]
CMD ["--help"]
