"""The programs around the code: embedded PostgreSQL and Valkey, and the supervisor of `make demo`.

Plain Python: nothing here imports Django. Production does not need this package; it gives
`DATABASE_URL` and `REDIS_URL` instead.
"""
