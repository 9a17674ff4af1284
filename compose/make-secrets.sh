#!/bin/sh
# Make the secrets that compose.yaml reads, once: random, readable by the owner alone. Existing ones are kept.
set -eu
directory=${1:-"$(dirname "$0")/secrets"}
umask 077
mkdir -p "$directory"

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

for name in nats_token postgres_password redis_password control_token; do
    # Containers read them as another user than the one who made them.
    [ -s "$directory/$name" ] || { random >"$directory/$name"; chmod 444 "$directory/$name"; }
done
if [ ! -s "$directory/database_url" ]; then
    printf 'postgresql+psycopg://pipeline:%s@postgres:5432/pipeline' "$(cat "$directory/postgres_password")" >"$directory/database_url"
    chmod 444 "$directory/database_url"
fi
echo "secrets stand in $directory"
