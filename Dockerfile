# The image of every service in compose.yaml: Prefect server, MLflow server and worker.
FROM python:3.11-slim-bookworm

# Git names the commit of a run; DVC needs it too.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/stockpot
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY stockpot stockpot
COPY tasks tasks
COPY flows flows
RUN pip install --no-cache-dir --constraint constraints.txt '.[text,s3,postgres]'

# The project is mounted at /project; its files belong to this user.
ARG UID=1000
RUN useradd --uid "$UID" --create-home cook \
    && install --directory --owner cook /project /mlartifacts /prefect
USER cook
WORKDIR /project
CMD ["stockpot", "--help"]
