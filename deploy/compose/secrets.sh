#!/bin/sh
# Makes the secrets of docker-compose.yml, each by chance, below deploy/compose/secrets/. What is
# there stays: run it again after an upgrade that brings one more. Keep the directory: without the
# pepper no API key works, and without its password nobody gets into the database.
set -eu
umask 077
cd "$(dirname "$0")"
mkdir -p secrets
cd secrets

hex() { # 32 bytes by chance, for URLs and headers
    head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'
}

key() { # 32 bytes by chance, as the gateway takes keys
    head -c 32 /dev/urandom | base64 | tr -d '\n'
}

keep() { # NAME VALUE
    [ ! -e "$1" ] || return 0
    printf '%s\n' "$2" > "$1.draft"
    # Containers read them as users of their own; on this machine the directory keeps others out.
    chmod 0444 "$1.draft"
    mv "$1.draft" "$1"
    echo "made $PWD/$1"
}

value() { # NAME: of a file that is there
    tr -d '\n' < "$1"
}

for name in key_pepper sealing_key audit_signing_key; do
    keep "$name" "$(key)"
done
for name in admin_token owner_password database_password redis_password grafana_password; do
    keep "$name" "$(hex)"
done
keep owner_database_url "postgresql://gateway_owner:$(value owner_password)@postgres:5432/gateway"
keep database_url "postgresql://gateway:$(value database_password)@postgres:5432/gateway"
keep redis_url "redis://:$(value redis_password)@redis:6379/0"
keep redis_conf "requirepass $(value redis_password)"
