#!/bin/sh
# Starts Mosquitto with its users from the environment: VITALANE_<USER>_PASSWORD for ingest, deliver, simulator and display, and whatever
# stands in VITALANE_DEVICE_PASSWORDS as `device:password` pairs between spaces. A user without a password does not exist.
#
# TLS: put ca.crt, server.crt and server.key into deploy/mosquitto/certs and publish port 8883 in docker-compose.yml; the listener is there
# as soon as they are. With VITALANE_MQTT_CLIENT_CERTIFICATES=required it takes only clients whose certificate ca.crt has signed.
set -eu
umask 077

here=${VITALANE_MOSQUITTO_CONFIG:-/etc/vitalane}
run=${VITALANE_MOSQUITTO_RUN:-/mosquitto/run}
data=${VITALANE_MOSQUITTO_DATA:-/mosquitto/data}
certs=${VITALANE_MOSQUITTO_CERTS:-/etc/vitalane/certs}
address=${VITALANE_MQTT_ADDRESS:-}
port=${VITALANE_MQTT_PORT:-1883}
tls_port=${VITALANE_MQTT_TLS_PORT:-8883}

passwords=$run/passwords
rm -f "$passwords"
touch "$passwords"

add_user() {
    [ -z "$2" ] || mosquitto_passwd -b "$passwords" "$1" "$2"
}

add_user ingest "${VITALANE_INGEST_PASSWORD:-}"
add_user deliver "${VITALANE_DELIVER_PASSWORD:-}"
add_user simulator "${VITALANE_SIMULATOR_PASSWORD:-}"
add_user display "${VITALANE_DISPLAY_PASSWORD:-}"
for pair in ${VITALANE_DEVICE_PASSWORDS:-}; do
    add_user "${pair%%:*}" "${pair#*:}"
done
od -An -N16 -tx1 /dev/urandom | tr -d ' \n' > "$run/health"
add_user health "$(cat "$run/health")"

cp "$here/acl" "$run/acl"
{
    cat "$here/mosquitto.conf"
    echo "persistence_location $data/"
    echo "password_file $passwords"
    echo "acl_file $run/acl"
    echo "listener $port $address"
    if [ -f "$certs/server.crt" ]; then
        echo "listener $tls_port $address"
        echo "cafile $certs/ca.crt"
        echo "certfile $certs/server.crt"
        echo "keyfile $certs/server.key"
        echo "tls_version tlsv1.2"
        if [ "${VITALANE_MQTT_CLIENT_CERTIFICATES:-}" = required ]; then
            echo "require_certificate true"
        fi
    fi
    if [ "$(id -u)" = 0 ]; then
        echo "user root" # never so in the container, which runs as 1883
    fi
} > "$run/mosquitto.conf"

exec mosquitto -c "$run/mosquitto.conf"
