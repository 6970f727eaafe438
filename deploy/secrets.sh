#!/bin/sh
# Writes .env from .env.example, with a fresh random secret wherever the example has none. Never overwrites: a secret in use stays.
set -eu
umask 077

example=${1:-$(dirname "$0")/../.env.example}
target=${2:-$(dirname "$0")/../.env}

if [ -e "$target" ]; then
    echo "$target is there already and stays as it is." >&2
    exit 0
fi
while IFS= read -r line || [ -n "$line" ]; do
    case $line in
        '#'* | '') printf '%s\n' "$line" ;;
        *=) printf '%s%s\n' "$line" "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" ;;
        *) printf '%s\n' "$line" ;;
    esac
done < "$example" > "$target"
echo "$target written; keep it to yourself." >&2
