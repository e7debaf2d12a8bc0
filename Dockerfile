# One image for every process of the product; docker-compose.yml says which runs what.
# It needs PostgreSQL and Valkey from outside: the embedded ones stay out of production.

FROM node:24-bookworm-slim AS front-end
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts --omit=dev
COPY static static
COPY templates templates
COPY tenants tenants
COPY deliverability deliverability
COPY sending sending
COPY esp esp
RUN npm run --silent css

FROM python:3.11-slim-bookworm AS packages
COPY requirements/base.txt /tmp/base.txt
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --require-hashes -r /tmp/base.txt

FROM python:3.11-slim-bookworm
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DATA_DIR=/data
RUN useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin mailwright \
    && mkdir -p /app /data && chown mailwright:mailwright /data
WORKDIR /app
COPY --from=packages /opt/venv /opt/venv
COPY manage.py pyproject.toml ./
COPY esp esp
COPY tenants tenants
COPY deliverability deliverability
COPY sending sending
COPY templates templates
COPY static static
COPY --from=front-end /build/static/dist static/dist
# What nobody may write at run time is compiled here, or every process does it at its start.
RUN python -m compileall -q -j 0 esp tenants deliverability sending
# The key is for this one command: collecting static files signs nothing.
RUN SECRET_KEY=$(head -c 48 /dev/urandom | base64 -w0) SITE_URL=https://build.invalid \
    python manage.py collectstatic --noinput --verbosity 0
USER mailwright
VOLUME /data
EXPOSE 8000
CMD ["granian", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "8000", "--workers", "2", "--blocking-threads", "8", "--no-ws", "--workers-kill-timeout", "8", "esp.wsgi:application"]
