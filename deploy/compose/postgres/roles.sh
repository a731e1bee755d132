#!/bin/sh
# Once, when the database is made: the role that the gateway runs as. It owns nothing; what it may is
# given by `gateway db grant gateway`, after the owner has migrated.
set -eu
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\set password `cat /run/secrets/database_password`
CREATE ROLE gateway LOGIN PASSWORD :'password';
SQL
