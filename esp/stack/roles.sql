-- The roles and the database of Mailwright, for psql 15 or newer. Running it again is harmless.
--
-- Passwords come from the environment, so that none is ever seen in a process list:
--   MAILWRIGHT_OWNER_PASSWORD   owns the tables and migrates
--   MAILWRIGHT_APP_PASSWORD     web and API; row-level security holds it
--   MAILWRIGHT_WORKER_PASSWORD  workers, which act for every tenant; row-level security does not
--   MAILWRIGHT_DATABASE         the database's name
-- Run it as a superuser: psql "postgresql://postgres@db/postgres" -f roles.sql
\set ON_ERROR_STOP on
\set QUIET on
\getenv owner_password MAILWRIGHT_OWNER_PASSWORD
\getenv app_password MAILWRIGHT_APP_PASSWORD
\getenv worker_password MAILWRIGHT_WORKER_PASSWORD
\getenv database MAILWRIGHT_DATABASE

SET client_min_messages = warning;

SELECT format('CREATE ROLE %I', name)
FROM unnest(ARRAY['mailwright_owner', 'mailwright_app', 'mailwright_worker']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

ALTER ROLE mailwright_owner WITH LOGIN NOSUPERUSER NOCREATEROLE NOREPLICATION NOBYPASSRLS
  PASSWORD :'owner_password';
ALTER ROLE mailwright_app WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
  PASSWORD :'app_password';
ALTER ROLE mailwright_worker WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION BYPASSRLS
  PASSWORD :'worker_password';

SELECT format('CREATE DATABASE %I OWNER mailwright_owner', :'database')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec

\connect :"database"
SET client_min_messages = warning;

GRANT CONNECT, TEMPORARY ON DATABASE :"database" TO mailwright_app, mailwright_worker;
GRANT CONNECT, TEMPORARY, CREATE ON DATABASE :"database" TO mailwright_owner;
GRANT USAGE, CREATE ON SCHEMA public TO mailwright_owner;
GRANT USAGE ON SCHEMA public TO mailwright_app, mailwright_worker;

CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE EXTENSION IF NOT EXISTS btree_gin;
CREATE EXTENSION IF NOT EXISTS citext;

-- Whatever a migration makes is usable by the other two at once; neither owns anything, and
-- neither may alter, drop or truncate.
ALTER DEFAULT PRIVILEGES FOR ROLE mailwright_owner IN SCHEMA public
  GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO mailwright_app, mailwright_worker;
ALTER DEFAULT PRIVILEGES FOR ROLE mailwright_owner IN SCHEMA public
  GRANT USAGE, SELECT ON SEQUENCES TO mailwright_app, mailwright_worker;
ALTER DEFAULT PRIVILEGES FOR ROLE mailwright_owner IN SCHEMA public
  GRANT EXECUTE ON FUNCTIONS TO mailwright_app, mailwright_worker;
