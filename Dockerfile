# One image for every service: `vitalane ingest`, `flow`, `deliver`, `simulate`. Dependencies by the hashes of deploy/runtime.lock.
FROM python:3.12-slim AS build
WORKDIR /src
RUN python -m venv /opt/vitalane
COPY deploy/runtime.lock deploy/runtime.lock
RUN /opt/vitalane/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r deploy/runtime.lock
COPY . .
RUN /opt/vitalane/bin/pip install --no-cache-dir --disable-pip-version-check --no-index --no-deps --no-build-isolation . \
    && /opt/vitalane/bin/pip uninstall --yes --disable-pip-version-check setuptools pip

FROM python:3.12-slim
RUN groupadd --gid 10001 vitalane \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/vitalane --shell /usr/sbin/nologin vitalane \
    && install -d -o vitalane -g vitalane -m 0750 /var/lib/vitalane
COPY --from=build /opt/vitalane /opt/vitalane
ENV PATH=/opt/vitalane/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /var/lib/vitalane
ENTRYPOINT ["vitalane"]
CMD ["--help"]
