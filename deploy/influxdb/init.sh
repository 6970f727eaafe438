#!/bin/bash
# Runs once, when InfluxDB has made its organisation and bucket: Grafana reads by InfluxQL as a user who may read this bucket only.
set -euo pipefail

influx v1 dbrp create --org "$DOCKER_INFLUXDB_INIT_ORG" --bucket-id "$DOCKER_INFLUXDB_INIT_BUCKET_ID" --db "$DOCKER_INFLUXDB_INIT_BUCKET" --rp autogen --default
influx v1 auth create --org "$DOCKER_INFLUXDB_INIT_ORG" --read-bucket "$DOCKER_INFLUXDB_INIT_BUCKET_ID" --username grafana --password "$VITALANE_GRAFANA_INFLUXDB_PASSWORD"
